"""The kernel distance of two sets of features (KID: Binkowski 2018, arXiv:1801.01401), unbiased at any number."""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import PooledColumn, RealFeatures


def kernel_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The unbiased squared MMD under the kernel (x . y / d + 1)^3, over all pairs at once, in float64.

    Args:
        a: features [..., n, d].
        b: features [..., m, d]; leading axes are kept.

    Returns:
        [...], below 0 by chance where the sets are alike.

    Raises:
        MetagenError: fewer than two features on one side.

    Example:
        >>> near, far = torch.tensor([[0.0], [1.0]]), torch.tensor([[4.0], [5.0]])
        >>> float(kernel_distance(near, far))
        9090.5
    """
    if min(a.shape[-2], b.shape[-2]) < 2:
        raise MetagenError(f"kernel_distance: expected 2 or more images a side, got {a.shape[-2]} and {b.shape[-2]}")
    a, b = a.double(), b.double()
    return _within(a) + _within(b) - 2 * _kernel(a, b).mean((-2, -1))


def _kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a @ b.mT / a.shape[-1] + 1) ** 3


def _within(x: torch.Tensor) -> torch.Tensor:
    """The mean kernel of different images."""
    kernel, n = _kernel(x, x), x.shape[-2]
    return (kernel.sum((-2, -1)) - kernel.diagonal(dim1=-2, dim2=-1).sum(-1)) / (n * (n - 1))


class Kernel(PooledColumn):
    """The kernel distance, all tasks together."""

    best = "low"

    def figure(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `kernel_distance`."""
        return kernel_distance(samples, real.reference.flatten(0, 1))
