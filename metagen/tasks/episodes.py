"""Episodes: a support and a disjoint query for each of T tasks, decided by seeds alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from metagen.errors import MetagenError, check_at_least
from metagen.seeding import numpy_rng
from metagen.tasks.base import TaskSet


class Episode(NamedTuple):
    """T tasks of one split."""

    index: int  # type: ignore[assignment]  # hides tuple.index; counted from 0 since the run began; 0 for held-out tasks
    tasks: tuple[str, ...]  # names
    numbers: tuple[int, ...]  # each task's number in the whole episode, which several processes may share
    support: torch.Tensor  # [T, k, C, H, W] in [0, 1]
    query: torch.Tensor  # [T, q, C, H, W] in [0, 1], disjoint from the support

    def beside(self, module: nn.Module) -> Episode:
        """The same where a module's weights are, in their precision."""
        like = next(module.parameters())
        return self._replace(support=self.support.to(like), query=self.query.to(like))


class Episodes:
    """Draws episodes of k support and q query images a task, the same on every device.

    Args:
        task_set: where the images come from.
        shots: k, at least 1.
        queries: q, at least 1.
        seed: of the run; held-out episodes do not depend on it.
        turns: whether a train task turned by a quarter, half or three quarters is a train task too (Santoro 2016,
            arXiv:1605.06065, section 4.1).
        device: where episodes are put together. The images of each task stay there from the first time they are
            needed; those of a streamed task set are read anew each time, and its episodes are always on the CPU.

    Attributes:
        known: the name of every train task, and by how many quarters it is turned.

    Raises:
        MetagenError: a number is out of range, or some task has fewer than k + q images.
    """

    def __init__(
        self,
        task_set: TaskSet,
        shots: int,
        queries: int,
        seed: int = 0,
        turns: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        for name, value in (("shots", shots), ("queries", queries)):
            check_at_least(name, value, 1)
        self.task_set, self.shots, self.queries, self.seed = task_set, shots, queries, seed
        self.device = torch.device("cpu" if task_set.streamed else device)  # workers must not touch another
        self.known = tuple((name, turns) for turns in range(4 if turns else 1) for name in task_set.split.train)
        self._kept: dict[str, torch.Tensor] = {}

    def train(self, index: int, tasks: int, rank: int = 0, world: int = 1) -> Episode:
        """Episode `index` of `tasks` different train tasks, or the share of it that one of `world` processes has."""
        count = len(self.known)
        if tasks > count:
            raise MetagenError(f"tasks: an episode of {tasks} tasks needs as many train tasks; there are {count}")
        if tasks % world:
            raise MetagenError(f"tasks: {tasks} tasks an episode cannot be shared evenly by {world} processes")
        chosen = numpy_rng(self.seed, "train", index, "tasks").choice(count, tasks, replace=False)
        share = tasks // world
        numbers = range(rank * share, (rank + 1) * share)
        names, turns = zip(*(self.known[chosen[n]] for n in numbers), strict=True)
        episode = self._gather(index, names, numbers, (self.seed, "train", index))
        return _turn(episode, turns) if any(turns) else episode

    def held_out(
        self, split: str, batch: int, limit: int | None = None, rank: int = 0, world: int = 1
    ) -> Iterator[Episode]:
        """The fixed episodes of "val" or "test", `batch` tasks at a time: the same in every run and at every seed.

        limit: take only this many tasks, chosen once by a fixed shuffle. Processes share tasks without padding.
        """
        mine = self.held_out_numbers(split, limit)[rank::world]
        for start in range(0, len(mine), batch):
            yield self.of(split, mine[start : start + batch])

    def held_out_numbers(self, split: str, limit: int | None = None) -> list[int]:
        """The numbers, in order, of all tasks of "val" or "test", or of `limit` of them chosen by a fixed shuffle."""
        order = numpy_rng(0, split, "order").permutation(len(self.task_set.split[split]))
        return sorted(order[:limit].tolist())

    def of(self, split: str, numbers: Sequence[int]) -> Episode:
        """The fixed episode of one or more held-out tasks by number, in this order, whichever others there are."""
        names = self.task_set.split[split]
        return self._gather(0, [names[n] for n in numbers], numbers, (0, split))

    def first(self, split: str, count: int) -> Episode:
        """The same for the first tasks of a split by order, as pictures show them."""
        return self.of(split, range(min(count, len(self.task_set.split[split]))))

    def _gather(self, index: int, names: Sequence[str], numbers: Sequence[int], key: tuple[int | str, ...]) -> Episode:
        rngs = [numpy_rng(*key, number, "images") for number in numbers]
        images = torch.stack([self._drawn(name, rng) for name, rng in zip(names, rngs, strict=True)]).float()
        images = images / images.new_full((1,), 255)  # by a plain 255 CUDA multiplies by 1/255: the last bit differs
        return Episode(index, tuple(names), tuple(numbers), images[:, : self.shots], images[:, self.shots :])

    def _drawn(self, name: str, rng: np.random.Generator) -> torch.Tensor:
        """The support and then the query of one task, uint8 [k + q, C, H, W]."""
        kept = None if self.task_set.streamed else self._resident(name)
        count = self.task_set.readable_count(name) if kept is None else len(kept)
        need = self.shots + self.queries
        if count < need:
            raise MetagenError(
                f"task {name!r} has {count} images; {self.shots} shots and {self.queries} queries need {need}: "
                "lower --data.queries or --data.shots, or add images"
            )
        places = rng.permutation(count)[:need]
        if kept is None:
            return self.task_set.images(name, places.tolist())
        return kept[torch.from_numpy(places).to(kept.device)]

    def _resident(self, name: str) -> torch.Tensor:
        """All images of a task, on the device; on the CPU it is the task set that keeps them."""
        if self.device.type == "cpu":
            return self.task_set.images(name)
        if name not in self._kept:
            self._kept[name] = self.task_set.images(name).to(self.device)
        return self._kept[name]


def _turn(episode: Episode, quarters: Sequence[int]) -> Episode:
    """The episode with each task's images turned by so many quarters, as its name then says."""
    names = [f"{name} turned {90 * turn}" if turn else name for name, turn in zip(episode.tasks, quarters, strict=True)]
    support, query = (
        torch.stack([each.rot90(turn, (-2, -1)) for each, turn in zip(images, quarters, strict=True)])
        for images in (episode.support, episode.query)
    )
    return episode._replace(tasks=tuple(names), support=support, query=query)
