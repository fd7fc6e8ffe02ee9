"""The plain GAN: images of standard normal latents (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

import torch

from metagen.generators.base import Context, Noise
from metagen.generators.game import Game
from metagen.generators.gan_networks import Maker


class GAN(Game):
    """A network that makes images of standard normal latents, and a critic; for the options see `Game`."""

    generator: Maker

    def maker(self) -> Maker:
        """See `Game`."""
        return Maker(self.size, self.channels, self.widths, self.latent, self.network, self.depth, self.norm)

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Images [n, C, H, W] of the latents."""
        return self.generator(noise["latent"])
