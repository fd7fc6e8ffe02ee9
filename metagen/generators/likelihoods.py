"""What a pixel is worth: how a decoded image gives every image a probability."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from metagen.errors import MetagenError, unknown

LIKELIHOODS = ("bernoulli", "gaussian")


class Likelihood(nn.Module):
    """Log probabilities of images given what was decoded, and the image one expects of it.

    `bernoulli` is for ink: decoded values are logits, and grey pixels count as the probability of ink. `gaussian` is
    for photographs: decoded values are means, and one log sigma is learned (Rybkin 2021, arXiv:2006.13202).

    Args:
        name: "bernoulli" or "gaussian".

    Raises:
        MetagenError: no such likelihood.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in LIKELIHOODS:
            raise unknown("likelihood", name, LIKELIHOODS)
        self.name = name
        if name == "gaussian":
            self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def forward(self, decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(image | decoded), nats, summed over pixels: [..., C, H, W] -> [...]."""
        if self.name == "bernoulli":
            return -F.binary_cross_entropy_with_logits(decoded, images, reduction="none").sum((-3, -2, -1))
        log_sigma = F.softplus(self.log_sigma + 6) - 6  # bounded below: a perfect fit must not reach minus infinity
        scaled = (images - decoded) * (-log_sigma).exp()
        return -(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi)).sum((-3, -2, -1))

    def expected(self, decoded: torch.Tensor) -> torch.Tensor:
        """The expected images, in [0, 1]."""
        return decoded.sigmoid() if self.name == "bernoulli" else decoded.clamp(0, 1)

    def check(self, images: torch.Tensor) -> None:
        """Refuse images that have no probability.

        Raises:
            MetagenError: grey pixels under a Bernoulli likelihood.
        """
        if self.name == "bernoulli" and not ((images == 0) | (images == 1)).all():
            raise MetagenError("log_prob: a Bernoulli likelihood is of binary images, got grey pixels; threshold them")


Normal = tuple[torch.Tensor, torch.Tensor]  # mean and log variance of independent normals, each [..., latent]


def bounded(encoded: torch.Tensor) -> Normal:
    """Mean and log variance, the latter softly bounded: a stray step cannot make exp overflow."""
    mean, log_variance = encoded.chunk(2, -1)
    return mean, 8 * torch.tanh(log_variance / 8)


def normal_kl(posterior: Normal, prior: Normal | None = None) -> torch.Tensor:
    """KL(posterior || prior) of each dimension, nats; the prior is standard normal if None."""
    (mean, log_variance), (centre, log_width) = posterior, prior or (0.0, torch.zeros_like(posterior[1]))
    scaled = (mean - centre).square() * (-log_width).exp()
    return 0.5 * (scaled + (log_variance - log_width).exp() - 1 - log_variance + log_width)


def normal_draw(normal: Normal, noise: torch.Tensor) -> torch.Tensor:
    """What standard normal noise [..., latent] becomes."""
    return normal[0] + (0.5 * normal[1]).exp() * noise


def normal_log_ratio(
    code: torch.Tensor, noise: torch.Tensor, log_variance: torch.Tensor, prior: Normal
) -> torch.Tensor:
    """Log prior(code) - log posterior(code) for a code that was drawn from the posterior with this noise: [...]."""
    centre, log_width = prior
    outside = (code - centre).square() * (-log_width).exp()
    return 0.5 * (noise.square() - outside + log_variance - log_width).sum(-1)
