"""SNGAN: a GAN whose critic has layers of slope 1 at most (Miyato 2018, arXiv:1802.05957)."""

from __future__ import annotations

from typing import Any

from metagen.generators.gans.gan import GAN


class SNGAN(GAN):
    """The hinge loss, a critic with spectral normalisation and no penalty.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        network: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions, or residual blocks, at each scale.
        norm: of the generator: "none" or "group".
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
        network: str = "dcgan",
        depth: int = 1,
        norm: str = "group",
        **practice: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(
            size, channels, latent, widths, network, depth, norm, "spectral", "hinge", "none", 0.0, **practice
        )
