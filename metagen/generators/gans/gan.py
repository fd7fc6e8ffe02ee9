"""The plain GAN: images of standard normal latents (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from metagen.generators.base import Context, Noise
from metagen.generators.gans.adversarial import GameName, PenaltyName
from metagen.generators.gans.base import AdversarialGenerator
from metagen.generators.gans.critic_augmentation import AugmentationName
from metagen.generators.gans.gan_networks import CriticNormName, GeneratorNetwork, NetworkName
from metagen.generators.gans.presets import PresetName, penalty_weight_of, with_options
from metagen.generators.gans.projection import interpolated, nearest_latents
from metagen.generators.networks import NormName


class GAN(AdversarialGenerator):
    """A network that makes images of standard normal latents, and a critic.

    Options that are None are those of the preset, see `PRESETS`; after construction they hold its values.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        preset: "r3" (relativistic pairing with R1 and R2 penalties, between residual networks without normalisation),
            "sngan" (hinge loss, a critic with spectral normalisation and no penalty) or "wgan_gp" (Wasserstein loss
            with a one-centred gradient penalty).
        network: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions, or residual blocks (1 or more), at each scale.
        norm: of the generator: "none" or "group".
        critic_norm: "none", "group" or "spectral"; under the last one no slope reaches the 1 of "gradient_penalty".
        game: the losses: "relativistic", "hinge" or "wasserstein"; see `LOSSES`.
        penalty: on the critic's slopes: "r1r2", "gradient_penalty" or "none"; see `PENALTIES`.
        penalty_weight: gamma or lambda, 0 or more, of images in [0, 1]; only where there is a penalty.
        augmentation: any of "colour", "translation" and "cutout"; see `AUGMENTATIONS`.
        options: the further options of `AdversarialGenerator`.

    Raises:
        MetagenError: an option is out of range, or means nothing beside the others.
    """

    descends: ClassVar[bool] = True
    generator: GeneratorNetwork

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 32,
        widths: tuple[int, ...] | None = None,
        preset: PresetName = "r3",
        network: NetworkName | None = None,
        depth: int | None = None,
        norm: NormName | None = None,
        critic_norm: CriticNormName | None = None,
        game: GameName | None = None,
        penalty: PenaltyName | None = None,
        penalty_weight: float | None = None,
        augmentation: tuple[AugmentationName, ...] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        networks = {"network": network, "depth": depth, "norm": norm, "critic_norm": critic_norm}
        training = {"game": game, "penalty": penalty, "augmentation": augmentation}
        chosen = with_options(preset, {**networks, **training})
        self.preset = preset
        super().__init__(
            *(size, channels, latent, widths, chosen.network, chosen.depth, chosen.norm, chosen.critic_norm),
            *(chosen.game, chosen.penalty, penalty_weight_of(chosen.penalty, penalty_weight)),
            augmentation=chosen.augmentation,
            **options,
        )

    def build_generator(self) -> GeneratorNetwork:
        """See `AdversarialGenerator`."""
        return GeneratorNetwork(self.size, self.channels, self.widths, self.latent, self.network, self.depth, self.norm)

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Images [n, C, H, W] of the latents."""
        return self.generator(noise["latent"])

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [n, latent] whose images are nearest to those given [n, C, H, W]; see `nearest_latents`."""
        return nearest_latents(self.generator, images, self.latent)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """The nearest images [n, C, H, W] that a latent makes."""
        return self.generator(self.project(images))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, in the latent: [n, steps, C, H, W].

        See `interpolated`.
        """
        latents = interpolated(self.project(first), self.project(last), steps)
        return self.generator(latents.flatten(0, 1)).unflatten(0, (-1, steps))
