"""Whether new images are copies of the support."""

from __future__ import annotations

import torch

from metagen.metrics.base import Seen, TaskMetric


def nearest_support(images: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Distance of images to the nearest support image, averaged: features [T, n, d], [T, k, d] -> [T], in float64."""
    return torch.cdist(images.double(), support.double()).amin(-1).mean(-1)


class CopyRatio(TaskMetric):
    """How far samples are from the support, over how far real images are that were never shown.

    0 is copying; 1 is as far as the real ones.
    """

    best = "human"

    def values(self, samples: torch.Tensor, seen: Seen) -> torch.Tensor:
        """See `nearest_support`."""
        return nearest_support(samples, seen.support)

    def scale(self, seen: Seen) -> torch.Tensor:
        """Of real images."""
        return nearest_support(seen.human, seen.support)
