"""Tasks by which of many stored models suit them: collaborative filtering (Koren 2009, doi:10.1109/MC.2009.263)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from metagen.adaptation import draw_alike
from metagen.embeddings.adapted_weights import adapted_alike, check_adapts
from metagen.embeddings.base import ModelEmbedding, in_order
from metagen.errors import check_at_least
from metagen.learners import Adapted, Learner

if TYPE_CHECKING:
    from typing_extensions import Self


class Filtering(ModelEmbedding):
    """The losses of stored models, each adapted to one train task, on the images of a task: what the factors say.

    The matrix of losses, models by tasks, is centred both ways and cut to d factors. Every stored model is asked about
    a new task, so its coordinates by least squares are those on the models' singular vectors: principal components of
    a task's losses less their own mean.

    Args:
        learner: the model.
        dims: see `Embedding`.
        seed: of the noise.
        models: how many are stored, of the first train tasks; at most half of these. They are its `own`: the others
            give the factors, so that no model is asked about the task that it was adapted to.

    Raises:
        MetagenError: the model takes no inner step, or an option is out of range.
    """

    def __init__(self, learner: Learner, dims: int = 16, seed: int = 0, models: int = 64) -> None:
        super().__init__(learner, dims, seed)
        check_at_least("models", models, 2)
        check_adapts(learner)
        self.models = models
        self.stored: Adapted

    def fit(self, support: torch.Tensor) -> Self:
        """See `Embedding`."""
        self.own = min(self.models, len(support) // 2)
        self.stored = adapted_alike(self.learner, in_order(support[: self.own]), self.key)
        return super().fit(support[self.own :])

    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """See `Embedding`; P as many as stored models."""
        losses = torch.stack([self.losses(images) for images in support])
        return losses - losses.mean(1, keepdim=True)

    def losses(self, images: torch.Tensor) -> torch.Tensor:
        """The last player's loss on images [n, C, H, W] of each stored model, all by the same draws: [models]."""
        player, models = self.learner.generator.players[-1], [0] * len(self.stored)
        noise = draw_alike(self.learner.generator, self.key, models, len(images))[player]
        own = {
            "query": images.expand(len(models), *images.shape),
            "noise": {name: x.to(images) for name, x in noise.items()},
            "support": self.stored.support,
        }
        losses: torch.Tensor = self.stored.each("query_loss", own, player=player)
        return losses
