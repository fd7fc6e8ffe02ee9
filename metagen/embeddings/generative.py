"""Tasks by the code that a generator computes from a support."""

from __future__ import annotations

from typing import Any

import torch

from metagen.core.functional import Weights, over_tasks, with_weights
from metagen.embeddings.base import ModelEmbedding
from metagen.errors import MetagenError
from metagen.learners import Learner, by_chunks


class Generative(ModelEmbedding):
    """The code of a support: `generator.embed(support)` at the shared weights.

    Raises:
        MetagenError: the generator has no such code.
    """

    def __init__(self, learner: Learner, dims: int = 16, seed: int = 0) -> None:
        super().__init__(learner, dims, seed)
        if not hasattr(learner.generator, "embed"):
            name = type(learner.generator).__name__
            raise MetagenError(f"generative: {name} has no code of a support; choose another way, or another model")

    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """See `Embedding`; P as many as the code has numbers."""
        weights = {name: w.detach() for name, w in self.learner.start().items()}

        def one_task(weights: Weights, support: torch.Tensor) -> torch.Tensor:
            generator: Any = with_weights(self.learner.generator, weights)  # one that has a code, see above
            code: torch.Tensor = generator.embed(support)
            return code

        with torch.no_grad():
            codes: torch.Tensor = by_chunks(lambda each: over_tasks(one_task)(weights, each), support)
        return codes
