"""The Frechet distance between two sets of features (Heusel 2017, arXiv:1706.08500), exact also for few of them."""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import PooledColumn, RealFeatures, TaskColumn

LARGE = 512


def frechet_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """|mean a - mean b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) with unbiased covariances S, in float64.

    The last trace is the nuclear norm of A B^T for any factors S_a = A^T A, S_b = B^T B: the centred features
    themselves where there are few, so that no root is taken of a matrix that is nearly singular.

    Args:
        a: features [..., n, d].
        b: features [..., m, d]; leading axes (tasks) are kept.

    Returns:
        [...], at least 0 but for rounding; biased upwards by some 1/n + 1/m, so compare at equal n and m alone.

    Raises:
        MetagenError: fewer than two features on one side.

    Example:
        >>> square = torch.tensor([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
        >>> round(float(frechet_distance(square, square + 3)), 6)  # of means 3 apart in both features
        18.0
    """
    if min(a.shape[-2], b.shape[-2]) < 2:
        raise MetagenError(f"frechet_distance: expected 2 or more images a side, got {a.shape[-2]} and {b.shape[-2]}")
    (mean_a, factor_a), (mean_b, factor_b) = (_mean_and_factor(x.double()) for x in (a, b))
    shared = _nuclear_norm(factor_a @ factor_b.mT)
    spread = factor_a.square().sum((-2, -1)) + factor_b.square().sum((-2, -1))
    return (mean_a - mean_b).square().sum(-1) + spread - 2 * shared


def _mean_and_factor(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean [..., d], and A [..., min(n, d), d] with A^T A the covariance."""
    n, d = features.shape[-2:]
    mean = features.mean(-2)
    centred = (features - mean.unsqueeze(-2)) / (n - 1) ** 0.5
    if n <= d:
        return mean, centred
    covariance = centred.mT @ centred
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed.any():
        return mean, root.mT
    values, vectors = torch.linalg.eigh(covariance)  # singular: many times slower
    return mean, values.clamp(min=0).sqrt().unsqueeze(-1) * vectors.mT


def _nuclear_norm(matrices: torch.Tensor) -> torch.Tensor:
    """The sum of the singular values; of large matrices faster, and good to the root of machine precision alone."""
    if min(matrices.shape[-2:]) <= LARGE:
        return torch.linalg.svdvals(matrices).sum(-1)
    return torch.linalg.eigvalsh(matrices @ matrices.mT).clamp(min=0).sqrt().sum(-1)


class Frechet(PooledColumn):
    """The Frechet distance, all tasks together."""

    best = "low"

    def figure(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `frechet_distance`."""
        return frechet_distance(samples, real.reference.flatten(0, 1))


class TaskFrechet(TaskColumn):
    """The Frechet distance of each task's few images: large for real ones too, so compare within a table alone."""

    best = "low"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `frechet_distance`."""
        return frechet_distance(samples, real.reference)
