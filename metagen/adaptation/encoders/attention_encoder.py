"""Attention over the images of a support (Set Transformer, Lee 2019, arXiv:1810.00825)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from metagen.adaptation.attention import Block
from metagen.adaptation.encoders.base import LEAST_NORMED, Convolutional
from metagen.generators import Generator


class AttentionEncoder(Convolutional):
    """Convolutions; each image looks at all of them; a learned query looks at what comes of it.

    A learned token stands among the images, so that a support may be empty. For the options see `Convolutional`.
    """

    least: ClassVar[int] = LEAST_NORMED

    def __init__(self, generator: Generator, code: int = 16, widths: tuple[int, ...] | None = (8, 16)) -> None:
        super().__init__(generator, code, widths)
        self.each = nn.Sequential(nn.LayerNorm(self.seen), nn.Linear(self.seen, code))
        self.none, self.asks = (nn.Parameter(torch.randn(1, code)) for _ in range(2))
        self.among, self.pool = Block(code), Block(code)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(code, code), nn.LayerNorm(code))
        self.to(next(generator.parameters()))

    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """See `Encoder`."""
        tokens = torch.cat([self.none, self.each(self.features(support))])
        return self.out(self.pool(self.asks, self.among(tokens, tokens[:0]))[0])
