"""WGAN-GP: the Wasserstein game with a gradient penalty (Gulrajani 2017, arXiv:1704.00028)."""

from __future__ import annotations

from typing import Any

from metagen.generators.gans.gan import GAN


class WGANGP(GAN):
    """The Wasserstein loss with a one-centred gradient penalty; FIGR meta-trains it (Clouatre 2019, arXiv:1901.02199).

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        network: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions, or residual blocks, at each scale.
        norm: of the generator: "none" or "group".
        critic_norm: "none" or "group"; under "spectral" no slope could reach the 1 that is asked for.
        penalty_weight: lambda, 0 or more.
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
        critic_norm: str = "none",
        penalty_weight: float = 10.0,
        **practice: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(
            size,
            channels,
            latent,
            widths,
            network,
            depth,
            norm,
            critic_norm,
            "wasserstein",
            "gradient_penalty",
            penalty_weight,
            **practice,
        )
