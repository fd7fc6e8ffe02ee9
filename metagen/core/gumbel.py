"""Choosing among several by logits: all by their shares, or a draw (Gumbel softmax, Jang 2017, arXiv:1611.01144)."""

from __future__ import annotations

from typing import Literal

import torch

ChoiceName = Literal["relaxed", "sampled"]  # by the logits as they are; or by a draw for each task


def gumbel(rng: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard Gumbel draws, each finite: the logits that they are added to are largest as often as softmax says.

    Args:
        rng: where they come from.
        shape: of the draws.
    """
    drawn = torch.empty(shape).exponential_(generator=rng)
    return -drawn.clamp(min=torch.finfo(drawn.dtype).tiny).log()
