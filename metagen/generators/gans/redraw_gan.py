"""`redraw_gan`: the support drawn again, with an adversarial loss of the drawings."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from metagen.core.philox import Draws
from metagen.errors import check_at_least
from metagen.generators.base import LikelihoodName, Noise
from metagen.generators.gans.adversarial import GameName, PenaltyName
from metagen.generators.gans.base import AdversarialGenerator
from metagen.generators.gans.gan_networks import CriticNormName, NetworkName
from metagen.generators.redraw import Redraw, Sources


class RedrawGAN(AdversarialGenerator):
    """The second player is `Redraw`; its loss is that of `Redraw` plus `adversarial_weight` times its adversarial loss.

    New drawings are each paired with a real image. The critic does not look at the support: whether a drawing shows
    what the support shows is for the bound to say, whether it looks drawn by a hand for the critic.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        hidden: channels of the layers that join latent and source; see `Redraw`.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.
        beta: how often the KL counts.
        temperature: what the prior's standard deviations are multiplied by when sampling, and in the adversarial loss.
        null_rate: share of training images drawn from no source; see `Redraw`.
        network: of the critic: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions, or residual blocks, at each scale of the critic.
        critic_norm: "none", "group" or "spectral".
        game: the losses: "relativistic", "hinge" or "wasserstein"; see `LOSSES`.
        penalty: on the critic's slopes: "r1r2", "gradient_penalty" or "none"; see `PENALTIES`.
        penalty_weight: gamma or lambda, 0 or more, of images in [0, 1].
        adversarial_weight: nats that one unit of the adversarial loss is worth, 0 or more.
        options: the further options of `AdversarialGenerator`.

    Raises:
        MetagenError: an option is out of range.
    """

    uses_support: ClassVar[bool] = True
    generator: Redraw

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 16,
        widths: tuple[int, ...] | None = None,
        hidden: int = 64,
        likelihood: LikelihoodName = "bernoulli",
        beta: float = 3.0,
        temperature: float = 1.0,
        null_rate: float = 0.03,
        network: NetworkName = "dcgan",
        depth: int = 1,
        critic_norm: CriticNormName = "none",
        game: GameName = "relativistic",
        penalty: PenaltyName = "r1r2",
        penalty_weight: float = 0.02,
        adversarial_weight: float = 10.0,
        **options: Any,  # noqa: ANN401
    ) -> None:
        check_at_least("adversarial_weight", adversarial_weight, 0)
        self.hidden, self.likelihood, self.beta, self.temperature = hidden, likelihood, beta, temperature
        self.null_rate, self.adversarial_weight = null_rate, adversarial_weight
        super().__init__(
            size,
            channels,
            latent,
            widths,
            network,
            depth,
            "none",
            critic_norm,
            game,
            penalty,
            penalty_weight,
            **options,
        )

    def build_generator(self) -> Redraw:
        """See `AdversarialGenerator`."""
        return Redraw(
            self.size,
            self.channels,
            self.latent,
            self.widths,
            self.hidden,
            self.likelihood,
            self.beta,
            self.temperature,
            self.null_rate,
        )

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> Sources:
        """See `Redraw`."""
        return self.generator.context(support, mask)

    def noise(self, n: int, draws: Draws) -> Noise:
        """See `AdversarialGenerator` and `Redraw`."""
        return {**super().noise(n, draws), **self.generator.noise(n, draws)}

    def player_loss(self, player: str, images: torch.Tensor, noise: Noise, context: Sources) -> torch.Tensor:
        """The adversarial loss of the critic; of the drawer nats per image."""
        adversarial = super().player_loss(player, images, noise, context)
        if player == "discriminator":
            return adversarial
        return self.generator.loss("vae", images, noise, context) + self.adversarial_weight * adversarial

    def sample(self, noise: Noise, context: Sources) -> torch.Tensor:
        """Drawings [n, C, H, W] for latents from the prior at the temperature."""
        return self.generator.sample(noise, context)
