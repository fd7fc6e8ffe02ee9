"""Moving the points of images: affine maps, and reading an image at any place; smooth enough for second order."""

from __future__ import annotations

import math
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F

DRAWS = 6  # uniform numbers that one random affine map takes
CUBIC = -0.75  # slope of the cubic convolution kernel at a distance of 1, as `F.grid_sample` has it (Keys 1981)


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
    if mode == "bicubic":
        return _bicubic(images - paper, grid) + paper
    return F.grid_sample(images - paper, grid, mode=mode, padding_mode="zeros", align_corners=False) + paper


def _bicubic(images: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """`F.grid_sample`, bicubic, zeros outside; its own second derivatives need torch 2.12, and are slow."""
    x, y = grid.flatten(1, 2).unbind(-1)
    rimmed = F.pad(images, (1, 1, 1, 1))
    across, down = _taps(x, images.shape[-1]), _taps(y, images.shape[-2])

    def row(start: torch.Tensor) -> torch.Tensor:
        return reduce(torch.add, [weight * _at(rimmed, start + column) for weight, column in across])

    read = reduce(torch.add, [weight * row(line * rimmed.shape[-1]) for weight, line in down])
    return read.unflatten(-1, grid.shape[1:3])


def _at(images: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Images [n, C, H, W] at pixels [n, p] counted through their rows: [n, C, p]."""
    return images.flatten(2).gather(2, pixels[:, None].expand(-1, images.shape[1], -1))


def _taps(places: torch.Tensor, size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The 4 pixels around each of the places [n, p] along an axis: weights [n, 1, p] and numbers [n, p].

    Pixels outside are all counted as the rim's, 0 and size + 1.
    """
    pixels = torch.add(places.new_tensor(-0.5), places + 1, alpha=size / 2)
    before = pixels.detach().floor()
    t = pixels - before
    weights = [_far(1 + t), _near(t), _near(1 - t), _far(2 - t)]
    first = before.clamp(-3, size + 2).long()
    return [(weight[:, None], (first + k).clamp(0, size + 1)) for k, weight in enumerate(weights)]


def _near(distance: torch.Tensor) -> torch.Tensor:
    """The kernel at distances of up to 1."""
    return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1


def _far(distance: torch.Tensor) -> torch.Tensor:
    """The kernel at distances from 1 to 2."""
    return ((CUBIC * distance - 5 * CUBIC) * distance + 8 * CUBIC) * distance - 4 * CUBIC


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
