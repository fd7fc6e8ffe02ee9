"""Attention among tokens, with every derivative: the library's has none of second order."""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """Tokens [n, width] look at themselves and at others [m, width], then each goes through two layers.

    Softmax attention by hand (Vaswani 2017, arXiv:1706.03762), norms first.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.mix = nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))

    def forward(self, tokens: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        """[n, width]."""
        own = self.norms[0](tokens)
        seen = torch.cat([own, self.norms[1](others)])
        scores = self.query(own) @ self.key(seen).mT / own.shape[-1] ** 0.5
        tokens = tokens + self.out(scores.softmax(-1) @ self.value(seen))
        return tokens + self.mix(self.norms[2](tokens))
