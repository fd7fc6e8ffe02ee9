"""What a meta-gradient is: for every player p, g_p = dL_p / d theta_p of the mean task, as a pure function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import torch

from metagen.adaptation.batch import TaskBatch
from metagen.generators import Weights

if TYPE_CHECKING:  # a learner holds a meta-gradient, so this floor may only name it
    from metagen.learners import Learner

Losses = dict[str, torch.Tensor]  # by player, of each task: [T]


class MetaStep(NamedTuple):
    """What one meta-gradient gives."""

    gradients: Weights  # of each meta-parameter, averaged over the batch's tasks
    losses: Losses  # every task's query losses after adaptation
    diagnostics: dict[str, torch.Tensor]  # further scalars to log, by name, of each task: [T]
    task_records: Weights  # by name, of each task (see `Learner.update_buffers`): [T, ...]


class MetaGradient(ABC):
    """How the outer loss reaches the meta-parameters.

    Attributes:
        second_order: whether inner gradients are differentiated.
    """

    second_order: ClassVar[bool] = True

    @abstractmethod
    def __call__(self, learner: Learner, meta: Weights, batch: TaskBatch, execution: str = "vmap") -> MetaStep:
        """The gradient of each meta-parameter, and the diagnostics of every task."""

    def trains(self, learner: Learner, name: str) -> bool:
        """Whether this meta-gradient moves that meta-parameter: every one by default."""
        return True


def in_chunks(
    meta_gradient: MetaGradient,
    learner: Learner,
    meta: Weights,
    batch: TaskBatch,
    chunk: int | None = None,
    execution: str = "vmap",
) -> MetaStep:
    """The same, `chunk` tasks at a time, so that only one chunk's graph is in memory."""
    total: Weights = {}
    parts: list[MetaStep] = []
    for part in batch.chunks(chunk):
        found = meta_gradient(learner, meta, part, execution)
        share = len(part.support) / len(batch.support)
        total = {name: total.get(name, 0) + share * g for name, g in found.gradients.items()}
        parts.append(found)
    rest = ({name: torch.cat([p[i][name] for p in parts]) for name in parts[0][i]} for i in (1, 2, 3))
    return MetaStep(total, *rest)
