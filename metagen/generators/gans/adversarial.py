"""Adversarial losses of logits, penalties on the critic's slope, and the mode-seeking loss.

All are differentiable to any order and run under vmap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch.func import grad

Critic = Callable[[torch.Tensor], torch.Tensor]  # images [n, C, H, W] to logits [n], high where they seem real
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of logits of real and of generated images, each [n]
GameName = Literal["relativistic", "hinge", "wasserstein"]
PenaltyName = Literal["r1r2", "gradient_penalty", "none"]
Penalty = Callable[[Critic, torch.Tensor, Sequence[torch.Tensor], torch.Tensor, float], torch.Tensor]

NEAR = 1e-4  # added to mean squared differences: images nearer than 0.01 count as that near
TINY = 1e-12  # added to a squared norm, so that its root has every derivative also at 0


# By the name of the game, the loss of each player.
LOSSES: dict[GameName, dict[str, Loss]] = {
    # each real image paired with a generated one (RpGAN; R3GAN, Huang 2024, arXiv:2501.05441, eq. 2)
    "relativistic": {
        "discriminator": lambda real, fake: F.softplus(fake - real).mean(),
        "generator": lambda real, fake: F.softplus(real - fake).mean(),
    },
    # Lim & Ye 2017, arXiv:1705.02894; as in SNGAN (Miyato 2018, arXiv:1802.05957, eqs. 16 and 17)
    "hinge": {
        "discriminator": lambda real, fake: (F.relu(1 - real) + F.relu(1 + fake)).mean(),
        "generator": lambda real, fake: -fake.mean(),
    },
    # Arjovsky 2017, arXiv:1701.07875
    "wasserstein": {
        "discriminator": lambda real, fake: (fake - real).mean(),
        "generator": lambda real, fake: -fake.mean(),
    },
}


def squared_slopes(critic: Critic, images: torch.Tensor) -> torch.Tensor:
    """|dD / dx|^2 at each image, summed over its pixels: [n, C, H, W] -> [n]."""
    return grad(lambda x: critic(x).sum())(images).square().sum((-3, -2, -1))


def r1r2(
    critic: Critic, real: torch.Tensor, fakes: Sequence[torch.Tensor], mix: torch.Tensor, weight: float
) -> torch.Tensor:
    """R1 + R2: weight / 2 times the mean squared slope at real images, plus that at generated ones.

    Mescheder 2018, arXiv:1801.04406, eq. 9.

    Args:
        critic: whose slopes.
        real: images [n, C, H, W].
        fakes: sets of images, each [n, C, H, W].
        mix: unused.
        weight: gamma.
    """
    at_fakes = torch.stack([squared_slopes(critic, fake) for fake in fakes])
    return weight / 2 * (squared_slopes(critic, real).mean() + at_fakes.mean())


def gradient_penalty(
    critic: Critic, real: torch.Tensor, fakes: Sequence[torch.Tensor], mix: torch.Tensor, weight: float
) -> torch.Tensor:
    """Mean of weight * (|dD / dx| - 1)^2 between real and generated images (Gulrajani 2017, arXiv:1704.00028, eq. 3).

    Args:
        critic: whose slopes.
        real: images [n, C, H, W].
        fakes: sets of images, each [n, C, H, W].
        mix: how far each place is from the generated image to the real one, uniform draws [n] in [0, 1).
        weight: lambda.
    """
    between = [torch.lerp(fake, real, mix[:, None, None, None]) for fake in fakes]
    slopes = torch.stack([squared_slopes(critic, each) for each in between])
    return weight * ((slopes + TINY).sqrt() - 1).square().mean()


def no_penalty(
    critic: Critic, real: torch.Tensor, fakes: Sequence[torch.Tensor], mix: torch.Tensor, weight: float
) -> torch.Tensor:
    """No penalty: 0."""
    return real.new_zeros(())


PENALTIES: dict[PenaltyName, Penalty] = {"r1r2": r1r2, "gradient_penalty": gradient_penalty, "none": no_penalty}


def mode_seeking_loss(latents: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Mean |z - z'| / |G(z) - G(z')| over neighbours in the batch: large where images lie near for their latents.

    Mode seeking (Mao 2019, arXiv:1903.05628, eq. 2) asks for much of the reverse, which nothing bounds; this, which is
    also minimised by its authors' code, has least effect where images differ already. Of one image it is 0.

    Args:
        latents: z [n, latent].
        images: G(z) [n, C, H, W].
    """
    squared = ((x[1:] - x[:-1]).flatten(1).square().mean(1) for x in (latents, images))
    between_latents, between_images = ((each + NEAR).sqrt() for each in squared)
    return (between_latents / between_images).sum() / max(len(images) - 1, 1)
