"""Learners: choices on the axes start, step, what moves, meta-gradient. To add one: a file here and a line below."""

from metagen.learners.adapted import Adapted, adapt_by, adapt_tasks, by_chunks
from metagen.learners.adjoint_maml import AdjointMAML
from metagen.learners.amortised import Amortised
from metagen.learners.anil import ANIL
from metagen.learners.auxiliary import Auxiliary
from metagen.learners.base import FixedRate, Learner
from metagen.learners.conditioned import Conditioned
from metagen.learners.engine import RuleEngine
from metagen.learners.fomaml import FOMAML
from metagen.learners.imaml import IMAML
from metagen.learners.joint import Joint
from metagen.learners.learned_optimiser import LearnedOptimiser
from metagen.learners.leo import LEO
from metagen.learners.low_rank import LowRankMAML
from metagen.learners.lstm import LSTMLearner
from metagen.learners.maml import MAML
from metagen.learners.maml_pp import MAMLPP
from metagen.learners.memory import MemoryLearner
from metagen.learners.meta_curvature import MetaCurvature
from metagen.learners.meta_generator import MetaGenerator
from metagen.learners.meta_sgd import MetaSGD
from metagen.learners.mixture import OptimiserMixture
from metagen.learners.reptile import Reptile
from metagen.learners.stopping import StepChoice, adapt_each, auto_steps
from metagen.learners.task_embedding import TaskEmbedding
from metagen.learners.transfer import Transfer
from metagen.registry import Registry

learners: Registry[Learner] = Registry(
    "learner",
    adjoint=AdjointMAML,
    amortised=Amortised,
    anil=ANIL,
    auxiliary=Auxiliary,
    engine=RuleEngine,
    fomaml=FOMAML,
    imaml=IMAML,
    joint=Joint,
    learned_optimiser=LearnedOptimiser,
    leo=LEO,
    low_rank=LowRankMAML,
    lstm=LSTMLearner,
    maml=MAML,
    maml_pp=MAMLPP,
    memory=MemoryLearner,
    meta_curvature=MetaCurvature,
    meta_generator=MetaGenerator,
    meta_sgd=MetaSGD,
    mixture=OptimiserMixture,
    reptile=Reptile,
    task_embedding=TaskEmbedding,
    transfer=Transfer,
)

__all__ = [
    "ANIL",
    "FOMAML",
    "IMAML",
    "LEO",
    "MAML",
    "MAMLPP",
    "Adapted",
    "AdjointMAML",
    "Amortised",
    "Auxiliary",
    "Conditioned",
    "FixedRate",
    "Joint",
    "LSTMLearner",
    "LearnedOptimiser",
    "Learner",
    "LowRankMAML",
    "MemoryLearner",
    "MetaCurvature",
    "MetaGenerator",
    "MetaSGD",
    "OptimiserMixture",
    "Reptile",
    "RuleEngine",
    "StepChoice",
    "TaskEmbedding",
    "Transfer",
    "adapt_by",
    "adapt_each",
    "adapt_tasks",
    "auto_steps",
    "by_chunks",
    "learners",
]
