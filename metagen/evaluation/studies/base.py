"""A study: a measurement of a model on held-out tasks, beside the columns of the scorecard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from metagen.core.seeding import numpy_rng
from metagen.distributed.sharding import ShardedTasks
from metagen.learners import Learner
from metagen.metrics.intervals import over_tasks_interval
from metagen.report.result import StudyEstimate
from metagen.tasks.episodes import Episode, Episodes


@dataclass(frozen=True)
class StudyContext:
    """A model and the held-out tasks that it is studied on.

    Attributes:
        learner: the model; a study works where its weights are.
        episodes: of these tasks; its shots are what a study adapts to, unless it says otherwise.
        split: "val" or "test".
        tasks: numbers in the split.
        seed: of every draw.
        sharded: how the work is shared by processes and kept.
        full: all tasks and images, instead of as many as take minutes.
    """

    learner: Learner
    episodes: Episodes
    split: str
    tasks: Sequence[int]
    seed: int
    sharded: ShardedTasks
    full: bool

    def subset(self, count: int) -> list[int]:
        """The tasks; unless `full`, at most `count` of them, chosen by a fixed shuffle."""
        if self.full or len(self.tasks) <= count:
            return list(self.tasks)
        chosen = numpy_rng(0, self.split, "study").permutation(len(self.tasks))[:count]
        return [self.tasks[place] for place in sorted(chosen)]

    def least_images(self, tasks: Sequence[int]) -> int:
        """The number of images that each of the tasks has at least."""
        names = self.episodes.task_set.split[self.split]
        return min(self.episodes.task_set.readable_count(names[number]) for number in tasks)

    def recut(self, shots: int, queries: int) -> Episodes:
        """The same images of every task in the same order, cut elsewhere into support and query.

        Raises:
            MetagenError: a number is below 1.
        """
        return Episodes(self.episodes.task_set, shots, queries, device=self.episodes.device)

    def episode(self, episodes: Episodes, tasks: Sequence[int]) -> Episode:
        """The fixed episode of these tasks, where the weights are.

        Raises:
            MetagenError: a task has too few images.
        """
        return episodes.of(self.split, tasks).to_like(self.learner)


class Study(NamedTuple):
    """A study.

    Attributes:
        run: measures, and returns JSON-ready data.
        check: refuses before any work what cannot be measured.
    """

    run: Callable[[StudyContext], Mapping[str, Any]]
    check: Callable[[StudyContext], None] = lambda context: None


def figure(values: torch.Tensor) -> StudyEstimate:
    """The mean of one value a task with its 95 % bootstrap interval: mean, low, high, n."""
    interval = over_tasks_interval(values.double())
    return {"n": interval.tasks, "mean": interval.mean, "low": interval.low, "high": interval.high}
