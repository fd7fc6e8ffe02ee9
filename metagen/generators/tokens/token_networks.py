"""The prior of the token VAE: a causal transformer over codes that attends to the images of a support.

Every function takes any leading axes: none for one task, or one of tasks that share all weights. In the latter case
the library's fused attention is used; it has no second derivative, so one task, whose weights may move, takes attention
by hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from metagen.generators.networks import silent

Heads = tuple[torch.Tensor, torch.Tensor]  # keys and values of m tokens, each [..., heads, m, width / heads]


def attend(
    query: torch.Tensor, heads: Heads, fused: bool, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    """Scaled dot-product attention (Vaswani 2017, arXiv:1706.03762): [..., heads, a, width / heads].

    Args:
        query: [..., heads, a, width / heads].
        heads: keys and values.
        fused: whether the library's kernel does it.
        mask: where each query may look, [..., 1, a, m]; None for everywhere.
        causal: whether query i sees the first i + 1 tokens alone.
    """
    key, value = heads
    if fused:
        q, k, v = (x.flatten(0, -4) for x in (query, key, value))  # of four axes, or the library falls back
        return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal).unflatten(0, query.shape[:-3])
    scores = query @ key.mT / query.shape[-1] ** 0.5
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1) @ value


class LayerNorm(nn.LayerNorm):
    """By hand for one task: with weights of its own, under vmap, the library's second derivatives were 4e-4 off."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [..., L, width] -> [..., L, width]."""
        if x.ndim > 3:
            return super().forward(x)
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


class Past:
    """Keys and values of the places before, to which those of the next are joined; not written to, so vmap can lift it.

    Attributes:
        heads: of all places so far; None before the first.
    """

    heads: Heads | None = None

    def joined(self, now: Heads) -> Heads:
        """Take the keys and values of one more place, [..., heads, 1, width / heads]; those of all so far."""
        if self.heads is not None:
            now = torch.cat([self.heads[0], now[0]], -2), torch.cat([self.heads[1], now[1]], -2)
        self.heads = now
        return now


class WrittenPast(Past):
    """The same in memory that is taken once for all places: no copies, no vmap, no gradients."""

    def __init__(self, places: int) -> None:
        self.places, self.count = places, 0

    def joined(self, now: Heads) -> Heads:
        """See `Past`."""
        if self.heads is None:
            key, value = (x.new_empty(*x.shape[:-2], self.places, x.shape[-1]) for x in now)
            self.heads = key, value
        for kept, new in zip(self.heads, now, strict=True):
            kept[..., self.count, :] = new[..., 0, :]
        self.count += 1
        return self.heads[0][..., : self.count, :], self.heads[1][..., : self.count, :]


class SelfAttention(nn.Module):
    """Multi-head self-attention, norm first, with keys and values of a past.

    Args:
        width: of a token; a multiple of heads.
        heads: that look apart from each other.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.out = _small(nn.Linear(width, width))

    def forward(self, x: torch.Tensor, past: Past | None = None, causal: bool = False) -> torch.Tensor:
        """Tokens [..., a, width] -> [..., a, width]; with a past, of one place that also sees those before."""
        query, key, value = (_split(part, self.heads) for part in self.project(self.norm(x)).chunk(3, -1))
        heads = (key, value) if past is None else past.joined((key, value))
        out: torch.Tensor = self.out(_joined(attend(query, heads, x.ndim > 3, causal=causal)))
        return out


class CrossAttention(nn.Module):
    """Multi-head attention of tokens to a memory, norm first; for the arguments see `SelfAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = LayerNorm(width)
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = _small(nn.Linear(width, width))

    def memory(self, tokens: torch.Tensor) -> Heads:
        """Keys and values of tokens [..., m, width]."""
        key, value = self.keys_values(tokens).chunk(2, -1)
        return _split(key, self.heads), _split(value, self.heads)

    def forward(self, x: torch.Tensor, memory: Heads, mask: torch.Tensor | None) -> torch.Tensor:
        """Attend from tokens [..., n, L, width] of n images to the one memory of their task; mask [..., 1, n L, m]."""
        query = _split(self.query(self.norm(x)).flatten(-3, -2), self.heads)
        return self.out(_joined(attend(query, memory, x.ndim > 3, mask))).unflatten(-2, x.shape[-3:-1])


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(
        *(LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU()), _small(nn.Linear(4 * width, width))
    )


class SupportBlock(nn.Module):
    """One layer of a transformer, norms first, over the tokens of an image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.mix = SelfAttention(width, heads), _perceptron(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens [..., L, width] -> [..., L, width]."""
        x = x + self.own(x)
        return x + self.mix(x)


class CodeBlock(nn.Module):
    """One causal layer of a transformer, norms first, over the codes of an image, which looks at a memory."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.cross, self.mix = SelfAttention(width, heads), CrossAttention(width, heads), _perceptron(width)

    def forward(
        self,
        x: torch.Tensor,
        memory: Heads,
        mask: torch.Tensor | None,
        past: Past | None,
        dropout_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """Tokens [..., n, L, width] -> [..., n, L, width]; see `CodePrior.forward`."""
        scale = 1.0 if dropout_mask is None else dropout_mask
        x = x + scale * self.own(x, past, causal=past is None)
        x = x + scale * self.cross(x, memory, mask)
        return x + scale * self.mix(x)


class SupportEncoder(nn.Module):
    """Images of a support to tokens, each image apart, so that what a target may see is a mask over tokens.

    Args:
        channels: of the images.
        halvings: from an image to its grid of tokens.
        side: height and width of that grid.
        width: of a token; a multiple of heads.
        heads: of each block.
        blocks: how many.
    """

    def __init__(self, channels: int, halvings: int, side: int, width: int, heads: int, blocks: int) -> None:
        super().__init__()
        widths = [max(width >> place, 8) for place in range(halvings, 0, -1)] + [width]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 3, padding=1), nn.SiLU()]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.SiLU()]
        self.stem = nn.Sequential(*layers, nn.Conv2d(width, width, 1))
        self.positions = nn.Parameter(nn.init.normal_(torch.empty(side**2, width), std=0.02))
        self.blocks = nn.ModuleList(SupportBlock(width, heads) for _ in range(blocks))
        self.norm = LayerNorm(width)

    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """Images [..., k, C, H, W] to tokens [..., k, L, width]."""
        x = self.stem(support.flatten(0, -4)).flatten(2).mT.unflatten(0, support.shape[:-3]) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class CodePrior(nn.Module):
    """p(codes | support), one code after the other, row by row.

    Args:
        codes: how many there are.
        places: L, codes an image.
        encoder: of the support.
        width: of a token; a multiple of heads.
        heads: of each block.
        blocks: over the codes.
        nulls: learned tokens that every target sees: all there is where the support is empty or hidden.
    """

    def __init__(
        self, codes: int, places: int, encoder: SupportEncoder, width: int, heads: int, blocks: int, nulls: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.null, self.start, self.positions = (
            nn.Parameter(nn.init.normal_(torch.empty(count, width), std=0.02)) for count in (nulls, 1, places)
        )
        self.embedding = nn.Embedding(codes, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(CodeBlock(width, heads) for _ in range(blocks))
        self.norm = LayerNorm(width)
        self.head = silent(nn.Linear(width, codes))

    def memory(self, support: torch.Tensor) -> list[Heads]:
        """Keys and values of the null tokens and of a support [..., k, C, H, W], for each block: m = nulls + k L."""
        tokens = self.null.expand(*support.shape[:-4], *self.null.shape)
        if support.shape[-4]:
            tokens = torch.cat([tokens, self.encoder(support).flatten(-3, -2)], -2)
        return [block.cross.memory(tokens) for block in self.blocks if isinstance(block, CodeBlock)]

    def forward(
        self,
        codes: torch.Tensor,
        memory: Sequence[Heads],
        mask: torch.Tensor | None,
        dropout_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Logits [..., n, L, codes] of each code of n images [..., n, L], given those before it.

        Args:
            codes: of the images.
            memory: of their task.
            mask: which tokens of it each image sees, [..., n, m]; None for all.
            dropout_mask: what each image keeps of a channel that blocks add to, [..., n, width]; None for all.
        """
        start = self.start.expand(*codes.shape[:-1], *self.start.shape)
        x = torch.cat([start, self.embedding(codes[..., :-1])], -2) + self.positions
        seen = None if mask is None else mask.repeat_interleave(codes.shape[-1], -2)[..., None, :, :]
        dropped = None if dropout_mask is None else dropout_mask[..., None, :]
        return self._through(x, memory, seen, [None] * len(self.blocks), dropped)

    def step(
        self, place: int, code: torch.Tensor, past: Sequence[Past], memory: Sequence[Heads], mask: torch.Tensor
    ) -> torch.Tensor:
        """Logits [..., n, codes] at one place; the keys and values of this place join the past.

        Args:
            place: from 0.
            code: of the place before, [..., n]; of no account at the first.
            past: keys and values of the places before, of each block.
            memory: as for `forward`.
            mask: which tokens of it each image sees, [..., n, m].
        """
        token = self.start.expand(*code.shape, -1) if place == 0 else self.embedding(code)
        x = (token + self.positions[place])[..., None, :]
        return self._through(x, memory, mask[..., None, :, :], past, None)[..., 0, :]

    def _through(
        self,
        x: torch.Tensor,
        memory: Sequence[Heads],
        mask: torch.Tensor | None,
        past: Sequence[Past | None],
        dropout_mask: torch.Tensor | None,
    ) -> torch.Tensor:
        for block, heads, before in zip(self.blocks, memory, past, strict=True):
            x = block(x, heads, mask, before, dropout_mask)
        logits: torch.Tensor = self.head(self.norm(x))
        return logits


def _split(x: torch.Tensor, heads: int) -> torch.Tensor:
    """Tokens [..., m, width] to [..., heads, m, width / heads]."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def _joined(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(-3, -2).flatten(-2)


def _small(layer: nn.Linear) -> nn.Linear:
    """The layer with small weights, so that a block begins near the path beside it."""
    nn.init.normal_(layer.weight, std=0.006)
    nn.init.zeros_(layer.bias)
    return layer
