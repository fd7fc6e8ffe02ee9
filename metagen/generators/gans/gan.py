"""The plain GAN: images of standard normal latents (Goodfellow 2014, arXiv:1406.2661)."""

from __future__ import annotations

from typing import ClassVar

import torch

from metagen.generators.base import Context, Noise
from metagen.generators.gans.game import Game
from metagen.generators.gans.gan_networks import Maker
from metagen.generators.gans.projection import projected, way


class GAN(Game):
    """A network that makes images of standard normal latents, and a critic; for the options see `Game`."""

    descends: ClassVar[bool] = True
    generator: Maker

    def maker(self) -> Maker:
        """See `Game`."""
        return Maker(self.size, self.channels, self.widths, self.latent, self.network, self.depth, self.norm)

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Images [n, C, H, W] of the latents."""
        return self.generator(noise["latent"])

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """Latents [n, latent] whose images are nearest to those given [n, C, H, W]; see `projected`."""
        return projected(self.generator, images, self.latent)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """The nearest images [n, C, H, W] that a latent makes."""
        return self.generator(self.project(images))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, in the latent: [n, steps, C, H, W]; see `way`."""
        latents = way(self.project(first), self.project(last), steps)
        return self.generator(latents.flatten(0, 1)).unflatten(0, (-1, steps))
