"""Tasks by how adaptation changes the weights."""

from __future__ import annotations

import torch

from metagen.adaptation import draw_alike
from metagen.embeddings.base import ModelEmbedding
from metagen.errors import MetagenError
from metagen.learners import Adapted, Learner, adapt_by


class AdaptedWeights(ModelEmbedding):
    """phi_N - theta, of the weights that move.

    Raises:
        MetagenError: the model takes no inner step.
    """

    def __init__(self, learner: Learner, dims: int = 16, seed: int = 0) -> None:
        super().__init__(learner, dims, seed)
        check_adapts(learner)

    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """See `Embedding`; P as many as weights that move."""
        difference = adapted_alike(self.learner, support, self.key).difference
        return torch.cat([difference[name].flatten(1) for name in sorted(difference)], 1)


def check_adapts(learner: Learner) -> None:
    """Refuse a model that takes no inner step.

    Raises:
        MetagenError: it takes none.
    """
    if not learner.test_steps or not learner.adapted_names:
        raise MetagenError(
            f"{type(learner).__name__} takes no inner step, so nothing of it is adapted; give steps, or another way"
        )


def adapted_alike(learner: Learner, support: torch.Tensor, key: tuple[int | str, ...]) -> Adapted:
    """Adapt to supports [T, k, C, H, W] with the same draws for every task and image."""
    tasks, steps = [0] * len(support), learner.test_steps
    noise = draw_alike(learner.generator, key, tasks, support.shape[1], steps)
    return adapt_by(learner, support, noise, (steps,))[steps]
