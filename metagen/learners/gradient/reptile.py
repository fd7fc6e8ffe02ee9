"""Reptile (Nichol 2018, arXiv:1803.02999)."""

from metagen.adaptation import Displacement
from metagen.learners.fixed_rate import FixedRate


class Reptile(FixedRate):
    """Move the start towards where adaptation went; the query is only watched."""

    meta_gradient = Displacement()
