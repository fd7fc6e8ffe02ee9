"""Task embeddings: a vector for each task, computed from its support alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import torch

from metagen.core.pca import PCA
from metagen.core.seeding import torch_rng
from metagen.errors import check_at_least
from metagen.learners import Learner

if TYPE_CHECKING:
    from typing_extensions import Self

DRAWS = 4  # of a generator's noise, over which what it says of a support is averaged


def in_order(support: torch.Tensor) -> torch.Tensor:
    """The images of each support [T, k, C, H, W] in an order that depends on them alone."""
    direction = torch.randn(support[0, 0].numel(), generator=torch_rng("order"), dtype=torch.float64).to(support.device)
    places = (support.flatten(2) * direction).sum(2).argsort(1)
    return torch.stack([images[place] for images, place in zip(support, places, strict=True)])


class Embedding(ABC):
    """Principal components of what is known of each task, standardised; the order of a support does not matter.

    Args:
        dims: d, numbers a task; fewer where no more directions vary over the train tasks.

    Attributes:
        pca: of the train tasks, once fitted.
        own: how many train tasks, the first that it was fitted on, went into the making of what places all others.
            They do not lie as new tasks do: nothing that is said of train tasks should count them.

    Raises:
        MetagenError: an option is out of range.
    """

    pca: PCA
    own: int = 0

    def __init__(self, dims: int = 16) -> None:
        check_at_least("dims", dims, 1)
        self.dims = dims

    @abstractmethod
    def rows(self, support: torch.Tensor) -> torch.Tensor:
        """All that is known of each task of supports [T, k, C, H, W] in [0, 1], their images `in_order`: [T, P]."""

    def fit(self, support: torch.Tensor) -> Self:
        """Learn from the supports [M, k, C, H, W] of train tasks.

        Raises:
            MetagenError: nothing varies over them, or what is known of them is not finite.
        """
        self.pca = PCA.fitted(self.rows(in_order(support)), self.dims)
        return self

    def embed(self, support: torch.Tensor) -> torch.Tensor:
        """Supports [T, k, C, H, W] in [0, 1] -> [T, d], of mean 0 and standard deviation 1 over the train tasks."""
        return self.pca.standardised(self.rows(in_order(support)))


class ModelEmbedding(Embedding):
    """An embedding by a trained model.

    Args:
        learner: the model.
        dims: see `Embedding`.
        seed: of the model's noise, which is the same for every task and every image.
    """

    def __init__(self, learner: Learner, dims: int = 16, seed: int = 0) -> None:
        super().__init__(dims)
        self.learner, self.seed = learner, seed
        self.key = (seed, "embed")
