"""Learners: choices on the axes start, step, what moves, meta-gradient. To add one: a file here and a line below."""

from metagen.learners.adapted import Adapted, adapt_tasks
from metagen.learners.amortised import Amortised
from metagen.learners.base import FixedRate, Learner
from metagen.learners.fomaml import FOMAML
from metagen.learners.joint import Joint
from metagen.learners.maml import MAML
from metagen.learners.meta_sgd import MetaSGD
from metagen.learners.reptile import Reptile
from metagen.registry import Registry

learners: Registry[Learner] = Registry(
    "learner",
    amortised=Amortised,
    fomaml=FOMAML,
    joint=Joint,
    maml=MAML,
    meta_sgd=MetaSGD,
    reptile=Reptile,
)

__all__ = [
    "FOMAML",
    "MAML",
    "Adapted",
    "Amortised",
    "FixedRate",
    "Joint",
    "Learner",
    "MetaSGD",
    "Reptile",
    "adapt_tasks",
    "learners",
]
