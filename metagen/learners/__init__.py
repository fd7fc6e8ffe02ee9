"""Learners: choices on the axes start, step, what moves, meta-gradient. To add one: a file here and a line below."""

from metagen.learners.adapted import Adapted, adapt_tasks
from metagen.learners.amortised import Amortised
from metagen.learners.anil import ANIL
from metagen.learners.auxiliary import Auxiliary
from metagen.learners.base import FixedRate, Learner
from metagen.learners.fomaml import FOMAML
from metagen.learners.joint import Joint
from metagen.learners.low_rank import LowRankMAML
from metagen.learners.maml import MAML
from metagen.learners.maml_pp import MAMLPP
from metagen.learners.meta_sgd import MetaSGD
from metagen.learners.reptile import Reptile
from metagen.registry import Registry

learners: Registry[Learner] = Registry(
    "learner",
    amortised=Amortised,
    anil=ANIL,
    auxiliary=Auxiliary,
    fomaml=FOMAML,
    joint=Joint,
    low_rank=LowRankMAML,
    maml=MAML,
    maml_pp=MAMLPP,
    meta_sgd=MetaSGD,
    reptile=Reptile,
)

__all__ = [
    "ANIL",
    "FOMAML",
    "MAML",
    "MAMLPP",
    "Adapted",
    "Amortised",
    "Auxiliary",
    "FixedRate",
    "Joint",
    "Learner",
    "LowRankMAML",
    "MetaSGD",
    "Reptile",
    "adapt_tasks",
    "learners",
]
