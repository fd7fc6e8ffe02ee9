"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

from typing import ClassVar

import torch

from metagen.errors import MetagenError, check_at_least
from metagen.generators.base import Context, Generator, Noise
from metagen.generators.likelihoods import Likelihood, Normal, bounded, normal_draw, normal_kl, normal_log_ratio
from metagen.generators.networks import Decoder, Encoder, Refinement, operation, repeated, widths_for


class VAE(Generator):
    """Convolutional VAE with a standard normal prior.

    The loss is the negative evidence lower bound in nats per image: summed over pixels and latents, averaged
    over images.

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
        likelihood: str = "bernoulli",
        depth: int = 0,
        norm: str = "none",
        free_bits: float = 0.0,
        blocks: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        check_at_least("latent", latent, 1)
        check_at_least("depth", depth, 0)
        self.size, self.channels, self.latent, self.depth, self.norm = size, channels, latent, depth, norm
        self.likelihood, self.free_bits = likelihood, free_bits
        self.blocks = None if blocks is None else tuple(blocks)
        self.widths = widths_for(size, widths)
        refinements, places = self.refinements(), len(self.widths)
        self.encoder = Encoder(size, channels, self.widths, 2 * latent, norm, refinements[:places])
        self.decoder = Decoder(size, channels, self.widths, latent, norm, refinements[places:])
        self.log_likelihood = Likelihood(likelihood)

    @property
    def likelihood_of_samples(self) -> bool:
        """See `Generator`."""
        return True

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`."""
        return {**super().parts, **self.decoder.parts("decoder")}

    def refinements(self) -> list[Refinement]:
        """What follows each change of scale: those of the encoder, then those of the decoder."""
        places = 2 * len(self.widths)
        if self.blocks is None:
            return [repeated(self.depth)] * places
        if self.depth or len(self.blocks) != places:
            raise MetagenError(
                f"blocks: expected depth 0 and {places} operations, one for each width of the encoder and of the "
                f"decoder, got depth {self.depth} and {len(self.blocks)}: {', '.join(self.blocks)}"
            )
        return [operation(name) for name in self.blocks]

    def noise(self, n: int, rng: torch.Generator) -> Noise:
        """Standard normal latents [n, latent]."""
        return {"latent": torch.randn(n, self.latent, generator=rng)}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """Negative ELBO, nats per image."""
        posterior = self.posterior(images)
        return self.bound(images, posterior, self.decoder(normal_draw(posterior, noise["latent"])))

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Expected images [n, C, H, W] for latents drawn from the prior."""
        return self.log_likelihood.expected(self.decoder(noise["latent"]))

    def bound(self, images: torch.Tensor, posterior: Normal, decoded: torch.Tensor) -> torch.Tensor:
        """Negative ELBO, nats per image, of images [n, C, H, W] that were decoded from draws of their posterior."""
        kl = normal_kl(posterior).mean(0)
        if self.free_bits:
            kl = kl.clamp(min=self.free_bits)
        return kl.sum() - self.log_likelihood(decoded, images).mean()

    def posterior(self, images: torch.Tensor) -> Normal:
        """Mean and log variance of q(z | image), each [n, latent]."""
        return bounded(self.encoder(images))

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """The posterior means [n, latent] of images [n, C, H, W]."""
        return self.posterior(images)[0]

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through the posterior mean and back."""
        return self.log_likelihood.expected(self.decoder(self.project(images)))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, in the latent: [n, steps, C, H, W]."""
        ends = (self.project(images) for images in (first, last))
        path = torch.linspace(0, 1, steps, device=first.device)[:, None]
        start, end = (codes[:, None] for codes in ends)
        return self.log_likelihood.expected(self.decoder(torch.lerp(start, end, path).flatten(0, 1))).unflatten(
            0, (-1, steps)
        )

    def log_weights(self, images: torch.Tensor, noise: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """Log importance weights log p(x, z) - log q(z | x) of images [n, C, H, W], noise [s, n, latent]: [s, n].

        Their logsumexp minus log s estimates log p(x) from below (Burda 2016, arXiv:1509.00519).
        """
        posterior = self.posterior(images)
        codes = normal_draw(posterior, noise)
        standard = (torch.zeros_like(codes), torch.zeros_like(codes))
        decoded = self.decoder(codes.flatten(0, 1)).unflatten(0, noise.shape[:2])
        return normal_log_ratio(codes, noise, posterior[1], standard) + self.log_likelihood(
            decoded, images.expand_as(decoded)
        )
