"""Model-agnostic meta-learning (Finn 2017, arXiv:1703.03400)."""

from metagen.adaptation import Exact
from metagen.learners.fixed_rate import FixedRate


class MAML(FixedRate):
    """Learn a start from which N gradient steps on the support make the query loss small."""

    meta_gradient = Exact()
