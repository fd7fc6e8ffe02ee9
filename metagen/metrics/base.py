"""What a column of a table is: a figure of samples beside real images, all seen through one extractor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch

from metagen.metrics.intervals import Interval, jackknife_interval, over_tasks_interval, replicates


class Seen(NamedTuple):
    """Features of what every row of a table is judged by."""

    support: torch.Tensor  # [T, k, d]
    reference: torch.Tensor  # [T, r, d], real images that were never shown
    human: torch.Tensor  # [T, m, d], other real images that were never shown: as many as each row makes
    probabilities: Callable[[torch.Tensor], torch.Tensor] | None = None  # of classes [..., c], from features [..., d]


class Column(ABC):
    """One column of a table.

    Attributes:
        best: "low", "high", or "human": as real images have it.
        on_request: whether it is measured only where it, or what it alone is measured through, is asked for.
    """

    best: ClassVar[str]
    on_request: ClassVar[bool] = False

    def fits(self, seen: Seen) -> bool:
        """Whether there is what it takes."""
        return True

    @abstractmethod
    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """What the figure of features [T, m, d] and its interval come from; those of two rows can be subtracted."""

    def scale(self, seen: Seen) -> torch.Tensor | None:
        """What the mean value is divided by the mean of, [T]; None for nothing."""
        return None

    @abstractmethod
    def interval(self, values: torch.Tensor, tasks: int, scale: torch.Tensor | None = None) -> Interval:
        """The figure over T tasks."""


class TaskColumn(Column):
    """A value for each task [T]; the figure is their mean or a ratio of means, its interval a bootstrap over tasks."""

    def interval(self, values: torch.Tensor, tasks: int, scale: torch.Tensor | None = None) -> Interval:
        """See `over_tasks_interval`."""
        return over_tasks_interval(values, scale)


class PooledColumn(Column):
    """One figure of the samples of all tasks together; its values are jackknife replicates."""

    @abstractmethod
    def figure(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """Of features [n, d] beside those of the same tasks, tasks in `seen` not yet pooled."""

    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """See `replicates`."""

        def figure(tasks: torch.Tensor) -> float:
            support, reference, human = (each[tasks] for each in seen[:3])
            beside = Seen(support, reference, human, seen.probabilities)
            return float(self.figure(samples[tasks].flatten(0, 1), beside))

        return replicates(figure, len(samples))

    def interval(self, values: torch.Tensor, tasks: int, scale: torch.Tensor | None = None) -> Interval:
        """See `jackknife_interval`."""
        return jackknife_interval(values, tasks)


class QueryLoss(TaskColumn):
    """What a model minimises, of each task: measured by whoever has the model."""

    best = "low"

    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """The losses [T] themselves."""
        return samples.double()
