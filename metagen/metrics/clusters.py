"""Distances between the images of one task, and between those that are near the same support image."""

from __future__ import annotations

from typing import ClassVar

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import RealFeatures, TaskColumn


def pairwise_distance(samples: torch.Tensor, squared: bool = False) -> torch.Tensor:
    """The mean distance between different images of a task: features [T, n, d] -> [T], in float64.

    As within-class LPIPS is taken, through the extractor's features.

    Args:
        samples: features [T, n, d].
        squared: take the mean of squared distances, which LPIPS is through its own features.

    Raises:
        MetagenError: fewer than two images a task.

    Example:
        >>> pairwise_distance(torch.tensor([[[0.0], [1.0], [3.0]]])).tolist()
        [2.0]
    """
    n = samples.shape[-2]
    if n < 2:
        raise MetagenError(f"pairwise_distance: expected 2 or more images a task, got {n}")
    return _between(samples, squared).sum((-2, -1)) / (n * (n - 1))


def cluster_distance(samples: torch.Tensor, support: torch.Tensor, squared: bool = False) -> torch.Tensor:
    """The mean distance between images that are nearest to the same support image (Ojha 2021, arXiv:2104.06820).

    There it is of LPIPS, and a model that only repeats its support comes to 0 although its images differ.

    Args:
        samples: features [T, n, d].
        support: features [T, k, d].
        squared: see `pairwise_distance`.

    Returns:
        [T], float64: the mean over clusters of two or more images of the mean within each; 0 where there is none.

    Example:
        >>> samples, support = torch.tensor([[[0.0], [1.0], [9.0], [12.0]]]), torch.tensor([[[0.0], [10.0]]])
        >>> cluster_distance(samples, support).tolist()
        [2.0]
    """
    nearest = torch.cdist(samples.double(), support.double()).argmin(-1, keepdim=True)
    member = (nearest == torch.arange(support.shape[-2], device=nearest.device)).double()  # [T, n, k]
    size = member.sum(-2)
    within = (member * (_between(samples, squared) @ member)).sum(-2) / (size * (size - 1)).clamp(min=1)
    return within.sum(-1) / (size > 1).sum(-1).clamp(min=1)


def _between(samples: torch.Tensor, squared: bool) -> torch.Tensor:
    """Distances [T, n, n]; exactly 0 between copies, so not by matrix products."""
    samples = samples.double()
    distances = torch.cdist(samples, samples, compute_mode="donot_use_mm_for_euclid_dist")
    return distances.square() if squared else distances


class Pairwise(TaskColumn):
    """The mean distance between images of a task."""

    best = "human"
    squared: ClassVar[bool] = False

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `pairwise_distance`."""
        return pairwise_distance(samples, self.squared)


class PairwiseCluster(TaskColumn):
    """The mean distance between images of a task that are nearest to the same support image."""

    best = "human"
    squared: ClassVar[bool] = False

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `cluster_distance`."""
        return cluster_distance(samples, real.support, self.squared)


class Perceptual(Pairwise):
    """The mean LPIPS between images of a task; measured where its weights are given."""

    on_request = True
    squared = True


class PerceptualCluster(PairwiseCluster):
    """The mean LPIPS between images nearest to the same support image; measured where its weights are given."""

    on_request = True
    squared = True
