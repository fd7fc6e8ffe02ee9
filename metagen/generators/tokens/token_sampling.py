"""Writing codes with a prior: one after the other, guided by the support, each by one uniform number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from metagen.generators.tokens.token_networks import CodePrior, Heads, Past, WrittenPast

HIGHEST = 1 - 2**-20  # of a uniform number: rounded sums must not reach past the last code that has a chance


class Sampling(NamedTuple):
    """Options for drawing codes; see `TokenVAE`."""

    guidance: float
    temperature: float
    top_p: float


def draw_codes(
    prior: CodePrior, uniform: torch.Tensor, memory: Sequence[Heads], mask: torch.Tensor | None, how: Sampling
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [..., n, L] drawn by uniform numbers [..., n, L], and whether all logits were finite [..., n].

    Args:
        prior: what writes them.
        uniform: in [0, 1).
        memory: keys and values of null tokens and support, for each block: m tokens.
        mask: which of them each image sees, [..., n, m]; None for all.
        how: guidance, temperature and top-p.
    """
    rows, tokens = uniform.shape[-2], memory[0][0].shape[-2]
    nulls = torch.arange(tokens, device=uniform.device) < len(prior.null)
    seen = torch.ones_like(nulls).expand(*uniform.shape[:-1], tokens) if mask is None else mask
    if how.guidance:  # beside each image, one that is written the same but sees no support
        seen = torch.cat([seen, nulls.expand_as(seen)], -2)
    code, codes = torch.zeros(seen.shape[:-1], dtype=torch.long, device=uniform.device), []
    finite = torch.ones_like(uniform[..., 0], dtype=torch.bool)
    places, one_task = uniform.shape[-1], uniform.ndim < 3  # which may be under vmap
    past = [Past() if one_task else WrittenPast(places) for _ in memory]
    for place in range(places):
        logits = prior.step(place, code, past, memory, seen)
        if how.guidance:
            seeing, blind = logits.split(rows, -2)
            logits = seeing + how.guidance * (seeing - blind)
        finite = finite & logits.isfinite().all(-1)
        drawn = draw(logits, uniform[..., place], how.temperature, how.top_p)
        codes.append(drawn)
        code = torch.cat([drawn, drawn], -1) if how.guidance else drawn
    return torch.stack(codes, -1), finite


def draw(logits: torch.Tensor, uniform: torch.Tensor, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    """One code [...] of logits [..., codes], where the distribution function passes a uniform number [...].

    With top-p, of the fewest likeliest codes that hold so much of the probability (Holtzman 2020, arXiv:1904.09751).
    """
    chances = (logits.float() / temperature).softmax(-1)
    if top_p < 1:
        ranked = _descending(chances)
        needed = ranked.cumsum(-1) - ranked < top_p
        least = torch.where(needed, ranked, torch.inf).amin(-1, keepdim=True)
        chances = torch.where(chances >= least, chances, 0)
    heights = chances.cumsum(-1)
    return (heights <= uniform.float().clamp(max=HIGHEST)[..., None] * heights[..., -1:]).sum(-1)


def _descending(chances: torch.Tensor) -> torch.Tensor:
    """Sorted along the last axis; of several tasks on a CPU by numpy, in a hundredth of torch's time."""
    if chances.ndim < 3 or chances.device.type != "cpu":  # one task may be under vmap
        return chances.sort(-1, descending=True).values
    return torch.from_numpy(np.sort(chances.detach().numpy())[..., ::-1].copy())
