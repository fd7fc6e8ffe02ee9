"""Adam (Kingma & Ba 2015, arXiv:1412.6980), differentiable also where a gradient is zero."""

from __future__ import annotations

import torch

from metagen.adaptation.batch import State
from metagen.adaptation.steps.base import Rates, Step
from metagen.core.functional import Weights
from metagen.generators import Noise


class Adam(Step):
    """Adam with its epsilon inside the square root, so that the meta-gradient of sqrt at 0 is finite."""

    def __init__(self, rates: Rates, betas: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> None:
        super().__init__()
        self.rates, self.betas, self.epsilon = rates, betas, epsilon

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """First and second moments, zero."""
        return {name: (torch.zeros_like(w), torch.zeros_like(w)) for name, w in weights.items()}

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One bias-corrected step."""
        moved: Weights = {}
        after: State = {}
        corrections = [1 - beta ** (index + 1) for beta in self.betas]
        for name, w in weights.items():
            g = gradients[name]
            first = torch.lerp(g, state[name][0], self.betas[0])
            second = torch.lerp(g.square(), state[name][1], self.betas[1])
            scale = (second / corrections[1] + self.epsilon**2).sqrt()
            moved[name] = w - self.rates[name] * (first / corrections[0]) / scale
            after[name] = (first, second)
        return moved, after
