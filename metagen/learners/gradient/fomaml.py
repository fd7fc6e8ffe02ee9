"""First-order MAML (Finn 2017, arXiv:1703.03400, section 5.2)."""

from metagen.adaptation import FirstOrder
from metagen.learners.fixed_rate import FixedRate


class FOMAML(FixedRate):
    """MAML without second derivatives: the query gradient where adaptation ends."""

    meta_gradient = FirstOrder()
