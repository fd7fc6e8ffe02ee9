"""The energy distance of each task's images: what models without a comparable loss are chosen by."""

from __future__ import annotations

import torch

from metagen.core.energy_distance import energy_distance
from metagen.metrics.base import RealFeatures, TaskColumn


class Energy(TaskColumn):
    """The energy distance within each task, in units of the features."""

    best = "low"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `energy_distance`."""
        return energy_distance(samples, real.reference)
