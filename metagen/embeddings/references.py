"""Embeddings without a model: what an embedding by a model has to beat."""

from __future__ import annotations

import torch

from metagen.core.energy_distance import blurred
from metagen.embeddings.base import Embedding
from metagen.metrics import Extractor


class Pixels(Embedding):
    """The mean image of a support, lightly blurred."""

    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """See `Embedding`; P as many as pixels."""
        return blurred(support.mean(1))


class Through(Embedding):
    """The mean features of a support.

    Args:
        extractor: whose features.
        dims: see `Embedding`.
    """

    def __init__(self, extractor: Extractor, dims: int = 16) -> None:
        super().__init__(dims)
        self.extractor = extractor

    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """See `Embedding`; P as many as features."""
        return self.extractor.of(support).mean(1)
