"""Episodes: a support and a disjoint query for each of T tasks, decided by seeds alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from metagen.errors import MetagenError
from metagen.seeding import numpy_rng
from metagen.tasks.base import TaskSet


class Episode(NamedTuple):
    """T tasks of one split."""

    index: int  # type: ignore[assignment]  # hides tuple.index; counted from 0 since the run began; 0 for held-out tasks
    tasks: tuple[str, ...]  # names
    numbers: tuple[int, ...]  # each task's number in the whole episode, which several processes may share
    support: torch.Tensor  # [T, k, C, H, W] in [0, 1]
    query: torch.Tensor  # [T, q, C, H, W] in [0, 1], disjoint from the support


class Episodes:
    """Draws episodes of k support and q query images a task.

    Args:
        task_set: where the images come from.
        shots: k, at least 1.
        queries: q, at least 1.
        seed: of the run; held-out episodes do not depend on it.

    Raises:
        MetagenError: a number is out of range, or some task has fewer than k + q images.
    """

    def __init__(self, task_set: TaskSet, shots: int, queries: int, seed: int = 0) -> None:
        for name, value in (("shots", shots), ("queries", queries)):
            if value < 1:
                raise MetagenError(f"{name}: expected 1 or more, got {value}")
        self.task_set, self.shots, self.queries, self.seed = task_set, shots, queries, seed

    def train(self, index: int, tasks: int, rank: int = 0, world: int = 1) -> Episode:
        """Episode `index` of `tasks` different train tasks, or the share of it that one of `world` processes has."""
        names = self.task_set.split.train
        if tasks > len(names):
            raise MetagenError(f"tasks: an episode of {tasks} tasks needs as many train tasks; there are {len(names)}")
        if tasks % world:
            raise MetagenError(f"tasks: {tasks} tasks an episode cannot be shared evenly by {world} processes")
        chosen = numpy_rng(self.seed, "train", index, "tasks").choice(len(names), tasks, replace=False)
        share = tasks // world
        numbers = range(rank * share, (rank + 1) * share)
        return self._gather(index, [names[chosen[n]] for n in numbers], numbers, (self.seed, "train", index))

    def held_out(
        self, split: str, batch: int, limit: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Episode]:
        """The fixed episodes of "val" or "test", `batch` tasks at a time: the same in every run and at every seed.

        limit: take only this many tasks, chosen once by a fixed shuffle. Processes share tasks without padding.
        """
        names = self.task_set.split[split]
        order = numpy_rng(0, split, "order").permutation(len(names))[:limit]
        mine = sorted(order.tolist())[rank::world]
        for start in range(0, len(mine), batch):
            numbers = mine[start : start + batch]
            yield self._gather(0, [names[n] for n in numbers], numbers, (0, split))

    def first(self, split: str, count: int) -> Episode:
        """The same for the first tasks of a split by order, as pictures show them."""
        names = self.task_set.split[split][:count]
        return self._gather(0, list(names), range(len(names)), (0, split))

    def _gather(self, index: int, names: list[str], numbers: Sequence[int], key: tuple[int | str, ...]) -> Episode:
        chosen = []
        for name, number in zip(names, numbers, strict=True):
            images = self.task_set.images(name)
            if len(images) < self.shots + self.queries:
                raise MetagenError(
                    f"task {name!r} has {len(images)} images; {self.shots} shots and {self.queries} queries need "
                    f"{self.shots + self.queries}: lower --data.queries or --data.shots, or add images"
                )
            order = numpy_rng(*key, number, "images").permutation(len(images))[: self.shots + self.queries]
            chosen.append(images[torch.from_numpy(order)])
        images = torch.stack(chosen).float() / 255
        return Episode(index, tuple(names), tuple(numbers), images[:, : self.shots], images[:, self.shots :])
