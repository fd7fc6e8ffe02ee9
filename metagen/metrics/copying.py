"""Whether new images are copies of the support."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from metagen.metrics.base import PooledColumn, RealFeatures, TaskColumn
from metagen.metrics.frechet import frechet_distance

NEAR = 0.05  # the share of real images that a near copy is nearer than
MEMORISED = 0.1  # cosine distance, the threshold of the Kaggle competition and of torchmetrics
ZERO = 1e-14  # instead of a division by zero, as in the code of that competition


def nearest_support(images: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Distance of images to the nearest support image, averaged: features [T, n, d], [T, k, d] -> [T], in float64.

    Example:
        >>> nearest_support(torch.tensor([[[1.0], [9.0]]]), torch.tensor([[[0.0], [10.0]]])).tolist()
        [1.0]
    """
    return _nearest(images, support).mean(-1)


def _nearest(images: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Of each image [T, n]; exactly 0 for a copy, so not by matrix products."""
    distance = torch.cdist(images.double(), support.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return distance.amin(-1)


def near_copies(
    samples: torch.Tensor, support: torch.Tensor, reference: torch.Tensor, human: torch.Tensor
) -> torch.Tensor:
    """The share of samples that lie as near to the support as only one real image in twenty does.

    Distances from the nearest support image are measured in those of a task's reference images, on average; near is
    what is below the 5th percentile of the human half, all tasks together. So few images a task are enough, tasks of
    all spreads count alike, and real images come to 5 per cent.

    It can fool you. It is blind to copies that moved further in the features than real images differ, and to copies of
    train tasks; and an image between the others, such as a blurred mean, lies nearer to the support than real ones do
    and counts, although it is a copy of none: read it beside `pairwise` and `precision`.

    Args:
        samples: features [T, n, d].
        support: features [T, k, d].
        reference: features of real images that were never shown [T, r, d].
        human: other such features [T, m, d].

    Returns:
        [T] in [0, 1], float64.

    Example:
        >>> support, real = torch.zeros(1, 1, 1), torch.arange(1.0, 5.0).view(1, 4, 1)
        >>> near_copies(torch.tensor([[[0.0], [0.5], [3.0], [4.0]]]), support, real, real).tolist()
        [0.5]
    """
    unit = nearest_support(reference, support).clamp(min=ZERO).unsqueeze(-1)
    threshold = (_nearest(human, support) / unit).quantile(NEAR)
    return (_nearest(samples, support) / unit <= threshold).double().mean(-1)


def mifid(
    samples: torch.Tensor, reference: torch.Tensor, support: torch.Tensor, threshold: float = MEMORISED
) -> torch.Tensor:
    """The Frechet distance, divided by how near samples are to what was shown (MiFID: Bai 2021, arXiv:2106.03062).

    The divisor is the mean over samples of the least 1 - |cosine| to a support image of their own task if that is
    below the threshold, and 1 otherwise.

    Args:
        samples: features [T, n, d], pooled for the distance.
        reference: features of real images that were never shown [T, r, d].
        support: features [T, k, d].
        threshold: 0.1 is right for Inception's features, and arbitrary for others.

    Returns:
        A scalar in float64; it leaps at the threshold.

    Raises:
        MetagenError: fewer than two features on one side.

    Example:
        >>> real, support = torch.tensor([[[1.0, 0.0], [1.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]])
        >>> round(float(mifid(real + 1, real, support)), 6)
        2.0
    """
    cosine = normalize(samples.double(), dim=-1) @ normalize(support.double(), dim=-1).mT
    distance = (1 - cosine.abs()).amin(-1).mean()
    penalty = torch.where(distance < threshold, distance, 1.0)
    return frechet_distance(samples.flatten(0, 1), reference.flatten(0, 1)) / (penalty + ZERO)


class CopyRatio(TaskColumn):
    """The distance of samples from the support, over that of real images that were never shown.

    0 is copying; 1 is as far as the real ones.
    """

    best = "human"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `nearest_support`."""
        return nearest_support(samples, real.support)

    def scale(self, real: RealFeatures) -> torch.Tensor:
        """Of real images."""
        return nearest_support(real.human, real.support)


class NearCopies(TaskColumn):
    """The share of samples that are nearly copies, in per cent; 5 of real images."""

    best = "human"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `near_copies`."""
        return 100 * near_copies(samples, real.support, real.reference, real.human)


class MemorisationInformed(PooledColumn):
    """The Frechet distance, made large for a model that copies."""

    best = "low"
    on_request = True

    def figure(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `mifid`."""
        return mifid(samples.unflatten(0, (len(real.reference), -1)), real.reference, real.support)
