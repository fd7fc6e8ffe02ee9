"""What a meta-gradient is: for every player p, g_p = dL_p / d theta_p of the mean task, as a pure function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from metagen.adaptation.batch import TaskBatch
from metagen.generators import Weights

if TYPE_CHECKING:  # a learner holds a meta-gradient, so this floor may only name it
    from metagen.learners import Learner

Losses = dict[str, torch.Tensor]  # by player, of each task: [T]


class MetaGradient(ABC):
    """How the outer loss reaches the meta-parameters."""

    @abstractmethod
    def __call__(
        self, learner: Learner, meta: Weights, batch: TaskBatch, execution: str = "vmap"
    ) -> tuple[Weights, Losses]:
        """The gradient of each meta-parameter, averaged over the batch's tasks, and every task's query losses."""

    @abstractmethod
    def trains(self, learner: Learner, name: str) -> bool:
        """Whether this meta-gradient moves that meta-parameter."""


def in_chunks(
    meta_gradient: MetaGradient,
    learner: Learner,
    meta: Weights,
    batch: TaskBatch,
    chunk: int | None = None,
    execution: str = "vmap",
) -> tuple[Weights, Losses]:
    """The same, `chunk` tasks at a time, so that only one chunk's graph is in memory."""
    total: Weights = {}
    losses: list[Losses] = []
    for part in batch.chunks(chunk):
        gradients, part_losses = meta_gradient(learner, meta, part, execution)
        share = len(part.support) / len(batch.support)
        total = {name: total.get(name, 0) + share * g for name, g in gradients.items()}
        losses.append(part_losses)
    return total, {player: torch.cat([part[player] for part in losses]) for player in losses[0]}
