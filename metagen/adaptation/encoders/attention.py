"""Attention over the images of a support (Set Transformer, Lee 2019, arXiv:1810.00825)."""

from __future__ import annotations

import torch
from torch import nn

from metagen.adaptation.encoders.base import Convolutional
from metagen.generators import Generator


class Attention(nn.Module):
    """Softmax attention of queries [n, d] over keys and values [m, d], added to the queries, m >= 1.

    By hand, since the library's has no second derivatives.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """[n, d]."""
        asked, seen = self.norms[0](queries), self.norms[1](keys)
        scores = self.query(asked) @ self.key(seen).mT / queries.shape[-1] ** 0.5
        return queries + scores.softmax(-1) @ self.value(seen)


class AttentionEncoder(Convolutional):
    """Convolutions; each image looks at all of them; a learned query looks at what comes of it.

    A learned token stands among the images, so that a support may be empty. For the options see `Convolutional`.
    """

    def __init__(self, generator: Generator, code: int = 16, widths: tuple[int, ...] | None = (8, 16)) -> None:
        super().__init__(generator, code, widths)
        self.each = nn.Sequential(nn.LayerNorm(self.seen), nn.Linear(self.seen, code))
        self.none, self.asks = (nn.Parameter(torch.randn(1, code)) for _ in range(2))
        self.among, self.pool = Attention(code), Attention(code)
        self.out = nn.Sequential(nn.SiLU(), nn.Linear(code, code), nn.LayerNorm(code))
        self.to(next(generator.parameters()))

    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """See `Encoder`."""
        tokens = torch.cat([self.none, self.each(self.features(support))])
        return self.out(self.pool(self.asks, self.among(tokens, tokens))[0])
