"""Choosing among several by logits: all by their shares, or a draw (Gumbel softmax, Jang 2017, arXiv:1611.01144)."""

from __future__ import annotations

from typing import Literal

import torch

from metagen.core.philox import Draws

ChoiceName = Literal["relaxed", "sampled"]  # by the logits as they are; or by a draw for each task

HALF = 2.0**-25  # of what uniform draws are multiples of, so that none is 0


def gumbel(draws: Draws, *shape: int) -> torch.Tensor:
    """Standard Gumbel draws, each finite: the logits that they are added to are largest as often as softmax says.

    Args:
        draws: where they come from.
        shape: of the draws, behind the axes of the rows.
    """
    return -(-(draws.uniform(*shape).double() + HALF).log()).log().float()
