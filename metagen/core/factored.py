"""Weights of linear layers that are never written out: a base, and what gradient steps on a few inputs add to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad_and_value

Weights = dict[str, torch.Tensor]  # by name


class Outer(NamedTuple):
    """The gradient left^T right of a linear layer's weight, which saw r inputs."""

    left: torch.Tensor  # [r, out], the gradients of its outputs
    right: torch.Tensor  # [r, in], its inputs


class Factored(NamedTuple):
    """The weight base + sum_n left_n^T right_n of a linear layer [out, in], after n steps on r inputs each.

    Where all tasks have one base, their products with it are one product; none has a matrix of its own.
    """

    base: torch.Tensor  # [out, in]
    left: torch.Tensor  # [n, r, out]
    right: torch.Tensor  # [n, r, in]

    @classmethod
    def of(cls, weight: torch.Tensor, rows: int) -> Factored:
        """Return a weight before the first step, of a layer that sees so many inputs in each."""
        return cls(weight, *(weight.new_zeros(0, rows, size) for size in weight.shape))

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs [..., in] -> outputs [..., out]."""
        y = F.linear(x, self.base)
        return y + (x @ self.right.flatten(0, 1).mT) @ self.left.flatten(0, 1) if len(self.left) else y

    def change(self) -> torch.Tensor:
        """The change that the steps made, [out, in]."""
        return self.left.flatten(0, 1).mT @ self.right.flatten(0, 1)


class Probed:
    """A weight in one evaluation: its layer's inputs are noted, and something is added to its outputs.

    Args:
        weight: the weight.
        added: [r, out], 0: the gradient by it is that of the outputs; None where none is asked for.
    """

    def __init__(self, weight: torch.Tensor | Factored, added: torch.Tensor | None = None) -> None:
        self.weight, self.added = weight, added
        self.inputs: list[torch.Tensor] = []  # [r, in] of each call
        self.read = False  # whether it was used otherwise than in its layer

    def linear(self, x: torch.Tensor) -> torch.Tensor:
        """See `Factored`."""
        self.inputs.append(x.reshape(-1, x.shape[-1]))
        y = self.weight.linear(x) if isinstance(self.weight, Factored) else F.linear(x, self.weight)
        return y if self.added is None else y + self.added.view_as(y)


class FactoredLinear(nn.Linear):
    """A linear layer whose weight is `Factored` or `Probed`."""

    @property
    def weight(self) -> torch.Tensor:  # type: ignore[override]
        """The weight written out."""
        given: object = self._parameters["weight"]
        if isinstance(given, Probed):
            given.read, given = True, given.weight
        if isinstance(given, Factored):
            given = given.base + given.change()
        return cast(torch.Tensor, given)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs [..., in] -> outputs [..., out]."""
        y = cast(Factored, self._parameters["weight"]).linear(x)
        return y if self.bias is None else y + self.bias


def descended(weight: torch.Tensor | Factored, gradient: torch.Tensor | Outer, rate: float) -> torch.Tensor:
    """One step of gradient descent, weight - rate * gradient; of a `Factored` weight the gradient is `Outer`."""
    if isinstance(weight, Factored) and isinstance(gradient, Outer):
        left = torch.cat([weight.left, -rate * gradient.left[None]])
        return cast(torch.Tensor, Factored(weight.base, left, torch.cat([weight.right, gradient.right[None]])))
    return cast(torch.Tensor, weight) - rate * cast(torch.Tensor, gradient)


def mean_over_tasks(weight: torch.Tensor | Factored) -> torch.Tensor:
    """The mean of T tasks' weights [T, ...]; of `Factored` ones, which have one base, as one product."""
    if not isinstance(weight, Factored):
        return weight.mean(0)
    change = weight.left.flatten(0, 2).mT @ weight.right.flatten(0, 2)
    return weight.base[0] + change / len(weight.base)


def inputs_of_layers(module: nn.Module, weights: Weights, run: Callable[[Weights], object]) -> dict[str, int]:
    """How many inputs each linear layer sees, by the name of its weight, of those that are used in it alone, once.

    Args:
        module: whose layers.
        weights: those that are asked about.
        run: uses the weights; it is called once.
    """
    users = [id(w) for child in module.modules() for w in child.parameters(recurse=False)]
    layers = {f"{name}.weight": layer for name, layer in module.named_modules() if type(layer) is nn.Linear}
    alone = [name for name, layer in layers.items() if name in weights and users.count(id(layer.weight)) == 1]
    probed = {name: Probed(weights[name]) for name in alone}
    try:
        with torch.no_grad():
            run({**weights, **cast(Weights, probed)})
    except (AttributeError, TypeError):  # something reads weights as tensors, through `parameters()` for example
        return {}
    return {name: len(p.inputs[0]) for name, p in probed.items() if len(p.inputs) == 1 and not p.read}


def gradients_and_value(
    loss: Callable[[Weights], torch.Tensor], weights: Mapping[str, torch.Tensor | Factored]
) -> tuple[Weights, torch.Tensor]:
    """As `torch.func.grad_and_value(loss)(weights)`; the gradient of a `Factored` weight is `Outer`."""
    factored = {name: w for name, w in weights.items() if isinstance(w, Factored)}
    dense = {name: w for name, w in weights.items() if not isinstance(w, Factored)}
    zeros = {name: w.left.new_zeros(w.left.shape[1:]) for name, w in factored.items()}

    def probed(dense: Weights, zeros: Weights) -> tuple[torch.Tensor, Weights]:
        probes = {name: Probed(w, zeros[name]) for name, w in factored.items()}
        value = loss({**dense, **cast(Weights, probes)})
        return value, {name: probe.inputs[0] for name, probe in probes.items()}

    (gradients, left), (value, right) = grad_and_value(probed, (0, 1), has_aux=True)(dense, zeros)
    outer = {name: Outer(left[name], right[name]) for name in factored}
    return {**gradients, **cast(Weights, outer)}, value
