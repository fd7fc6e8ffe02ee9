"""The latents of given images, for a generator without an encoder; and interpolation between two latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.func import grad

from metagen.core.seeding import numpy_rng

STARTS, STEPS, RATE = 8, 150, 0.2  # Adam from several places, its rate falling to 0
MEAN, SQUARE, TINY = 0.9, 0.99, 1e-8  # how much of its moments Adam keeps; no division by 0
PRIOR = 1e-3  # of mean squared pixels, what latents of length 1 a dimension cost


def nearest_latents(
    generator: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, latent: int
) -> torch.Tensor:
    """Latents [n, latent] whose images are nearest to those given, by descent from several places (always the same).

    Near are images that differ little in their pixels and, so that a line beside its place is drawn towards it, in
    their pixels blurred. A normal prior keeps latents where the generator was trained.

    Args:
        generator: latents [m, latent] to images [m, C, H, W], each of its own latent alone.
        images: [n, C, H, W].
        latent: dimensions.
    """

    def distances(latents: torch.Tensor) -> torch.Tensor:
        gap = generator(latents.flatten(0, 1)) - images.repeat(STARTS, 1, 1, 1)
        sharp, blurred = (each.square().mean((1, 2, 3)) for each in (gap, F.avg_pool2d(gap, 5, 1, 2)))
        return (sharp + blurred).unflatten(0, (STARTS, -1)) + PRIOR * latents.square().mean(-1)

    start = torch.as_tensor(numpy_rng("project").standard_normal((STARTS, 1, latent))).to(images)
    latents = _minimised(distances, start.expand(-1, len(images), -1))
    nearest = distances(latents).argmin(0)[None, :, None]
    return latents.gather(0, nearest.expand(-1, -1, latent))[0]


def interpolated(first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
    """Latents on the way from `first` [n, latent] to `last`: [n, steps, latent].

    Normal latents lie near a sphere, and the middle of a straight line is well inside it, where a generator without an
    encoder was never trained (White 2016, arXiv:1609.04468): so each latent is given a length between those of the
    ends.
    """
    share = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device)[:, None]
    start, end = first[:, None], last[:, None]
    straight = torch.lerp(start, end, share)
    lengths = torch.lerp(start.norm(dim=-1, keepdim=True), end.norm(dim=-1, keepdim=True), share)
    return straight * lengths / (straight.norm(dim=-1, keepdim=True) + TINY)


def _minimised(distances: Callable[[torch.Tensor], torch.Tensor], latents: torch.Tensor) -> torch.Tensor:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980) on latents [s, n, latent], each by its own distance [s, n]."""
    slope = grad(lambda x: distances(x).sum())
    mean = square = torch.zeros_like(latents)
    for step in range(1, STEPS + 1):
        now = slope(latents)
        mean, square = MEAN * mean + (1 - MEAN) * now, SQUARE * square + (1 - SQUARE) * now.square()
        rate = RATE * (1 - (step - 1) / STEPS) / (1 - MEAN**step)
        latents = latents - rate * mean / ((square / (1 - SQUARE**step)).sqrt() + TINY)
    return latents
