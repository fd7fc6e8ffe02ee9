"""Steps: one inner update as a pure pair (init, update)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import nn

from metagen.adaptation.batch import State
from metagen.core.functional import Weights
from metagen.core.philox import Draws
from metagen.generators import Noise

Rates = Mapping[str, float]  # of each weight that moves, by its name


class Step(nn.Module, ABC):
    """How weights move, given their gradients; its own parameters, if any, are meta-learned."""

    def task_noise(self, draws: Draws) -> Noise:
        """The random draws that shape one task's rule; none by default."""
        return {}

    @abstractmethod
    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """The optimiser state before the first step, by weight name; what a rule owes to its task lies there too.

        Args:
            weights: those that move, at their start.
            support: images [k, C, H, W] in [0, 1].
            noise: the draws of `task_noise`; empty where nothing is to be left to chance.
        """

    @abstractmethod
    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """Weights and state after their update number `index`, counted from 0, where the support loss was `loss`."""


class PerWeight(nn.Module):
    """Meta-parameters that belong each to a weight or a layer of the generator, by its name."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(value))  # no parameter's name may hold a dot

    def __getitem__(self, name: str) -> torch.Tensor:
        value: torch.Tensor = getattr(self, name.replace(".", "/"))
        return value


def weight_of(name: str) -> str:
    """The weight or layer that a meta-parameter in a `PerWeight` belongs to."""
    return name.rpartition(".")[2].replace("/", ".")


def layer_of(name: str) -> str:
    """The layer of a weight: its name without the last part, if it has more than one."""
    return name.rpartition(".")[0] or name
