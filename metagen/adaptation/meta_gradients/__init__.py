"""Meta-gradients. To add one: a file here with the one signature of `MetaGradient`."""

from metagen.adaptation.meta_gradients.adjoint import Adjoint
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep, in_chunks
from metagen.adaptation.meta_gradients.displacement import Displacement
from metagen.adaptation.meta_gradients.exact import Exact
from metagen.adaptation.meta_gradients.first_order import FirstOrder
from metagen.adaptation.meta_gradients.implicit import Implicit
from metagen.adaptation.meta_gradients.recorded import Recorded

__all__ = [
    "Adjoint",
    "Displacement",
    "Exact",
    "FirstOrder",
    "Implicit",
    "MetaGradient",
    "MetaStep",
    "Recorded",
    "in_chunks",
]
