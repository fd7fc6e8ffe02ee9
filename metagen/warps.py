"""Moving the points of images: affine maps, and reading an image at any place; smooth enough for second order."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

TURN, SCALE, SHEAR, SHIFT = math.radians(15), 0.15, math.tan(math.radians(10)), 0.08  # at strength 1
DRAWS = 6  # uniform numbers that one random affine map takes


def pixel_grid(size: int, like: torch.Tensor) -> torch.Tensor:
    """The places of the pixels' centres, [size, size, 2] as (x, y) in [-1, 1] from edge to edge."""
    axis = (torch.arange(size, dtype=like.dtype, device=like.device) * 2 + 1) / size - 1
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)


def read_at(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Images [n, C, H, W] at places [n, H', W', 2]: [n, C, H', W'], cubic between pixels.

    Outside lies paper: the median of each image's rim. Were the rim itself repeated, a line that touches it would go on
    for ever.
    """
    edges = (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1])
    paper = torch.cat(edges, -1).median(-1).values[..., None, None]
    return F.grid_sample(images - paper, grid, mode="bicubic", padding_mode="zeros", align_corners=False) + paper


def affine_maps(draws: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Random affine maps [n, 2, 3] of places from uniform draws [n, 6] in [0, 1).

    At strength 1: turned by up to 15 degrees, each axis scaled by up to 15 % and then sheared by up to 10 degrees,
    shifted by up to 8 % of the image.
    """
    turn, wide, high, shear, right, down = (strength * (2 * draws - 1)).unbind(-1)
    cos, sin = (turn * TURN).cos(), (turn * TURN).sin()
    x_scale, y_scale, slant = 1 + SCALE * wide, 1 + SCALE * high, SHEAR * shear
    rows = [
        torch.stack([cos * x_scale, (cos * slant - sin) * y_scale, 2 * SHIFT * right], -1),
        torch.stack([sin * x_scale, (sin * slant + cos) * y_scale, 2 * SHIFT * down], -1),
    ]
    return torch.stack(rows, -2)


def moved(grid: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Places [..., H, W, 2] under affine maps [n, 2, 3]: [n, H, W, 2]."""
    return grid @ maps[:, None, :, :2].transpose(-1, -2) + maps[:, None, None, :, 2]


def random_affine(images: torch.Tensor, draws: torch.Tensor, strength: float = 1.0) -> torch.Tensor:
    """Images [n, C, H, W] in [0, 1] under random affine maps from uniform draws [n, 6]; see `affine_maps`."""
    grid = moved(pixel_grid(images.shape[-1], images), affine_maps(draws, strength))
    return read_at(images, grid).clamp(0, 1)
