"""Meta-gradients: for every player p, g_p = dL_p / d theta_p of the mean task, as a pure function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, get_args

import torch

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.core.functional import Execution, Weights


class MetaStep(NamedTuple):
    """The result of one meta-gradient."""

    gradients: Weights  # of each meta-parameter, averaged over the batch's tasks
    losses: Losses  # every task's query losses after adaptation
    diagnostics: dict[str, torch.Tensor]  # further scalars to log, by name, of each task: [T]
    task_records: Weights  # by name, of each task (see `Learner.update_buffers`): [T, ...]


class MetaGradient(ABC):
    """How the outer loss reaches the meta-parameters.

    Attributes:
        second_order: whether inner gradients are differentiated.
        hooks: the hooks of a learner that this meta-gradient heeds; a learner that has another one is refused.
    """

    second_order: ClassVar[bool] = True
    hooks: ClassVar[tuple[Hook, ...]] = get_args(Hook)

    @abstractmethod
    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """The gradient of each meta-parameter, and the query losses and diagnostics of every task."""

    def trains(self, learner: Adaptable, name: str) -> bool:
        """Whether this meta-gradient trains that meta-parameter: every one by default."""
        return True


def in_chunks(
    meta_gradient: MetaGradient,
    learner: Adaptable,
    meta: Weights,
    batch: TaskBatch,
    chunk: int | None = None,
    execution: Execution = "vmap",
) -> MetaStep:
    """A batch's meta-gradient, taken `chunk` tasks at a time (all at once if None), to hold one chunk's graph alone."""
    total: Weights = {}
    steps: list[MetaStep] = []
    for part in batch.chunks(chunk):
        step = meta_gradient(learner, meta, part, execution)
        share = len(part.support) / len(batch.support)
        total = {name: total.get(name, 0) + share * g for name, g in step.gradients.items()}
        steps.append(step)
    rest = ({name: torch.cat([step[i][name] for step in steps]) for name in steps[0][i]} for i in (1, 2, 3))
    return MetaStep(total, *rest)
