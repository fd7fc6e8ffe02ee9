"""Columns of a table: a figure of samples beside real images, all through one extractor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch

from metagen.metrics.intervals import Interval, jackknife_interval, over_tasks_interval, replicates


class RealFeatures(NamedTuple):
    """Features of the real images that every row of a table is judged by."""

    support: torch.Tensor  # [T, k, d]
    reference: torch.Tensor  # [T, r, d], real images that were never shown
    human: torch.Tensor  # [T, m, d], other real images that were never shown: as many as each row makes
    probabilities: Callable[[torch.Tensor], torch.Tensor] | None = None  # of classes [..., c], from features [..., d]


class Column(ABC):
    """One column of a table.

    Attributes:
        best: "low", "high", or "human": as real images have it.
        on_request: whether it is measured only where it is named, or the extractor that it alone is measured through.
    """

    best: ClassVar[str]
    on_request: ClassVar[bool] = False

    def fits(self, real: RealFeatures) -> bool:
        """Whether there is what it takes."""
        return True

    @abstractmethod
    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """The values that the figure of features [T, m, d] and its interval are made of; two rows can be subtracted."""

    def scale(self, real: RealFeatures) -> torch.Tensor | None:
        """The values [T] by whose mean the mean value is divided; None for nothing."""
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
    def figure(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """Of features [n, d] beside those of the same tasks, tasks in `real` not yet pooled."""

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `replicates`."""

        def figure(tasks: torch.Tensor) -> float:
            support, reference, human = (each[tasks] for each in real[:3])
            chosen = real._replace(support=support, reference=reference, human=human)
            return float(self.figure(samples[tasks].flatten(0, 1), chosen))

        return replicates(figure, len(samples))

    def interval(self, values: torch.Tensor, tasks: int, scale: torch.Tensor | None = None) -> Interval:
        """See `jackknife_interval`."""
        return jackknife_interval(values, tasks)


class QueryLoss(TaskColumn):
    """The query loss, which a model minimises, of each task: measured by whoever has the model."""

    best = "low"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """The losses [T] themselves."""
        return samples.double()
