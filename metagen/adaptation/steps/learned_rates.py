"""Gradient descent at learned rates: of each parameter (Li 2017, arXiv:1707.09835), layer, or layer and step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from metagen.adaptation.batch import State
from metagen.adaptation.steps.base import PerWeight, Step, layer_of
from metagen.core.functional import Weights
from metagen.errors import check_choice, check_positive
from metagen.generators import Noise

Per = Literal["parameter", "layer", "step"]


class LearnedRates(Step):
    """w <- w - rate * scale * g, with learned scales that begin at 1 and may change their sign.

    Args:
        weights: those that move.
        rate: where all rates begin; learned scales are relative to it.
        per: what has a scale of its own: every "parameter", every "layer", or every layer at every "step" (Antoniou
            2019, arXiv:1810.09502); steps beyond the last learned one go at its rate.
        updates: how many each weight has in meta-training: N times those of its player in one inner step.

    Raises:
        MetagenError: the rate is not above 0, or there is no such `per`.
    """

    def __init__(self, weights: Weights, rate: float, per: Per, updates: Mapping[str, int]) -> None:
        super().__init__()
        check_positive("rate", rate)
        check_choice("per", per, Per)
        self.rate, self.per = rate, per
        if per == "parameter":
            self.scale = PerWeight({name: torch.ones_like(w) for name, w in weights.items()})
        else:
            like = {layer_of(name): w for name, w in weights.items()}
            count = {layer_of(name): max(updates[name], 1) if per == "step" else 1 for name in weights}
            self.scale = PerWeight({layer: like[layer].new_ones(count[layer]) for layer in sorted(like)})

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """No state."""
        return {}

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One descent step."""
        return {n: w - self.rate * self._scale_of(n, index) * gradients[n] for n, w in weights.items()}, state

    def _scale_of(self, name: str, index: int) -> torch.Tensor:
        if self.per == "parameter":
            return self.scale[name]
        scales = self.scale[layer_of(name)]
        return scales[min(index, len(scales) - 1)]
