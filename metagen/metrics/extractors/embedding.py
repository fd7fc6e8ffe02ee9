"""A small embedding network for one domain, trained by `metagen train-extractor`."""

from __future__ import annotations

import torch
from torch import nn

from metagen.errors import MetagenError
from metagen.metrics.extractors.base import Extractor

HALVINGS = 3


class Embedding(Extractor):
    """Convolutions, three halvings, one linear layer to the features, and a classification head over train tasks.

    GroupNorm, so that a feature is the same whatever else is in the batch and whatever the mode.

    Args:
        size: height and width in pixels.
        channels: 1 or 3.
        widths: channels of each 3x3 convolution; multiples of 8, at least three of them.
        dimensions: d, of the features.
        classes: of the head: how many train tasks.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64, 128),
        dimensions: int = 128,
        classes: int = 2,
    ) -> None:
        super().__init__()
        if len(widths) < HALVINGS or any(width < 1 or width % 8 for width in widths):
            raise MetagenError(f"widths: expected {HALVINGS} or more multiples of 8, got {list(widths)}")
        if size < 2**HALVINGS or channels not in (1, 3):
            raise MetagenError(f"expected {2**HALVINGS} px or more and 1 or 3 channels, got {size} and {channels}")
        if dimensions < 2 or classes < 2:
            raise MetagenError(f"expected 2 or more dimensions and classes, got {dimensions} and {classes}")
        self.size, self.channels, self.widths = size, channels, tuple(widths)
        self.dimensions, self.classes = dimensions, classes
        layers: list[nn.Module] = []
        for place, (before, width) in enumerate(zip((channels, *widths), widths, strict=False)):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU()]
            layers += [nn.MaxPool2d(2)] if place < HALVINGS else []
        rest = size >> HALVINGS
        self.trunk = nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * rest**2, dimensions))
        self.head = nn.Linear(dimensions, classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, d]."""
        return self.trunk(images)

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities [..., classes] of the train tasks, from features [..., d]."""
        return self.head(features.to(self.head.weight)).softmax(-1)

    def keep_classes(self, count: int) -> None:
        """Forget all classes but the first."""
        kept = nn.Linear(self.dimensions, count, device="meta")
        kept.weight, kept.bias = (nn.Parameter(w.detach()[:count].clone()) for w in self.head.parameters())
        self.head, self.classes = kept, count
