"""Criteria by which models are compared on one task: a number that is low where its images are good.

The query loss, where it says that. The loss of a player of a game says how good the other one is: so the images that
such a generator makes are judged themselves.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation import draw_noise
from metagen.core.energy_distance import blurred, energy_distance
from metagen.learners import Adapted

FeatureFunction = Callable[[torch.Tensor], torch.Tensor]  # images [..., C, H, W] in [0, 1] to features [..., d]
PIXELS = "pixels"


class Criterion(ABC):
    """A number a task, the lower the better.

    Attributes:
        figure: what it is called among the figures of a result.
        unit: what its values are of.
    """

    figure: str
    unit: str

    @abstractmethod
    def __call__(
        self, adapted: Adapted, query: torch.Tensor, key: Sequence[int | str], tasks: Sequence[int]
    ) -> torch.Tensor:
        """Of each task [T], on the query [T, q, C, H, W] of the tasks with these numbers; the key names the noise."""


class ByLoss(Criterion):
    """The query loss, summed over players."""

    figure, unit = "query_loss", "nats per image"

    def __call__(
        self, adapted: Adapted, query: torch.Tensor, key: Sequence[int | str], tasks: Sequence[int]
    ) -> torch.Tensor:
        """See `Criterion`."""
        noise = draw_noise(adapted.generator, (*key, "query"), tasks, query.shape[1])
        losses = adapted.query_loss(query, tree_map(lambda x: x.to(query), noise))
        return torch.stack(list(losses.values())).sum(0)


class BySamples(Criterion):
    """The energy distance of as many samples from the query as that has images, 2 or more; infinite for diverged ones.

    Args:
        name: of the extractor, or "pixels".
        features: of images, through it.
    """

    unit = "units of the features"

    def __init__(self, name: str = PIXELS, features: FeatureFunction = blurred) -> None:
        self.figure, self.features = f"energy[{name}]", features

    def __call__(
        self, adapted: Adapted, query: torch.Tensor, key: Sequence[int | str], tasks: Sequence[int]
    ) -> torch.Tensor:
        """See `Criterion`."""
        samples = adapted.sample(query.shape[1], (*key, "criterion"), tasks)
        finite = samples.isfinite().flatten(1).all(1)
        distances = energy_distance(self.features(samples.nan_to_num(posinf=1, neginf=0)), self.features(query))
        return torch.where(finite, distances, math.inf)
