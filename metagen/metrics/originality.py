"""The distance of new images from the support (Boutin 2023, arXiv:2301.11722)."""

from __future__ import annotations

import torch

from metagen.metrics.base import RealFeatures, TaskColumn


def originality(samples: torch.Tensor, exemplars: torch.Tensor) -> torch.Tensor:
    """The mean distance of each task's samples from its exemplar: features [T, n, d], [T, d] -> [T], in float64.

    Example:
        >>> originality(torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]), torch.zeros(1, 2)).tolist()
        [2.5]
    """
    return (samples.double() - exemplars.double().unsqueeze(-2)).norm(dim=-1).mean(-1)


class Originality(TaskColumn):
    """The mean distance from the exemplar, the mean over the support; what does not belong to the task is original."""

    best = "human"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `originality`."""
        return originality(samples, real.support.double().mean(1))


class RelativeOriginality(Originality):
    """The same over that of as many real images, in per cent."""

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """Per cent, before the division."""
        return 100 * super().values(samples, real)

    def scale(self, real: RealFeatures) -> torch.Tensor:
        """Of real images."""
        return super().values(real.human, real)
