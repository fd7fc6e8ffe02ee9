"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114), its likelihoods and its normals."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from metagen.errors import MetagenError, check_at_least, check_choice
from metagen.generators.base import Context, Generator, Noise
from metagen.generators.latents import LatentCodes
from metagen.generators.networks import Decoder, Encoder, NormName, OperationName, Refinement, refinements, widths_for

LikelihoodName = Literal["bernoulli", "gaussian"]  # for ink; for photographs


class Likelihood(nn.Module):
    """Log probabilities of images given decoded values.

    `bernoulli`: decoded values are logits, and grey pixels count as the probability of ink. `gaussian`: decoded values
    are means, and one log sigma is learned (Rybkin 2021, arXiv:2006.13202).
    """

    def __init__(self, name: LikelihoodName) -> None:
        super().__init__()
        check_choice("likelihood", name, LikelihoodName)
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


class Normal(NamedTuple):
    """Independent normals: mean and log variance, each [..., latent]."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    @classmethod
    def of(cls, encoded: torch.Tensor) -> Normal:
        """From an encoder's [..., 2 latent]; the log variance is bounded, so that no stray step makes exp overflow."""
        mean, log_variance = encoded.chunk(2, -1)
        return cls(mean, 8 * torch.tanh(log_variance / 8))

    def draw(self, noise: torch.Tensor) -> torch.Tensor:
        """Standard normal noise [..., latent] -> a draw (eq. 10)."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self, prior: Normal | None = None) -> torch.Tensor:
        """KL(self || prior) of each dimension, nats; the prior is standard normal if None."""
        centre, log_width = prior or (0.0, torch.zeros_like(self.log_variance))
        scaled = (self.mean - centre).square() * (-log_width).exp()
        return 0.5 * (scaled + (self.log_variance - log_width).exp() - 1 - self.log_variance + log_width)


class VAE(LatentCodes, Generator):
    """Convolutional VAE with a standard normal prior; its loss is the negative ELBO in nats per image.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.
        depth: 3x3 convolutions that follow each change of scale.
        norm: "none" or "group".
        free_bits: nats of KL that each latent dimension may spend unpunished (Kingma 2016, arXiv:1606.04934).
        blocks: in place of depth, the operation that follows each change of scale, by its name in `OPERATIONS`: those
            of the encoder, then those of the decoder, as many each as there are widths.

    Raises:
        MetagenError: an option is out of range.
    """

    players: ClassVar[tuple[str, ...]] = ("vae",)
    log_likelihood: Likelihood

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 16,
        widths: tuple[int, ...] | None = None,
        likelihood: LikelihoodName = "bernoulli",
        depth: int = 0,
        norm: NormName = "none",
        free_bits: float = 0.0,
        blocks: tuple[OperationName, ...] | None = None,
    ) -> None:
        super().__init__()
        check_at_least("latent", latent, 1)
        check_at_least("depth", depth, 0)
        self.size, self.channels, self.latent, self.depth, self.norm = size, channels, latent, depth, norm
        self.likelihood, self.free_bits = likelihood, free_bits
        self.blocks = None if blocks is None else tuple(blocks)
        self.widths = widths_for(size, widths)
        layers, places = self.refinements(), len(self.widths)
        self.encoder = Encoder(size, channels, self.widths, 2 * latent, norm, layers[:places])
        self.decoder = Decoder(size, channels, self.widths, latent, norm, layers[places:])
        self.log_likelihood = Likelihood(likelihood)

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`."""
        return {**super().parts, **self.decoder.parts("decoder")}

    def refinements(self) -> list[Refinement]:
        """The layers after each change of scale: those of the encoder, then those of the decoder."""
        return refinements(self.depth, self.blocks, self.widths)

    def noise(self, n: int, rng: torch.Generator) -> Noise:
        """Standard normal latents [n, latent]."""
        return {"latent": torch.randn(n, self.latent, generator=rng)}

    def posterior(self, images: torch.Tensor) -> Normal:
        """Mean and log variance of q(z | image), each [n, latent]."""
        return Normal.of(self.encoder(images))

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """Negative ELBO, nats per image."""
        posterior = self.posterior(images)
        return self.bound(images, posterior, self.decoder(posterior.draw(noise["latent"])))

    def bound(self, images: torch.Tensor, posterior: Normal, decoded: torch.Tensor) -> torch.Tensor:
        """Negative ELBO, nats per image, of images [n, C, H, W] that were decoded from draws of their posterior."""
        kl = posterior.kl().mean(0)
        if self.free_bits:
            kl = kl.clamp(min=self.free_bits)
        return kl.sum() - self.log_likelihood(decoded, images).mean()

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Expected images [n, C, H, W] for latents drawn from the prior."""
        return self.log_likelihood.expected(self.decoder(noise["latent"]))
