"""Tensors of tasks: images and random draws of a meta-step, and what goes from one inner step to the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch.utils._pytree import tree_map

from metagen.core.functional import Weights
from metagen.generators import Noise

PlayerNoise = dict[str, Noise]
TaskNoise = dict[str, Noise]  # draws that are one for a whole task, by who makes them: the generator, the step ...
State = dict[str, tuple[torch.Tensor, ...]]  # of a step: moments and the like, by the name of a weight
Carry = tuple[Weights, State]  # from one inner step to the next: the weights that adapt, and the step's state
NO_NOISE: TaskNoise = {}  # of a trained model


class TaskBatch(NamedTuple):
    """T tasks, or one where the leading axis is left out."""

    support: torch.Tensor  # [T, k, C, H, W] in [0, 1]
    query: torch.Tensor  # [T, q, C, H, W] in [0, 1]
    support_noise: PlayerNoise  # by player, of each update v of each inner step: [T, N, v, k, ...]
    query_noise: PlayerNoise  # by player: [T, q, ...]
    task_noise: TaskNoise  # one draw a task: [T, ...]
    targets: Weights  # known changes of a task's weights, by weight, 0 where nobody knows: [T, ...]; empty for none

    def chunks(self, size: int | None) -> Iterator[TaskBatch]:
        """The batch, `size` tasks at a time (all at once if None)."""
        total = len(self.support)
        for start in range(0, total, size or total):
            yield tree_map(lambda x, a=start: x[a : a + (size or total)], self)
