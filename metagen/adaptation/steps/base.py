"""What one inner update is: a pure pair (init, update)."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from metagen.generators import Weights

State = dict[str, tuple[torch.Tensor, ...]]


class Step(nn.Module, ABC):
    """How weights move, given their gradients; its own parameters, if any, are meta-learned."""

    @abstractmethod
    def init(self, weights: Weights) -> State:
        """The optimiser state before the first step, by weight name."""

    @abstractmethod
    def update(self, weights: Weights, gradients: Weights, state: State, index: int) -> tuple[Weights, State]:
        """Weights and state after step number `index`, counted from 0."""
