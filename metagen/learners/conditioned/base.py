"""A start that depends on the task."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from metagen.adaptation import NO_NOISE, Carry, Encoder, Exact, TaskNoise
from metagen.core.functional import Weights
from metagen.learners.fixed_rate import FixedRate


class Conditioned(FixedRate, ABC):
    """A learner that begins at phi_0 = theta + changes computed from the support; for the options see `FixedRate`.

    An adapted model's difference is from theta, so those changes are part of it, and N = 0 steps adapt, too.
    """

    meta_gradient = Exact()
    conditioned = True

    @abstractmethod
    def weight_changes(self, start: Weights, support: torch.Tensor, task_noise: TaskNoise) -> Weights:
        """The change of each weight that adapts, where theta is `start`, for a support [k, C, H, W] in [0, 1]."""

    def prepare(self, supports: Callable[[int], torch.Tensor]) -> None:
        """See `Learner`; every encoder of the support takes what it needs."""
        for encoder in [module for module in self.modules() if isinstance(module, Encoder) and module.prepared_by]:
            encoder.prepare(self.generator, supports(encoder.prepared_by))

    def begin(self, support: torch.Tensor, task_noise: TaskNoise = NO_NOISE) -> Carry:
        """See `Learner`."""
        start = self.start(task_noise)
        added = self.weight_changes(start, support, task_noise)
        own = {name: start[name] + added[name] for name in sorted(self.adapted_names)}
        return own, self.step.init(own, support, task_noise.get("step", {}))
