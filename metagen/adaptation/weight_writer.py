"""A network that reads a generator's weights and a support, and writes low-rank changes of these weights."""

from __future__ import annotations

import torch
from torch import nn

from metagen.adaptation.attention import Block
from metagen.adaptation.encoders.base import LEAST_NORMED
from metagen.adaptation.steps import PerWeight
from metagen.core.functional import Weights
from metagen.core.seeding import torch_rng
from metagen.errors import check_at_least
from metagen.generators import Generator
from metagen.generators.networks import halvings, widths_for

SKETCH = 30  # numbers of a random projection, which with RMS and mean stand for a layer's weight
TINY = 1e-12  # under a root: a weight may be 0


class WeightWriter(nn.Module):
    """Writes L of every delta L R from the weights that they change and a support (after Ha 2017, arXiv:1609.09106).

    A layer's token is linear in a sketch of its weight, plus a learned vector; those of the support are linear in
    features of each image, and of all of them on average. The layers' tokens go through two blocks, in which they look
    at each other and at the support; linear in what comes of a layer's token, and 0 at first, is its L.

    Args:
        generator: whose weights are read.
        written: by the name of each weight that is written, the name of the one that it changes.
        width: of tokens.
        widths: channels of the convolutions, which halve the images once each; None for those of a VAE of that size.

    Raises:
        MetagenError: an option is out of range.
    """

    signs: torch.Tensor

    def __init__(
        self, generator: Generator, written: dict[str, str], width: int, widths: tuple[int, ...] | None
    ) -> None:
        super().__init__()
        check_at_least("width", width, LEAST_NORMED)
        self.written, self.widths = written, widths_for(generator.size, widths)
        weights = dict(generator.named_parameters())
        self.images = halvings(generator.channels, self.widths, "group")
        seen = self.widths[-1] * (generator.size >> len(self.widths)) ** 2
        self.each, self.whole = (nn.Sequential(nn.LayerNorm(seen), nn.Linear(seen, width)) for _ in range(2))
        self.reads = nn.Linear(SKETCH + 2, width)
        self.layers = PerWeight({name: torch.randn(width) for name in written})
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.heads = PerWeight({name: torch.zeros(weights[name].numel(), width + 1) for name in written})
        longest = max(weights[name].numel() for name in written.values()) + SKETCH
        signs = torch.randint(2, (longest,), generator=torch_rng("sketch"), device="cpu", dtype=torch.int8)
        self.register_buffer("signs", 2 * signs - 1, persistent=False)
        self.to(next(generator.parameters()))

    def forward(self, weights: Weights, support: torch.Tensor) -> Weights:
        """The changes of these weights for a support [k, C, H, W] in [0, 1], k >= 1, in whatever order."""
        features = self.images(support).flatten(1)
        others = torch.cat([self.each(features), self.whole(features.mean(0, keepdim=True))])
        tokens = self.reads(self.sketches(weights)) + torch.stack([self.layers[name] for name in self.written])
        for block in self.blocks:
            tokens = block(tokens, others)
        ended = nn.functional.pad(self.norm(tokens), (0, 1), value=1.0)
        pairs = zip(self.written, ended, strict=True)
        return {name: (self.heads[name] @ token).view_as(weights[name]) for name, token in pairs}

    def sketches(self, weights: Weights) -> torch.Tensor:
        """Sketches of the weights that are changed, each relative to its size: [layers, SKETCH + 2]."""
        return torch.stack([self._sketch(weights[name]) for name in self.written.values()])

    def _sketch(self, weight: torch.Tensor) -> torch.Tensor:
        """Log RMS, mean, and sums of every SKETCH-th number times random signs (Charikar 2002, a count sketch)."""
        flat = weight.flatten()
        rms = (flat.square().mean() + TINY).sqrt()
        padded = nn.functional.pad(flat / rms, (0, -len(flat) % SKETCH))
        sums = (padded * self.signs[: len(padded)]).unflatten(0, (-1, SKETCH)).sum(0) / (len(padded) / SKETCH) ** 0.5
        return torch.cat([torch.stack([rms.log(), flat.mean() / rms]), sums])
