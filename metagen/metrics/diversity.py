"""The diversity of the images of one task (Boutin 2022, arXiv:2205.10370, section 3.1)."""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import RealFeatures, TaskColumn


def diversity(samples: torch.Tensor) -> torch.Tensor:
    """The unbiased standard deviation over images, averaged over the features: [T, n, d] -> [T], in float64.

    Raises:
        MetagenError: fewer than two images a task.

    Example:
        >>> tasks = torch.tensor([[[1.0], [2.0], [3.0]], [[5.0], [5.0], [5.0]]])
        >>> diversity(tasks).tolist()
        [1.0, 0.0]
    """
    if samples.shape[-2] < 2:
        raise MetagenError(f"diversity: expected 2 or more images a task, got {samples.shape[-2]}")
    return samples.double().std(-2).mean(-1)


class Diversity(TaskColumn):
    """The spread of a task's images."""

    best = "human"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `diversity`."""
        return diversity(samples)


class RelativeDiversity(Diversity):
    """The same over that of as many real images, in per cent."""

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """Per cent, before the division."""
        return 100 * diversity(samples)

    def scale(self, real: RealFeatures) -> torch.Tensor:
        """Of real images."""
        return diversity(real.human)
