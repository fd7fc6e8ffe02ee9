"""Gradient descent preconditioned by learned matrices (Meta-Curvature, Park & Oliva 2019, arXiv:1902.03356)."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from metagen.adaptation.batch import State
from metagen.adaptation.steps.base import PerWeight, Step
from metagen.core.functional import Weights
from metagen.errors import check_positive
from metagen.generators import Noise

LIMIT = 128  # a longer mode has a learned diagonal: a matrix would hold more numbers than most networks


class Curvature(Step):
    """w <- w - rate * P(g), where P multiplies the gradient by a learned matrix along each of its modes.

    The modes of a weight are its first axis, its second one, and all places of its kernel together: of a convolution
    output channels, input channels and kernel positions, P(g) = g x_1 M_o x_2 M_i x_3 M_f (section 3.2); a vector has
    one. Every matrix begins as the identity. T-Net (Lee & Choi 2018, arXiv:1801.05558), or WarpGrad with linear warps
    (Flennerhag 2020, arXiv:1909.00025), has T T^T along the outputs alone; that measured worse.

    Args:
        weights: those that move.
        rate: of the step; the matrices are relative to it.

    Raises:
        MetagenError: the rate is not above 0.
    """

    def __init__(self, weights: Weights, rate: float) -> None:
        super().__init__()
        check_positive("rate", rate)
        self.rate = rate
        modes: list[Weights] = [{}, {}, {}]
        for name, w in weights.items():
            for mode, size in enumerate(_sizes(w)):
                modes[mode][name] = torch.eye(size).to(w) if size <= LIMIT else w.new_ones(size)
        self.matrices = nn.ModuleList([PerWeight(each) for each in modes])

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """No state."""
        return {}

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One preconditioned step."""
        return {n: w - self.rate * self.precondition(n, gradients[n]) for n, w in weights.items()}, state

    def precondition(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        """P of the gradient of the weight of that name."""
        product = gradient.reshape(_sizes(gradient))
        for mode in range(product.ndim):
            product = _along(product, cast(PerWeight, self.matrices[mode])[name], mode)
        return product.reshape(gradient.shape)


def _sizes(weight: torch.Tensor) -> tuple[int, ...]:
    """The sizes of a weight's modes, at most three."""
    shape = tuple(weight.shape) or (1,)
    return (*shape[:2], math.prod(shape[2:])) if len(shape) > 2 else shape


def _along(tensor: torch.Tensor, matrix: torch.Tensor, mode: int) -> torch.Tensor:
    """The product of a tensor and a matrix [n, n], or a diagonal [n], along one of its axes of length n."""
    last = tensor.movedim(mode, -1)
    return (last * matrix if matrix.ndim == 1 else last @ matrix.T).movedim(-1, mode)
