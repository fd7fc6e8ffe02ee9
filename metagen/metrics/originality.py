"""How far new images are from what was shown (Boutin 2023, arXiv:2301.11722)."""

from __future__ import annotations

import torch

from metagen.metrics.base import Seen, TaskColumn


def originality(samples: torch.Tensor, exemplars: torch.Tensor) -> torch.Tensor:
    """The mean distance of each task's samples from its exemplar: features [T, n, d], [T, d] -> [T], in float64."""
    return (samples.double() - exemplars.double().unsqueeze(-2)).norm(dim=-1).mean(-1)


class Originality(TaskColumn):
    """The mean distance from the exemplar, the mean over the support; what does not belong to the task is original."""

    best = "human"

    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """See `originality`."""
        return originality(samples, seen.support.double().mean(1))


class RelativeOriginality(Originality):
    """The same over that of as many real images, in per cent."""

    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """Per cent, before the division."""
        return 100 * super().values(samples, seen)

    def scale(self, seen: Seen) -> torch.Tensor:
        """Of real images."""
        return super().values(seen.human, seen)
