"""Figures of pooled images as torchmetrics: batch by batch, in loops of one's own, on any number of processes."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from metagen.errors import MetagenError, unknown
from metagen.metrics import metrics
from metagen.metrics.base import RealFeatures
from metagen.metrics.coverage import density_coverage, precision_recall
from metagen.metrics.extractors import Extractor
from metagen.metrics.frechet import frechet_distance
from metagen.metrics.inception_score import inception_score
from metagen.metrics.kernel import kernel_distance

SIDES = ("samples", "support", "reference", "human")


class FeatureMetric(Metric):
    """A figure of generated images beside real ones, through an extractor; the features of all of them are kept.

    The same on one process and on many, whichever of them holds how many images, none included; nothing is drawn.

    Args:
        extractor: what is looked through. It moves with the images, and is no part of this module: not of its
            parameters, precision or checkpoints.
        options: of torchmetrics.
    """

    is_differentiable = False
    full_state_update = False
    real: list[torch.Tensor]
    generated: list[torch.Tensor]

    def __init__(self, extractor: Extractor, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self._outside = (extractor,)  # in a tuple torch does not find it
        for side in ("real", "generated"):
            self.add_state(side, [], dist_reduce_fx="cat")

    @property
    def extractor(self) -> Extractor:
        """The extractor that images are looked at through."""
        return self._outside[0]

    def update(self, images: torch.Tensor, real: bool) -> None:
        """Look at more images [n, C, H, W] in [0, 1]; none is allowed.

        Raises:
            MetagenError: the extractor refuses them.
        """
        if len(images):
            features = self.extractor.to(self.device).of(images.to(self.device))
            (self.real if real else self.generated).append(features)

    def compute(self) -> torch.Tensor:
        """The figure of all images so far, of all processes: float64, a scalar or a pair [2].

        Raises:
            MetagenError: there are too few of them.
        """
        real, generated = (dim_zero_cat(side) for side in (self.real, self.generated))
        with torch.autocast(self.device.type, enabled=False):
            return self.figure(real, generated)

    @abstractmethod
    def figure(self, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Of features [n, d] and [m, d]."""

    def sync(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Gather the images of all processes; `compute` asks for it, alone or among others."""
        for side in (self.real, self.generated):
            if isinstance(side, list) and not side:  # who holds none has to say how long features are
                side.append(torch.empty(0, self.extractor.dimensions, device=self.device))
        super().sync(*args, **options)


class FrechetDistance(FeatureMetric):
    """See `frechet_distance`; through Inception it is the published FID."""

    higher_is_better = False

    def figure(self, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Of features [n, d] and [m, d]."""
        return frechet_distance(generated, real)


class KernelDistance(FeatureMetric):
    """See `kernel_distance`: over all pairs, not over subsets that are drawn."""

    higher_is_better = False

    def figure(self, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Of features [n, d] and [m, d]."""
        return kernel_distance(generated, real)


class PrecisionRecall(FeatureMetric):
    """See `precision_recall`."""

    higher_is_better = True

    def figure(self, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Of features [n, d] and [m, d]."""
        return torch.stack(precision_recall(generated, real))


class DensityCoverage(FeatureMetric):
    """See `density_coverage`."""

    higher_is_better = True

    def figure(self, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Of features [n, d] and [m, d]."""
        return torch.stack(density_coverage(generated, real))


class InceptionScore(FeatureMetric):
    """See `inception_score`: of generated images alone.

    Raises:
        MetagenError: the extractor knows no classes.
    """

    higher_is_better = True

    def __init__(self, extractor: Extractor, **options: Any) -> None:  # noqa: ANN401
        if extractor.probabilities is None:
            raise MetagenError("InceptionScore: needs an extractor with classes, such as Inception")
        super().__init__(extractor, **options)
        self.probabilities = extractor.probabilities

    def update(self, images: torch.Tensor, real: bool = False) -> None:
        """Look at more generated images [n, C, H, W] in [0, 1]; pass over real ones."""
        if not real:
            super().update(images, real)

    def figure(self, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Of features [m, d] of generated images."""
        return inception_score(self.probabilities(generated))


class Scored(Metric):
    """Any column of the scorecard of one's own tasks: those by task too, such as recognisability or the copy ratio.

    The same on one process and on many, whichever of them holds how many tasks, none included.

    Args:
        column: its name in `metagen.metrics.metrics`.
        extractor: what is looked through; see `FeatureMetric`.
        options: of torchmetrics.

    Raises:
        MetagenError: no such column.
    """

    is_differentiable = False
    full_state_update = False

    def __init__(self, column: str, extractor: Extractor, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        if column not in metrics:
            raise unknown("metric", column, metrics)
        self.column, self._outside = metrics[column], (extractor,)
        for side in SIDES:
            self.add_state(side, [], dist_reduce_fx=_of_those_that_hold_any)

    def update(
        self, samples: torch.Tensor, support: torch.Tensor, reference: torch.Tensor, human: torch.Tensor
    ) -> None:
        """Look at more tasks: images [T, n, C, H, W] in [0, 1], of each side as many a task as ever.

        Raises:
            MetagenError: the extractor refuses them.
        """
        extractor = self._outside[0].to(self.device)
        sides = [extractor.of(images.to(self.device)) for images in (samples, support, reference, human)]
        for side, features in zip(SIDES, sides, strict=True):  # when none was refused
            getattr(self, side).append(features)

    def compute(self) -> torch.Tensor:
        """The figure of all tasks so far, of all processes: a float64 scalar.

        Raises:
            MetagenError: there are too few of them, or the extractor has not what the column takes.
        """
        samples, support, reference, human = (_of_those_that_hold_any(getattr(self, side)) for side in SIDES)
        real = RealFeatures(support, reference, human, self._outside[0].probabilities)
        if not self.column.fits(real):
            raise MetagenError(f"{type(self.column).__name__}: does not fit these tasks or this extractor")
        values = self.column.values(samples, real)
        interval = self.column.interval(values, len(samples), self.column.scale(real))
        return torch.tensor(interval.mean, dtype=torch.float64)

    def sync(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """Gather the tasks of all processes: one tensor of each side, also of who holds none."""
        for side in SIDES:
            parts = getattr(self, side)
            none = torch.empty(0, 0, self._outside[0].dimensions, device=self.device)
            setattr(self, side, [torch.cat(parts) if parts else none])
        super().sync(*args, **options)


def _of_those_that_hold_any(parts: list[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    if isinstance(parts, torch.Tensor):
        return parts
    held = [part for part in parts if len(part)]
    if not held:
        raise MetagenError("expected some tasks, got none; update first")
    return torch.cat(held)
