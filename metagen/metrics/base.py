"""What a metric is: a figure of samples beside real images, all seen through one extractor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch

from metagen.intervals import Interval, over_tasks_interval, pooled_interval


class Seen(NamedTuple):
    """Features of what every row of a table is judged by."""

    support: torch.Tensor  # [T, k, d]
    reference: torch.Tensor  # [T, r, d], real images that were never shown
    human: torch.Tensor  # [T, m, d], other real images that were never shown: as many as each row makes


class Metric(ABC):
    """One column of a table.

    Attributes:
        best: "low", "high", or "human": as real images have it.
    """

    best: ClassVar[str]

    @abstractmethod
    def interval(self, samples: torch.Tensor, seen: Seen, against: torch.Tensor | None = None) -> Interval:
        """The figure of features [T, m, d]; if `against` is given, the paired difference from those."""


class TaskMetric(Metric):
    """A value for each task; the figure is their mean, or a ratio of means."""

    @abstractmethod
    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """One value a task [T]."""

    def scale(self, seen: Seen) -> torch.Tensor | None:
        """What the mean value is divided by the mean of, [T]; None for nothing."""
        return None

    def interval(self, samples: torch.Tensor, seen: Seen, against: torch.Tensor | None = None) -> Interval:
        """See `Metric`: a bootstrap over tasks."""
        values = self.values(samples, seen)
        if against is not None:
            values = values - self.values(against, seen)
        return over_tasks_interval(values, self.scale(seen))


class PooledMetric(Metric):
    """A distance from the reference of the samples of all tasks together."""

    best = "low"

    @abstractmethod
    def distance(self, samples: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Between features [n, d] and [m, d]."""

    def interval(self, samples: torch.Tensor, seen: Seen, against: torch.Tensor | None = None) -> Interval:
        """See `Metric`: a jackknife over tasks."""

        def figure(tasks: torch.Tensor) -> float:
            reference = seen.reference[tasks].flatten(0, 1)
            pooled = [self.distance(x[tasks].flatten(0, 1), reference) for x in (samples, against) if x is not None]
            return float(pooled[0] if against is None else pooled[0] - pooled[1])

        return pooled_interval(figure, len(samples))
