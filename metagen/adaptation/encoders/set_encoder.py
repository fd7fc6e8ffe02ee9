"""Mean over the images, then layers (Deep Sets, Zaheer 2017, arXiv:1703.06114, eq. 2)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from metagen.adaptation.encoders.base import LEAST_NORMED, Convolutional
from metagen.generators import Generator


class SetEncoder(Convolutional):
    """Convolutions, the mean over the images, and two layers; see `Convolutional`.

    Without the norms between them, thin strokes would begin with nearly one code for all supports.
    """

    least: ClassVar[int] = LEAST_NORMED

    def __init__(self, generator: Generator, code: int = 16, widths: tuple[int, ...] | None = (8, 16)) -> None:
        super().__init__(generator, code, widths)
        layers = (nn.LayerNorm(self.seen), nn.Linear(self.seen, code), nn.SiLU(), nn.Linear(code, code))
        self.mix = nn.Sequential(*layers, nn.LayerNorm(code))
        self.to(next(generator.parameters()))

    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """See `Encoder`."""
        return self.mix(self.mean(self.features(support)))
