"""Tasks by the gradient of their loss at the shared weights, and by the Fisher information of Task2Vec."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.func import vmap

from metagen.adaptation import draw_alike, select_params, support_gradient
from metagen.core.functional import Weights, over_tasks
from metagen.embeddings.base import DRAWS, ModelEmbedding
from metagen.errors import MetagenError
from metagen.generators import Noise
from metagen.learners import Learner, by_chunks


class Gradient(ModelEmbedding):
    """The gradient of the last player's loss on the support, at the shared weights.

    Args:
        learner: the model.
        dims: see `Embedding`.
        seed: of the noise.
        params: the weights by which it is taken (see `select_params`); None for those that move where the model
            adapts, all where none does. Of a game, those of the last player among them.

    Raises:
        MetagenError: no such weight.
    """

    def __init__(self, learner: Learner, dims: int = 16, seed: int = 0, params: Sequence[str] | None = None) -> None:
        super().__init__(learner, dims, seed)
        generator, self.params = learner.generator, tuple(params or learner.adapted_params or ("*",))
        self.names = [
            n for n in select_params(generator, self.params) if generator.player_of(n) == generator.players[-1]
        ]
        if not self.names:
            raise MetagenError(f"params: {list(self.params)} leaves no weight of the player {generator.players[-1]}")

    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """See `Embedding`: the mean over a few draws, P as many as weights."""
        generator = self.learner.generator
        weights = {name: w.detach() for name, w in self.learner.start().items()}
        noise = draw_alike(generator, self.key, range(DRAWS), support.shape[1])[generator.players[-1]]
        draws = [{name: x[draw].to(support) for name, x in noise.items()} for draw in range(DRAWS)]

        def one_task(support: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.of_task(weights, support, each) for each in draws]).mean(0)

        gradients: torch.Tensor = by_chunks(over_tasks(one_task, shared=0), support)
        return gradients

    def of_task(self, weights: Weights, support: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Of one task's support [k, C, H, W] and one draw for each image: [P]."""
        return support_gradient(self.learner.generator, weights, support, noise, self.names)


class Fisher(Gradient):
    """The root of the Fisher information's diagonal: of the mean square of gradients of single images, each seen alone.

    The root keeps the few weights of largest gradient from being all that is seen. After Task2Vec (Achille 2019,
    arXiv:1902.03545), whose labels are drawn from the model where these are the images.
    """

    def of_task(self, weights: Weights, support: torch.Tensor, noise: Noise) -> torch.Tensor:
        """See `Gradient`."""

        def one_image(image: torch.Tensor, noise: Noise) -> torch.Tensor:
            alone = {name: x[None] for name, x in noise.items()}
            return support_gradient(self.learner.generator, weights, image[None], alone, self.names)

        return vmap(one_image)(support, noise).square().mean(0).sqrt()
