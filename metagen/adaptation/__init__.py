"""Adaptation and its meta-gradients: pure functions, written for one task and lifted to many."""

from metagen.adaptation.adapted_params import select_params
from metagen.adaptation.batch import NO_NOISE, Carry, PlayerNoise, TaskBatch, TaskNoise
from metagen.adaptation.draws import draw_alike, draw_noise, task_batch
from metagen.adaptation.encoders import Encoder, EncoderName, SetEncoder, encoder_for
from metagen.adaptation.inner_loop import SGD, adapt, at_step, inner_step, scheduled_updates, trajectory
from metagen.adaptation.low_rank import add_deltas
from metagen.adaptation.memory import Memory
from metagen.adaptation.meta_gradients import (
    Adjoint,
    Displacement,
    Exact,
    FirstOrder,
    Implicit,
    MetaGradient,
    MetaStep,
    Recorded,
    in_chunks,
)
from metagen.adaptation.optimisers import Optimiser, fixed_rate_step
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.adaptation.regularisers import Regulariser
from metagen.adaptation.steps import (
    Curvature,
    EmitsRule,
    Engine,
    LearnedRates,
    Mixture,
    PerWeight,
    Rule,
    Step,
)
from metagen.adaptation.support_gradient import support_gradient
from metagen.adaptation.weight_writer import WeightWriter

__all__ = [
    "NO_NOISE",
    "SGD",
    "Adaptable",
    "Adjoint",
    "Carry",
    "Curvature",
    "Displacement",
    "EmitsRule",
    "Encoder",
    "EncoderName",
    "Engine",
    "Exact",
    "FirstOrder",
    "Hook",
    "Implicit",
    "LearnedRates",
    "Losses",
    "Memory",
    "MetaGradient",
    "MetaStep",
    "Mixture",
    "Optimiser",
    "PerWeight",
    "PlayerNoise",
    "Recorded",
    "Regulariser",
    "Rule",
    "SetEncoder",
    "Step",
    "TaskBatch",
    "TaskNoise",
    "WeightWriter",
    "adapt",
    "add_deltas",
    "at_step",
    "draw_alike",
    "draw_noise",
    "encoder_for",
    "fixed_rate_step",
    "in_chunks",
    "inner_step",
    "scheduled_updates",
    "select_params",
    "support_gradient",
    "task_batch",
    "trajectory",
]
