"""Meta-gradients. To add one: a file here with the one signature of `MetaGradient`."""

from metagen.adaptation.meta_gradients.base import Losses, MetaGradient, MetaStep, in_chunks
from metagen.adaptation.meta_gradients.displacement import Displacement
from metagen.adaptation.meta_gradients.exact import Exact
from metagen.adaptation.meta_gradients.first_order import FirstOrder

__all__ = ["Displacement", "Exact", "FirstOrder", "Losses", "MetaGradient", "MetaStep", "in_chunks"]
