"""What an extractor is: images in, features out, the same whatever else is in the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from metagen.errors import MetagenError

AT_ONCE = 512


class Extractor(nn.Module, ABC):
    """A network that metrics look through.

    Attributes:
        size: height and width of the images it takes, in pixels.
        channels: 1 or 3.
    """

    size: int
    channels: int

    @abstractmethod
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, d] of images [n, C, H, W] in [0, 1]."""

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """Features [..., d] of 8-bit roundings of images [..., C, H, W] in [0, 1], a few at a time, without gradients.

        Rounded, because real images are.

        Raises:
            MetagenError: images of another size or number of channels, or with values that are not finite.
        """
        if list(images.shape[-3:]) != [self.channels, self.size, self.size]:
            raise MetagenError(
                f"extractor: takes images of {self.channels} channels and {self.size} px, got "
                f"{list(images.shape[-3:])}; train one of that size: metagen train-extractor"
            )
        if not images.isfinite().all():
            raise MetagenError("extractor: got images with values that are not finite; the model has diverged")
        flat = ((images.clamp(0, 1) * 255).round() / 255).flatten(0, -4)
        with torch.no_grad():
            features = torch.cat([self.features(part) for part in flat.split(AT_ONCE)])
        return features.unflatten(0, images.shape[:-3])
