"""Meta-gradients: for every player p, g_p = dL_p / d theta_p of the mean task, as a pure function."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple, get_args

import torch

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.core.functional import Execution, Weights
from metagen.core.threads import in_threads, workers_for

LEAST_TASKS = 4  # of a thread: fewer do not pay for its Python


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
    """A batch's meta-gradient, taken `chunk` tasks at a time (all at once if None), to hold one chunk's graph alone.

    On a CPU the tasks of a chunk are shared among threads.
    """
    total: Weights = {}
    steps: list[MetaStep] = []

    def one_share(own: TaskBatch) -> MetaStep:
        return meta_gradient(learner, meta, own, execution)

    for part in batch.chunks(chunk):
        workers = workers_for(part.support.device, len(part.support), LEAST_TASKS)
        shares = list(part.chunks(math.ceil(len(part.support) / workers)))
        for own, step in zip(shares, in_threads(one_share, shares), strict=True):
            weight = len(own.support) / len(batch.support)
            total = {name: total.get(name, 0) + weight * g for name, g in step.gradients.items()}
            steps.append(step)
    rest = ({name: torch.cat([step[i][name] for step in steps]) for name in steps[0][i]} for i in (1, 2, 3))
    return MetaStep(total, *rest)
