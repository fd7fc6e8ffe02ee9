"""Episodes: a support and a disjoint query for each of T tasks, decided by seeds alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError, check_at_least
from metagen.tasks.base import TaskSet
from metagen.tasks.shots import drawn
from metagen.tasks.task_augmentation import DRAWS, mapped, task_maps


class Episode(NamedTuple):
    """T tasks of one split."""

    index: int  # type: ignore[assignment]  # hides tuple.index; counted from 0 since the run began; 0 for held-out tasks
    tasks: tuple[str, ...]  # names
    numbers: tuple[int, ...]  # each task's number in the whole episode, which several processes may share
    support: torch.Tensor  # [T, k, C, H, W] in [0, 1]
    query: torch.Tensor  # [T, q, C, H, W] in [0, 1], disjoint from the support

    def to_like(self, module: nn.Module) -> Episode:
        """The same where a module's weights are, in their precision."""
        like = next(module.parameters())
        return self._replace(support=self.support.to(like), query=self.query.to(like))


class Episodes:
    """Draws episodes of k support and q query images a task, the same on every device.

    Args:
        task_set: where the images come from.
        shots: k of held-out tasks, at least 1.
        queries: q, at least 1.
        seed: of the run; held-out episodes do not depend on it.
        turns: whether a train task turned by a quarter, half or three quarters is a train task too (Santoro 2016,
            arXiv:1605.06065, section 4.1).
        device: where episodes are put together. The images of each task stay there from the first time they are
            needed; those of a streamed task set are read anew each time, and its episodes are always on the CPU.
        augment: whether each train task of an episode is turned, mirrored and distorted, all its images alike (see
            `task_maps`), read from `TaskSet.originals`.
        train_shots: the probability of each k of a train episode; None for that of held-out tasks.

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
        augment: bool = False,
        train_shots: Mapping[int, float] | None = None,
    ) -> None:
        for name, value in (("shots", shots), ("queries", queries)):
            check_at_least(name, value, 1)
        self.task_set, self.shots, self.queries, self.seed = task_set, shots, queries, seed
        self.device = torch.device("cpu" if task_set.streamed else device)  # workers must not touch another
        self.known = tuple((name, turns) for turns in range(4 if turns else 1) for name in task_set.split.train)
        self.augment, self.train_shots = augment, train_shots or {shots: 1.0}
        self._kept: dict[tuple[str, bool], torch.Tensor] = {}  # as they are shown, or originals

    def train(self, index: int, tasks: int, rank: int = 0, world: int = 1) -> Episode:
        """Episode `index` of `tasks` different train tasks, or the share of it that one of `world` processes has."""
        count = len(self.known)
        if tasks > count:
            raise MetagenError(f"tasks: an episode of {tasks} tasks needs as many train tasks; there are {count}")
        if tasks % world:
            raise MetagenError(f"tasks: {tasks} tasks an episode cannot be shared evenly by {world} processes")
        key = (self.seed, "train", index)
        chosen = numpy_rng(*key, "tasks").choice(count, tasks, replace=False)
        share = tasks // world
        numbers = range(rank * share, (rank + 1) * share)
        names, turns = zip(*(self.known[chosen[n]] for n in numbers), strict=True)
        shots = drawn(self.train_shots, numpy_rng(*key, "shots"))  # whichever process asks
        episode = self._gather(index, names, numbers, key, shots, self.augment)
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
        return self._gather(0, [names[n] for n in numbers], numbers, (0, split), self.shots)

    def first(self, split: str, count: int) -> Episode:
        """The same for the first tasks of a split by order, as pictures show them."""
        return self.of(split, range(min(count, len(self.task_set.split[split]))))

    def _gather(
        self,
        index: int,
        names: Sequence[str],
        numbers: Sequence[int],
        key: tuple[int | str, ...],
        shots: int,
        augment: bool = False,
    ) -> Episode:
        rngs = [numpy_rng(*key, number, "images") for number in numbers]
        images = self._drawn(names, rngs, shots, augment)
        if augment:
            draws = np.stack([numpy_rng(*key, number, "augment").random(DRAWS) for number in numbers])
            maps = task_maps(torch.from_numpy(draws))
            images = self.task_set.finished(mapped(images, maps, self.task_set.size))
        floats = images.float()
        floats = floats / floats.new_full((1,), 255)  # by a plain 255 CUDA multiplies by 1/255: the last bit differs
        return Episode(index, tuple(names), tuple(numbers), floats[:, :shots], floats[:, shots:])

    def _drawn(
        self, names: Sequence[str], rngs: Sequence[np.random.Generator], shots: int, originals: bool
    ) -> torch.Tensor:
        """The support and then the query of each task, uint8 [T, k + q, C, H, W]."""
        read = self.task_set.originals if originals else self.task_set.images
        if self.task_set.streamed:
            counts = map(self.task_set.readable_count, names)
            places = self._places(names, counts, rngs, shots)
            return torch.stack([read(name, each.tolist()) for name, each in zip(names, places, strict=True)])
        kept = [self._resident(name, originals) for name in names]
        places = self._places(names, map(len, kept), rngs, shots)
        there = torch.from_numpy(np.stack(places)).to(kept[0].device)  # in one go: each copy waits for the device
        return torch.stack([images[each] for images, each in zip(kept, there, strict=True)])

    def _places(
        self, names: Sequence[str], counts: Iterable[int], rngs: Sequence[np.random.Generator], shots: int
    ) -> list[np.ndarray[Any, np.dtype[np.int64]]]:
        """The places of the images of each task that are drawn."""
        need, places = shots + self.queries, []
        for name, count, rng in zip(names, counts, rngs, strict=True):
            if count < need:
                raise MetagenError(
                    f"task {name!r} has {count} images; {shots} shots and {self.queries} queries need {need}: "
                    "lower --data.queries or --data.shots, or add images"
                )
            places.append(rng.permutation(count)[:need])
        return places

    def _resident(self, name: str, originals: bool) -> torch.Tensor:
        """All images of a task, on the device; on the CPU it is the task set that keeps them."""
        read, key = self.task_set.originals if originals else self.task_set.images, (name, originals)
        if self.device.type == "cpu":
            return read(name)
        if key not in self._kept:
            self._kept[key] = read(name).to(self.device)
        return self._kept[key]


def _turn(episode: Episode, quarters: Sequence[int]) -> Episode:
    """The episode with each task's images turned by so many quarters, as its name then says."""
    names = [f"{name} turned {90 * turn}" if turn else name for name, turn in zip(episode.tasks, quarters, strict=True)]
    support, query = (
        torch.stack([each.rot90(turn, (-2, -1)) for each, turn in zip(images, quarters, strict=True)])
        for images in (episode.support, episode.query)
    )
    return episode._replace(tasks=tuple(names), support=support, query=query)
