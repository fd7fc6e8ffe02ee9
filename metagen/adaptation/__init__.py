"""Adaptation and its meta-gradients: pure functions, written for one task and lifted to many."""

from metagen.adaptation.batch import PlayerNoise, TaskBatch, draw_noise, task_batch
from metagen.adaptation.execution import EXECUTIONS, over_tasks
from metagen.adaptation.inner_loop import inner_loop
from metagen.adaptation.meta_gradients import Displacement, Exact, FirstOrder, MetaGradient, in_chunks
from metagen.adaptation.steps import Step, fixed_rate_step

__all__ = [
    "EXECUTIONS",
    "Displacement",
    "Exact",
    "FirstOrder",
    "MetaGradient",
    "PlayerNoise",
    "Step",
    "TaskBatch",
    "draw_noise",
    "fixed_rate_step",
    "in_chunks",
    "inner_loop",
    "over_tasks",
    "task_batch",
]
