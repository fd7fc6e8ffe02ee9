"""Fidelity and coverage apart, by neighbourhoods of pooled images.

Precision and recall are Kynkaanniemi 2019 (arXiv:1904.06991, equations 1 and 2), with the 3 nearest others as there;
density and coverage Naeem 2020 (arXiv:2002.09797, section 3), with 5. A neighbourhood reaches from an image to the
k-th nearest other one of its set, all tasks together; all four move with the number of images, so compare at equal
numbers alone. A row's figures are means over tasks, and their intervals take the neighbourhoods of all tasks as given.
"""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import RealFeatures, TaskColumn

NEAREST_FOR_PRECISION = 3
NEAREST_FOR_DENSITY = 5
AT_ONCE = 1024  # images whose distances from all others are held at a time


def precision_recall(
    samples: torch.Tensor, reference: torch.Tensor, k: int = NEAREST_FOR_PRECISION
) -> tuple[torch.Tensor, torch.Tensor]:
    """The shares of samples that lie in a neighbourhood of real images, and of real images in one of samples.

    Args:
        samples: features [n, d].
        reference: features of real images [m, d].
        k: how many nearest others a neighbourhood reaches over.

    Returns:
        Two scalars in [0, 1], float64.

    Raises:
        MetagenError: not more than k images on either side.

    Example:
        >>> real = torch.arange(8.0)[:, None]
        >>> precision, recall = precision_recall(real[:4], real, k=1)  # of half the range
        >>> float(precision), float(recall)
        (1.0, 0.625)
    """
    precision = _inside(samples, reference, k).any(1).double().mean()
    return precision, _inside(reference, samples, k).any(1).double().mean()


def density_coverage(
    samples: torch.Tensor, reference: torch.Tensor, k: int = NEAREST_FOR_DENSITY
) -> tuple[torch.Tensor, torch.Tensor]:
    """The number of neighbourhoods of real images that a sample lies in, over k; the share of these that hold a sample.

    Args:
        samples: features [n, d].
        reference: features of real images [m, d].
        k: how many nearest others a neighbourhood reaches over.

    Returns:
        Two scalars, float64: density, 0 or more and about 1 for real images; coverage in [0, 1].

    Raises:
        MetagenError: no sample, or not more than k real images.

    Example:
        >>> real = torch.arange(8.0)[:, None]
        >>> density, coverage = density_coverage(real[:4], real, k=1)
        >>> float(density), float(coverage)
        (2.75, 0.625)
    """
    inside = _inside(samples, reference, k)
    return inside.double().sum(1).mean() / k, inside.any(0).double().mean()


def _inside(points: torch.Tensor, centres: torch.Tensor, k: int) -> torch.Tensor:
    """Whether a point lies in the neighbourhood of a centre: features [n, d], [m, d] -> [n, m]."""
    if len(points) < 1 or len(centres) <= k:
        raise MetagenError(
            f"coverage: expected 1 or more images to lie in neighbourhoods of more than {k}, got {len(points)} and "
            f"{len(centres)}"
        )
    points, centres = points.double(), centres.double()
    # of the k + 1 nearest the first is the centre itself
    reach = [torch.cdist(part, centres).topk(k + 1, largest=False).values[:, k] for part in centres.split(AT_ONCE)]
    radii = torch.cat(reach)
    return torch.cat([torch.cdist(part, centres) <= radii for part in points.split(AT_ONCE)])


def _within(points: torch.Tensor, centres: torch.Tensor, k: int) -> torch.Tensor:
    """`_inside` of tasks pooled: features [T, n, d], [T, m, d] -> [T, n, T, m]."""
    inside = _inside(points.flatten(0, 1), centres.flatten(0, 1), k)
    return inside.unflatten(1, centres.shape[:2]).unflatten(0, points.shape[:2])


class Precision(TaskColumn):
    """The share of samples in a neighbourhood of real images, in per cent: how good they are, however alike."""

    best = "high"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `precision_recall`."""
        return 100 * _within(samples, real.reference, NEAREST_FOR_PRECISION).any(3).any(2).double().mean(1)


class Recall(TaskColumn):
    """The share of real images in a neighbourhood of samples, in per cent: what is reached, however badly hit."""

    best = "high"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `precision_recall`."""
        return 100 * _within(real.reference, samples, NEAREST_FOR_PRECISION).any(3).any(2).double().mean(1)


class Density(TaskColumn):
    """The crowd of real images in the places of samples: above 1 where samples keep to the middle."""

    best = "human"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `density_coverage`."""
        inside = _within(samples, real.reference, NEAREST_FOR_DENSITY)
        return inside.double().sum((2, 3)).mean(1) / NEAREST_FOR_DENSITY


class Coverage(TaskColumn):
    """The share of neighbourhoods of real images that hold a sample, in per cent."""

    best = "high"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `density_coverage`."""
        inside = _within(samples, real.reference, NEAREST_FOR_DENSITY)
        return 100 * inside.any(1).any(0).double().mean(1)
