"""Finite scalar quantisation: every channel rounded to a few levels (Mentzer 2023, arXiv:2309.15505)."""

from __future__ import annotations

import math

import torch

from metagen.errors import MetagenError

EDGE = 1e-3  # how far bounded values stay from the outermost rounding, as a share of the range


class Quantiser:
    """Rounds each of d channels to one of its levels; the levels of all of them together are one code.

    It has no weights. Gradients pass the rounding as if it were not there (Bengio 2013, arXiv:1308.3432).

    Args:
        levels: of each channel, 3 or more.

    Attributes:
        codes: how many codes there are, the product of the levels.

    Raises:
        MetagenError: there is no channel, or one has fewer than 3 levels or no whole number of them.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        if not levels or not all(isinstance(level, int) and level >= 3 for level in levels):
            raise MetagenError(
                f"levels: expected a whole number of 3 or more for each channel of the code, got {list(levels)}"
            )
        self.levels = levels
        self.codes = math.prod(levels)

    def bounded(self, features: torch.Tensor) -> torch.Tensor:
        """Features [..., d] squeezed into the range of their levels, before they are rounded."""
        levels = features.new_tensor(self.levels)
        half, offset = (levels - 1) * (1 - EDGE) / 2, 0.5 * (levels % 2 == 0)
        return (features + (offset / half).atanh()).tanh() * half - offset

    def rounded(self, bounded: torch.Tensor) -> torch.Tensor:
        """Bounded values [..., d] at their nearest levels, whole numbers about 0."""
        return bounded + (bounded.round() - bounded).detach()

    def scaled(self, values: torch.Tensor) -> torch.Tensor:
        """Values [..., d] about 0 as a decoder takes them, in [-1, 1]."""
        return values / self._half(values)

    def index(self, rounded: torch.Tensor) -> torch.Tensor:
        """The codes [...], from 0, of rounded values [..., d]."""
        places = rounded.detach().round() + self._half(rounded)
        return (places * self._strides(rounded)).sum(-1).long()

    def values(self, index: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The rounded values [..., d] of codes [...], in the precision of `like`."""
        strides, levels = self._strides(like).long(), like.new_tensor(self.levels).long()
        return ((index[..., None] // strides) % levels).to(like) - self._half(like)

    def _half(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_tensor([level // 2 for level in self.levels])

    def _strides(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_tensor([math.prod(self.levels[:place]) for place in range(len(self.levels))])
