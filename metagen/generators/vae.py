"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

from typing import ClassVar

import torch

from metagen.core.philox import Draws
from metagen.errors import check_at_least
from metagen.generators.base import Context, Likelihood, LikelihoodName, Noise, Normal
from metagen.generators.latents import LatentCodes
from metagen.generators.networks import Decoder, Encoder, NormName, OperationName, Refinement, refinements, widths_for


class VAE(LatentCodes):
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

    def noise(self, n: int, draws: Draws) -> Noise:
        """Standard normal latents [..., n, latent]."""
        return {"latent": draws.normal(n, self.latent)}

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
