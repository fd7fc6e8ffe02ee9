"""Plain gradient descent."""

from __future__ import annotations

import torch

from metagen.adaptation.steps.base import Rate, State, Step, rate_of
from metagen.generators import Noise, Weights


class SGD(Step):
    """w <- w - rate * g."""

    def __init__(self, rate: Rate) -> None:
        super().__init__()
        self.rate = rate

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """No state."""
        return {}

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One descent step."""
        return {name: w - rate_of(self.rate, name) * gradients[name] for name, w in weights.items()}, state
