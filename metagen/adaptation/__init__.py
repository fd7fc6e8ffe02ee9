"""Adaptation and its meta-gradients: pure functions, written for one task and lifted to many."""

from metagen.adaptation.batch import PlayerNoise, TaskBatch, TaskNoise, draw_noise, task_batch
from metagen.adaptation.execution import EXECUTIONS, over_tasks
from metagen.adaptation.inner_loop import Carry, SupportLoss, at_step, inner_step
from metagen.adaptation.low_rank import add_deltas
from metagen.adaptation.meta_gradients import Displacement, Exact, FirstOrder, MetaGradient, MetaStep, in_chunks
from metagen.adaptation.moves import moving
from metagen.adaptation.steps import LearnedRates, PerWeight, Step, fixed_rate_step, weight_of

__all__ = [
    "EXECUTIONS",
    "Carry",
    "Displacement",
    "Exact",
    "FirstOrder",
    "LearnedRates",
    "MetaGradient",
    "MetaStep",
    "PerWeight",
    "PlayerNoise",
    "Step",
    "SupportLoss",
    "TaskBatch",
    "TaskNoise",
    "add_deltas",
    "at_step",
    "draw_noise",
    "fixed_rate_step",
    "in_chunks",
    "inner_step",
    "moving",
    "over_tasks",
    "task_batch",
    "weight_of",
]
