"""The energy distance of two sets of points (Szekely & Rizzo 2013, doi:10.1016/j.jspi.2013.03.018)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from metagen.errors import MetagenError


def energy_score(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """2 E|x - y| - E|x - x'|, in float64: a proper score of what is made, also by one real image.

    Less E|y - y'| of the real ones, which no model can change, it is the energy distance.

    Args:
        made: features [..., n, d], 2 or more.
        real: features [..., m, d], 1 or more.

    Returns:
        [...].

    Raises:
        MetagenError: fewer than two features were made.
    """
    return 2 * torch.cdist(made.double(), real.double()).mean((-2, -1)) - spread(made)


def energy_distance(made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """2 E|x - y| - E|x - x'| - E|y - y'|, unbiased: [..., n, d] and [..., m, d] -> [...], in float64.

    0 where both are drawn from one distribution, and by chance below.

    Raises:
        MetagenError: fewer than two features on one side.

    Example:
        >>> near, far = torch.tensor([[0.0], [1.0]]), torch.tensor([[5.0], [6.0]])
        >>> float(energy_distance(near, far))
        8.0
    """
    return energy_score(made, real) - spread(real)


def spread(points: torch.Tensor) -> torch.Tensor:
    """The mean distance of different points, [..., n, d] -> [...], in float64.

    Raises:
        MetagenError: there are fewer than two.
    """
    n = points.shape[-2]
    if n < 2:
        raise MetagenError(f"energy distance: expected 2 or more images a side, got {n}")
    points = points.double()
    return torch.cdist(points, points).sum((-2, -1)) / (n * (n - 1))


def blurred(images: torch.Tensor) -> torch.Tensor:
    """Lightly blurred pixels, to be compared where no extractor is: [..., C, H, W] -> [..., d]."""
    soft = F.avg_pool2d(images.flatten(0, -4), 3, 1, 1, count_include_pad=False)
    return soft.unflatten(0, images.shape[:-3]).flatten(-3)
