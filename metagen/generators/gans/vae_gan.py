"""VAE-GAN: a VAE with an adversarial loss (Larsen 2016, arXiv:1512.09300)."""

from __future__ import annotations

from typing import Any

import torch

from metagen.core.philox import Draws
from metagen.errors import check_at_least
from metagen.generators.base import Context, LikelihoodName, Noise
from metagen.generators.gans.adversarial import GameName, PenaltyName
from metagen.generators.gans.base import AdversarialGenerator
from metagen.generators.gans.gan_networks import CriticNormName, NetworkName
from metagen.generators.networks import NormName
from metagen.generators.vae import VAE


class VAEGAN(AdversarialGenerator):
    """The second player is a VAE; its loss is its negative ELBO plus `adversarial_weight` times its adversarial loss.

    The adversarial loss is the mean of that of reconstructions and that of samples from the prior, each paired with the
    real images. The likelihood is that of pixels, not of a critic's features as in the paper: so the bound stays one.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.
        network: of the critic: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions (in a residual critic, blocks) at each scale.
        norm: of the VAE: "none" or "group".
        critic_norm: "none", "group" or "spectral".
        game: the losses: "relativistic", "hinge" or "wasserstein"; see `LOSSES`.
        penalty: on the critic's slopes: "r1r2", "gradient_penalty" or "none"; see `PENALTIES`.
        penalty_weight: gamma or lambda, 0 or more, of images in [0, 1].
        adversarial_weight: nats that one unit of the adversarial loss is worth, 0 or more.
        options: the further options of `AdversarialGenerator`.

    Raises:
        MetagenError: an option is out of range.
    """

    generator: VAE

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 16,
        widths: tuple[int, ...] | None = None,
        likelihood: LikelihoodName = "bernoulli",
        network: NetworkName = "dcgan",
        depth: int = 1,
        norm: NormName = "none",
        critic_norm: CriticNormName = "none",
        game: GameName = "relativistic",
        penalty: PenaltyName = "r1r2",
        penalty_weight: float = 0.02,
        adversarial_weight: float = 10.0,
        **options: Any,  # noqa: ANN401
    ) -> None:
        check_at_least("adversarial_weight", adversarial_weight, 0)
        self.likelihood, self.adversarial_weight = likelihood, adversarial_weight
        super().__init__(
            size, channels, latent, widths, network, depth, norm, critic_norm, game, penalty, penalty_weight, **options
        )

    def build_generator(self) -> VAE:
        """See `AdversarialGenerator`."""
        return VAE(self.size, self.channels, self.latent, self.widths, self.likelihood, self.depth, self.norm)

    def noise(self, n: int, draws: Draws) -> Noise:
        """See `AdversarialGenerator`; and standard normal draws [..., n, latent] for the posterior."""
        return {**super().noise(n, draws), "posterior": draws.normal(n, self.latent)}

    def player_loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """The adversarial loss of the critic; of the VAE nats per image."""
        posterior = self.generator.posterior(images)
        decoded = self.generator.decoder(posterior.draw(noise["posterior"]))
        generated = (self.generator.log_likelihood.expected(decoded), self.sample(noise, context))
        adversarial = self.adversarial_loss(player, images, generated, noise)
        if player == "discriminator":
            return adversarial
        return self.generator.bound(images, posterior, decoded) + self.adversarial_weight * adversarial

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Expected images [n, C, H, W] for latents drawn from the prior."""
        return self.generator.sample(noise, context)

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """The posterior means [n, latent] of images [n, C, H, W]."""
        return self.generator.project(images)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through the posterior mean and back."""
        return self.generator.reconstruct(images)

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, in the latent: [n, steps, C, H, W]."""
        return self.generator.interpolate(first, last, steps)
