"""Moving the points of images: affine maps, and reading an image at any place; smooth enough for second order."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

DRAWS = 6  # uniform numbers that one random affine map takes


class Reach(NamedTuple):
    """How far a random affine map goes at strength 1, each way."""

    turn: float  # radians
    scale: float  # share of each axis
    shear: float  # slant of the vertical, its tangent
    shift: float  # share of the image


JITTER = Reach(math.radians(15), 0.15, math.tan(math.radians(10)), 0.08)


def pixel_grid(size: int, like: torch.Tensor) -> torch.Tensor:
    """The places of the pixels' centres, [size, size, 2] as (x, y) in [-1, 1] from edge to edge."""
    axis = (torch.arange(size, dtype=like.dtype, device=like.device) * 2 + 1) / size - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def read_at(images: torch.Tensor, grid: torch.Tensor, mode: str = "bicubic") -> torch.Tensor:
    """Images [n, C, H, W] at places [n, H', W', 2]: [n, C, H', W'], between pixels as `mode` says.

    Outside lies paper: the median of each image's rim. Were the rim itself repeated, a line that touches it would go on
    for ever.
    """
    edges = (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1])
    paper = torch.cat(edges, -1).median(-1).values[..., None, None]
    return F.grid_sample(images - paper, grid, mode=mode, padding_mode="zeros", align_corners=False) + paper


def affine_maps(draws: torch.Tensor, strength: float = 1.0, reach: Reach = JITTER) -> torch.Tensor:
    """Random affine maps [n, 2, 3] of places from uniform draws [n, 6] in [0, 1).

    By default at strength 1: turned by up to 15 degrees, each axis scaled by up to 15 % and then sheared by up to 10
    degrees, shifted by up to 8 % of the image.
    """
    turn, wide, high, shear, right, down = (strength * (2 * draws - 1)).unbind(-1)
    cos, sin = (turn * reach.turn).cos(), (turn * reach.turn).sin()
    x_scale, y_scale, slant = 1 + reach.scale * wide, 1 + reach.scale * high, reach.shear * shear
    rows = [
        torch.stack([cos * x_scale, (cos * slant - sin) * y_scale, 2 * reach.shift * right], -1),
        torch.stack([sin * x_scale, (sin * slant + cos) * y_scale, 2 * reach.shift * down], -1),
    ]
    return torch.stack(rows, -2)


def moved(grid: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Places [..., H, W, 2] under affine maps [n, 2, 3]: [n, H, W, 2]."""
    return grid @ maps[:, None, :, :2].transpose(-1, -2) + maps[:, None, None, :, 2]


def random_affine(images: torch.Tensor, draws: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Images [n, C, H, W] in [0, 1] under random affine maps from uniform draws [n, 6]; see `affine_maps`."""
    grid = moved(pixel_grid(images.shape[-1], images), affine_maps(draws, strength))
    return read_at(images, grid).clamp(0, 1)
