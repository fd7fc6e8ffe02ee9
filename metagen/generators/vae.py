"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from metagen.errors import MetagenError
from metagen.generators.base import Context, Generator, Noise
from metagen.generators.networks import DEFAULT_WIDTHS, Decoder, Encoder, check_widths

LIKELIHOODS = ("bernoulli", "gaussian")


class VAE(Generator):
    """Convolutional VAE with a standard normal prior.

    The loss is the negative evidence lower bound in nats per image: summed over pixels and latents, averaged
    over images. `bernoulli` is for ink (grey pixels count as the probability of ink); `gaussian` is for
    photographs and learns one log sigma (Rybkin 2021, arXiv:2006.13202).

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        likelihood: "bernoulli" or "gaussian".
        depth: 3x3 convolutions that follow each change of scale.
        norm: "none" or "group".
        free_bits: nats of KL that each latent dimension may spend unpunished (Kingma 2016, arXiv:1606.04934).

    Raises:
        MetagenError: an option is out of range.
    """

    players: ClassVar[tuple[str, ...]] = ("vae",)

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 16,
        widths: tuple[int, ...] | None = None,
        likelihood: str = "bernoulli",
        depth: int = 0,
        norm: str = "none",
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise MetagenError(f"likelihood: expected one of {', '.join(LIKELIHOODS)}, got {likelihood!r}")
        if widths is None and size not in DEFAULT_WIDTHS:
            raise MetagenError(f"widths: size {size} has no default (only {list(DEFAULT_WIDTHS)}); give widths")
        self.size, self.channels, self.latent, self.depth, self.norm = size, channels, latent, depth, norm
        self.likelihood, self.free_bits = likelihood, free_bits
        self.widths = tuple(DEFAULT_WIDTHS[size] if widths is None else widths)
        check_widths(size, self.widths)
        self.encoder = Encoder(size, channels, self.widths, 2 * latent, norm, depth)
        self.decoder = Decoder(size, channels, self.widths, latent, norm, depth)
        if likelihood == "gaussian":
            self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def noise(self, n: int, rng: torch.Generator) -> Noise:
        """Standard normal latents [n, latent]."""
        return {"latent": torch.randn(n, self.latent, generator=rng)}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """Negative ELBO, nats per image."""
        mean, log_variance = self.posterior(images)
        code = mean + (0.5 * log_variance).exp() * noise["latent"]
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)
        if self.free_bits:
            kl = kl.clamp(min=self.free_bits)
        return kl.sum() - self._log_likelihood(self.decoder(code), images).mean()

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Expected images [n, C, H, W] for latents drawn from the prior."""
        return self._expected(self.decoder(noise["latent"]))

    def posterior(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of q(z | image), each [n, latent]."""
        mean, log_variance = self.encoder(images).chunk(2, -1)
        return mean, 8 * torch.tanh(log_variance / 8)  # smooth bounds: a stray step cannot make exp overflow

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through the posterior mean and back."""
        return self._expected(self.decoder(self.posterior(images)[0]))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, in the latent: [n, steps, C, H, W]."""
        ends = (self.posterior(images)[0] for images in (first, last))
        path = torch.linspace(0, 1, steps, device=first.device)[:, None]
        start, end = (codes[:, None] for codes in ends)
        return self._expected(self.decoder(torch.lerp(start, end, path).flatten(0, 1))).unflatten(0, (-1, steps))

    def log_weights(self, images: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Log importance weights log p(x, z) - log q(z | x) of images [n, C, H, W], noise [s, n, latent]: [s, n].

        Their logsumexp minus log s estimates log p(x) from below (Burda 2016, arXiv:1509.00519).
        """
        mean, log_variance = self.posterior(images)
        codes = mean + (0.5 * log_variance).exp() * noise
        log_prior_ratio = 0.5 * (noise.square() + log_variance - codes.square()).sum(-1)
        decoded = self.decoder(codes.flatten(0, 1)).unflatten(0, noise.shape[:2])
        return log_prior_ratio + self._log_likelihood(decoded, images.expand_as(decoded))

    def check_outcomes(self, images: torch.Tensor) -> None:
        """Refuse images that the likelihood gives no probability.

        Raises:
            MetagenError: grey pixels under a Bernoulli likelihood.
        """
        if self.likelihood == "bernoulli" and not ((images == 0) | (images == 1)).all():
            raise MetagenError("log_prob: a Bernoulli likelihood is of binary images, got grey pixels; threshold them")

    def _expected(self, decoded: torch.Tensor) -> torch.Tensor:
        return decoded.sigmoid() if self.likelihood == "bernoulli" else decoded.clamp(0, 1)

    def _log_likelihood(self, decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(image | decoded), summed over pixels: [..., C, H, W] -> [...]."""
        if self.likelihood == "bernoulli":
            return -F.binary_cross_entropy_with_logits(decoded, images, reduction="none").sum((-3, -2, -1))
        log_sigma = F.softplus(self.log_sigma + 6) - 6  # bounded below: a perfect fit must not reach minus infinity
        scaled = (images - decoded) * (-log_sigma).exp()
        return -(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi)).sum((-3, -2, -1))
