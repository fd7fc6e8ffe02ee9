"""R3: a GAN whose game has a stable equilibrium, after R3GAN (Huang 2024, arXiv:2501.05441)."""

from __future__ import annotations

from typing import Any

from metagen.generators.gans.gan import GAN


class R3(GAN):
    """Relativistic pairing with R1 and R2 penalties, between residual networks without normalisation.

    Smaller than its model, and with SiLU, whose second derivatives a meta-gradient needs, in place of LeakyReLU.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        depth: residual blocks at each scale, 1 or more.
        penalty_weight: gamma, 0 or more, of images in [0, 1]: a quarter of that of images in [-1, 1].
        augmentation: any of "colour", "translation" and "cutout"; see `AUGMENTATIONS`.
        practice: the further options of `Game`.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 32,
        widths: tuple[int, ...] | None = None,
        depth: int = 2,
        penalty_weight: float = 0.02,
        augmentation: tuple[str, ...] = ("translation", "cutout"),
        **practice: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(
            size,
            channels,
            latent,
            widths,
            "residual",
            depth,
            "none",
            "none",
            "relativistic",
            "r1r2",
            penalty_weight,
            augmentation=augmentation,
            **practice,
        )
