"""The mean of the images' codes (prototypical networks, Snell 2017, arXiv:1703.05175, eq. 1)."""

from __future__ import annotations

import torch
from torch import nn

from metagen.adaptation.encoders.base import Convolutional
from metagen.generators import Generator


class Prototype(Convolutional):
    """Each image's code by convolutions and one layer, and their mean; see `Convolutional`."""

    def __init__(self, generator: Generator, code: int = 16, widths: tuple[int, ...] | None = (8, 16)) -> None:
        super().__init__(generator, code, widths)
        self.each = nn.Sequential(nn.LayerNorm(self.seen), nn.Linear(self.seen, code))
        self.to(next(generator.parameters()))

    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """See `Encoder`."""
        return self.mean(self.each(self.features(support)))
