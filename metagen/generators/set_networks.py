"""Layers of a set VAE: attention from one map of features to those of a set, and a latent at one scale."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from metagen.generators.base import Normal
from metagen.generators.networks import operation, silent


class SetContext(NamedTuple):
    """A set as each target may see it: the features of a null image, which all see, then of the support."""

    features: torch.Tensor  # [1 + k, C, s, s]
    mask: torch.Tensor  # [n, 1 + k]


class Latent(NamedTuple):
    """A draw [n, D] with the normals that it was drawn from (the posterior, or the prior for it) and is charged by."""

    value: torch.Tensor
    posterior: Normal
    prior: Normal


def latent_of(prior: torch.Tensor, shift: torch.Tensor | None, noise: torch.Tensor) -> Latent:
    """A draw by what networks say, each [n, 2 D]: the prior, and the posterior relative to it (arXiv:2007.03898).

    Without a shift the draw is from the prior.
    """
    own = Normal.of(prior)
    if shift is None:
        return Latent(own.draw(noise), own, own)
    mean, log_variance = Normal.of(shift)
    posterior = Normal(own.mean + mean, own.log_variance + log_variance)
    return Latent(posterior.draw(noise), posterior, own)


class Attention(nn.Module):
    """Each place of a map reads from all places of the images it may see, by softmax attention (Vaswani 2017).

    Queries and keys share an embedding of places, so that at first each place reads the same one: images of a task are
    roughly alike, place by place, and to find out which place to read otherwise would take long.

    Args:
        width: channels of the map, and of the images' features.
        size: height and width of the images' features.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        inner = max(width // 2, 1)
        self.query, self.value = (nn.Conv2d(width, inner, 1) for _ in range(2))
        self.key = nn.Conv2d(width, inner, 1, bias=False)  # softmax would not see it
        self.place = nn.Parameter(torch.randn(inner, size, size))
        self.out = nn.Conv2d(inner, width, 1)

    def forward(self, x: torch.Tensor, context: SetContext) -> torch.Tensor:
        """Features [n, C, s, s] -> [n, C, s, s]."""
        queries = (self.query(x) + self.place).flatten(2).mT / math.sqrt(len(self.place))  # [n, places, inner]
        keys, values = (  # [(1 + k) * places, inner]
            each.movedim(1, -1).flatten(0, 2)
            for each in (self.key(context.features) + self.place, self.value(context.features))
        )
        hidden = torch.where(context.mask, 0.0, -math.inf).to(x).repeat_interleave(x[0, 0].numel(), 1)
        weights = (queries @ keys.mT + hidden[:, None]).softmax(-1)
        return self.out((weights @ values).to(x).mT.unflatten(2, x.shape[2:]))  # vmap hides convolutions from autocast


class Scale(nn.Module):
    """A latent map whose prior is read from the features so far, and what becomes of them with it.

    Args:
        width: channels of the features.
        channels: of the latent map.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.prior = nn.Sequential(nn.SiLU(), _reading(width, channels))
        self.shift = nn.Sequential(nn.SiLU(), nn.Conv2d(2 * width, width, 1), nn.SiLU(), _reading(width, channels))
        self.expand = nn.Conv2d(channels, width, 1)
        self.refine = operation("residual")(width, "none")[0]

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None, noise: torch.Tensor) -> tuple[torch.Tensor, Latent]:
        """Features [n, C, s, s] before and after the latent, which is drawn with noise [n, D].

        seen: the features [n, C, s, s] of the target, for the posterior; None to draw from the prior.
        """
        shift = None if seen is None else self.shift(torch.cat([x, seen], 1)).flatten(1)
        drawn = latent_of(self.prior(x).flatten(1), shift, noise)
        value = drawn.value.unflatten(1, (self.channels, *x.shape[2:]))
        return self.refine(x + self.expand(value)), drawn


def _reading(width: int, channels: int) -> nn.Module:
    """Means and log variances of a latent map, which begin as 0."""
    return silent(nn.Conv2d(width, 2 * channels, 3, padding=1))
