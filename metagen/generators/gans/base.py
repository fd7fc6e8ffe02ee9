"""Generative adversarial networks: a game of two players (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch

from metagen.core.philox import Draws
from metagen.core.warps import DRAWS as WARP_DRAWS
from metagen.core.warps import random_affine
from metagen.errors import check_at_least, check_choice
from metagen.generators.base import Context, Generator, Noise
from metagen.generators.gans.adversarial import LOSSES, PENALTIES, GameName, PenaltyName, mode_seeking_loss
from metagen.generators.gans.critic_augmentation import DRAWS, AugmentationName, augmented
from metagen.generators.gans.gan_networks import Critic, CriticNormName, GeneratorNetwork, NetworkName
from metagen.generators.networks import NormName, widths_for


class AdversarialGenerator(Generator):
    """A network that makes images, and a critic that tells them from real ones.

    Each real image is paired with a generated one. The critic sees both augmented, by draws of their own, in the losses
    of both players; its slopes are taken at what it sees. Nothing is detached, so that a meta-gradient includes how one
    player's step changes the other's; each player's own weights are all that its loss moves.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        network: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions, or residual blocks, at each scale.
        norm: of the generator: "none" or "group".
        critic_norm: "none", "group" or "spectral".
        game: the losses: "relativistic", "hinge" or "wasserstein"; see `LOSSES`.
        penalty: on the critic's slopes: "r1r2", "gradient_penalty" or "none"; see `PENALTIES`.
        penalty_weight: gamma or lambda, 0 or more, of images in [0, 1].
        deviation: whether the critic sees how far the images of a batch differ.
        augmentation: any of "colour", "translation" and "cutout"; see `AUGMENTATIONS`.
        d_steps: updates of the critic in one inner step.
        g_steps: updates of the generator in one inner step.
        mode_seeking: weight of `mode_seeking_loss` in the generator's loss.
        warp: strength of random affine maps of the real images, the same for both players; see `affine_maps`.
        consistency: weight of `distance_consistency` in the generator's loss in an inner loop.

    Raises:
        MetagenError: an option is out of range.
    """

    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    shared: ClassVar[tuple[str, ...]] = ("warp",)
    comparable: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.0, 0.99)  # momentum makes players circle (Gidel 2018, arXiv:1807.04740)
    generator: Generator | GeneratorNetwork

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 32,
        widths: tuple[int, ...] | None = None,
        network: NetworkName = "dcgan",
        depth: int = 0,
        norm: NormName = "none",
        critic_norm: CriticNormName = "none",
        game: GameName = "relativistic",
        penalty: PenaltyName = "r1r2",
        penalty_weight: float = 0.1,
        *,
        deviation: bool = False,
        augmentation: tuple[AugmentationName, ...] = (),
        d_steps: int = 1,
        g_steps: int = 1,
        mode_seeking: float = 0.0,
        warp: float = 0.0,
        consistency: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("game", game, GameName)
        check_choice("penalty", penalty, PenaltyName)
        for augmentation_name in augmentation:
            check_choice("augmentation", augmentation_name, AugmentationName)
        for name, count in (("latent", latent), ("d_steps", d_steps), ("g_steps", g_steps)):
            check_at_least(name, count, 1)
        weights = (("penalty_weight", penalty_weight), ("mode_seeking", mode_seeking), ("warp", warp))
        for name, weight in (*weights, ("consistency", consistency)):
            check_at_least(name, weight, 0)
        self.size, self.channels, self.latent, self.network = size, channels, latent, network
        self.depth, self.norm, self.critic_norm, self.deviation = depth, norm, critic_norm, deviation
        self.game, self.penalty, self.penalty_weight = game, penalty, penalty_weight
        self.augmentation = tuple(augmentation)
        self.d_steps, self.g_steps, self.mode_seeking, self.warp = d_steps, g_steps, mode_seeking, warp
        self.consistency = consistency
        self.widths = widths_for(size, widths)
        self.generator = self.build_generator()
        self.discriminator = Critic(size, channels, self.widths, network, depth, critic_norm, deviation)

    @abstractmethod
    def build_generator(self) -> Generator | GeneratorNetwork:
        """Build the second player from the options, which are attributes already."""

    @property
    def player_updates(self) -> dict[str, int]:
        """Updates of each player in one inner step."""
        return {"discriminator": self.d_steps, "generator": self.g_steps}

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`; but for "critic_head" and "critic_low" they are those of the second player."""
        own = {part: tuple(f"generator.{glob}" for glob in globs) for part, globs in self.generator.parts.items()}
        return {**own, **super().parts, **self.discriminator.parts("discriminator")}

    def noise(self, n: int, draws: Draws) -> Noise:
        """Standard normal latents [..., n, latent]; uniform: two augmentations [..., n, 7], a penalty, a warp."""
        mix, real, fake = draws.uniform(n, 1 + 2 * DRAWS).split([1, DRAWS, DRAWS], -1)
        latent, warp = draws.normal(n, self.latent), draws.uniform(n, WARP_DRAWS)
        return {"latent": latent, "mix": mix[..., 0], "real": real, "fake": fake, "warp": warp}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """The loss of that player, a scalar, on images [n, C, H, W] that are warped first."""
        images = random_affine(images, noise["warp"], self.warp) if self.warp else images
        return self.player_loss(player, images, noise, context)

    def player_loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """The loss of that player, a scalar, on images [n, C, H, W]; by default its adversarial loss."""
        return self.adversarial_loss(player, images, [self.sample(noise, context)], noise)

    def adversarial_loss(
        self, player: str, images: torch.Tensor, generated: Sequence[torch.Tensor], noise: Noise
    ) -> torch.Tensor:
        """The loss of the game, with the critic's penalty or the generator's mode seeking: a scalar.

        Args:
            player: "discriminator" or "generator".
            images: real ones [n, C, H, W].
            generated: sets of images, each [n, C, H, W]: the loss is the mean over them; modes are sought in the last
                one, which is of the latents of the noise.
            noise: see `noise`.
        """
        real = augmented(images, noise["real"], self.augmentation).to(images)
        fakes = [augmented(each, noise["fake"], self.augmentation).to(images) for each in generated]
        logits, loss_of = self.discriminator(real), LOSSES[self.game][player]
        loss = torch.stack([loss_of(logits, self.discriminator(fake)) for fake in fakes]).mean()
        if player == "discriminator":
            penalty = PENALTIES[self.penalty]
            return loss + penalty(self.discriminator, real, fakes, noise["mix"], self.penalty_weight)
        if not self.mode_seeking:
            return loss
        return loss + self.mode_seeking * mode_seeking_loss(noise["latent"], generated[-1])

    def diagnostics(self, images: torch.Tensor, noise: Noise, support: torch.Tensor) -> dict[str, torch.Tensor]:
        """The critic's mean logits of real and of generated images, its penalty, and the loss of each player."""
        generated = self.generate(noise, support)
        penalty = PENALTIES[self.penalty](self.discriminator, images, [generated], noise["mix"], self.penalty_weight)
        logits = {f"logit/{kind}": self.discriminator(x).mean() for kind, x in (("real", images), ("made", generated))}
        losses = {f"loss/{p}": self.query_loss(p, images, noise, support) for p in self.players}
        return {**logits, **losses, "penalty": penalty}
