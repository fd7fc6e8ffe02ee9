"""Task augmentation: one random map for all images of a task makes another task of it."""

from __future__ import annotations

import math

import torch

from metagen.core import warps
from metagen.storage.images import resized

REACH = warps.Reach(turn=math.radians(20), scale=0.15, shear=0.25, shift=0.04)
DRAWS = warps.DRAWS + 2  # uniform numbers that the map of one task takes


def task_maps(draws: torch.Tensor) -> torch.Tensor:
    """Random maps of places [T, 2, 3] from uniform draws [T, 8] in [0, 1).

    Each mirrors or not, turns by none to three quarters, and then by up to 20 degrees, scales each axis by up to 15 %,
    shears by up to 0.25 and shifts by up to 4 % of the image.
    """
    maps = warps.affine_maps(draws[:, : warps.DRAWS], reach=REACH)
    angle = (4 * draws[:, -2]).floor() * (math.pi / 2)
    cos, sin, mirror = angle.cos().round(), angle.sin().round(), 1 - 2 * (2 * draws[:, -1]).floor()
    quarter = torch.stack([torch.stack([cos * mirror, -sin], -1), torch.stack([sin * mirror, cos], -1)], -2)
    return torch.cat([maps[..., :2] @ quarter, maps[..., 2:]], -1)


def mapped(originals: torch.Tensor, maps: torch.Tensor, size: int) -> torch.Tensor:
    """Images uint8 [T, n, C, S, S] of T tasks under the map of each, [T, 2, 3], read as uint8 [T, n, C, size, size]."""
    on_cpu = originals.device.type == "cpu"
    at_once = 1 if on_cpu else len(originals)  # images of one task stay in a CPU's cache: three times as fast
    maps = maps.to(originals.device, torch.float32)
    pieces = zip(originals.split(at_once), maps.split(at_once), strict=True)
    return torch.cat([_mapped(*piece, size) for piece in pieces])


def _mapped(originals: torch.Tensor, maps: torch.Tensor, size: int) -> torch.Tensor:
    flat = originals.flatten(1, 2).float()  # the images of a task lie side by side as channels, under one grid
    read = warps.read_at(flat, _places(maps, flat.shape[-1]), "bilinear")
    return resized(read, size).unflatten(1, originals.shape[1:3])


def _places(maps: torch.Tensor, side: int) -> torch.Tensor:
    """The place at which each pixel is read, [T, side, side, 2]."""
    # By sums, as a matrix product may round (TF32) by whole shades.
    x, y = warps.pixel_grid(side, maps)[..., None].unbind(-2)
    across, down, shift = maps[:, None, None].unbind(-1)
    return x * across + y * down + shift
