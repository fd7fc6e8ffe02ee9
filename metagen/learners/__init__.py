"""Learners: choices on the axes start, step, adapted weights, meta-gradient. To add one: a file here, a line below."""

from metagen.core.registry import Registry
from metagen.learners.base import Learner
from metagen.learners.baselines.joint import Joint
from metagen.learners.baselines.transfer import Transfer
from metagen.learners.batched import Adapted, adapt_after, adapt_by, adapt_tasks, by_chunks
from metagen.learners.conditioned.amortised import Amortised
from metagen.learners.conditioned.base import Conditioned
from metagen.learners.conditioned.leo import LEO
from metagen.learners.conditioned.memory_learner import MemoryLearner
from metagen.learners.conditioned.meta_generator import MetaGenerator
from metagen.learners.conditioned.task_embedding import TaskEmbedding
from metagen.learners.fixed_rate import FixedRate
from metagen.learners.gradient.adjoint_maml import AdjointMAML
from metagen.learners.gradient.anil import ANIL
from metagen.learners.gradient.auxiliary import Auxiliary
from metagen.learners.gradient.fomaml import FOMAML
from metagen.learners.gradient.imaml import IMAML
from metagen.learners.gradient.learned_optimiser import LearnedOptimiser
from metagen.learners.gradient.low_rank_maml import LowRankMAML
from metagen.learners.gradient.lstm import LSTMLearner
from metagen.learners.gradient.maml import MAML
from metagen.learners.gradient.maml_pp import MAMLPP
from metagen.learners.gradient.meta_curvature import MetaCurvature
from metagen.learners.gradient.meta_sgd import MetaSGD
from metagen.learners.gradient.optimiser_mixture import OptimiserMixture
from metagen.learners.gradient.reptile import Reptile
from metagen.learners.gradient.rule_engine import RuleEngine
from metagen.learners.stopping import StepChoice, adapt_each, auto_steps

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
    "adapt_after",
    "adapt_by",
    "adapt_each",
    "adapt_tasks",
    "auto_steps",
    "by_chunks",
    "learners",
]
