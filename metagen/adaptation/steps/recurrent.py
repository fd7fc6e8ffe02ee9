"""Update rules that are one small LSTM for all coordinates; its cell is written out, so that vmap can lift it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch

from metagen.adaptation.batch import State
from metagen.adaptation.steps.base import PerWeight, Step
from metagen.core.functional import Weights
from metagen.errors import MetagenError, check_at_least, check_positive
from metagen.generators import Noise

MOST = 20_000  # coordinates, each with a hidden state of its own
P = 10.0  # log-gradients below -P are told by their value instead
Coordinates = tuple[torch.Tensor, ...]  # what is remembered of n coordinates, each [n, ...]
KEPT = 7.0  # where a forget gate begins, before its sigmoid: 0.999


def preprocessed(values: torch.Tensor, p: float = P) -> torch.Tensor:
    """Size and sign as two numbers in comparable units (Andrychowicz 2016, arXiv:1606.04474, appendix A): [..., 2].

    (log|v| / p, sign v), or (-1, e^p v) where |v| < e^-p. Its derivative is finite everywhere.
    """
    size = values.abs().clamp(min=math.exp(-p)).log() / p
    return torch.stack([size, (math.exp(p) * values).clamp(-1, 1)], -1)


def lstm_cell(
    x: torch.Tensor, hidden: torch.Tensor, cell: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One step of an LSTM: the new hidden and cell states.

    Args:
        x: inputs [n, i].
        hidden: [n, h].
        cell: [n, h].
        weight: of inputs and hidden state together, [4 h, i + h], for the gates in, forget, candidate, out.
        bias: [4 h].
    """
    enter, forget, candidate, leave = (torch.cat([x, hidden], -1) @ weight.T + bias).chunk(4, -1)
    cell = forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
    return leave.sigmoid() * cell.tanh(), cell


class Recurrent(Step):
    """The common part of both rules: each player's LSTM, which sees one coordinate at a time and remembers it.

    Args:
        weights: those that move.
        owners: the player of each.
        rate: the inner learning rate at which the rule begins, above 0.
        hidden: size of the hidden state.
        inputs: how many numbers the LSTM is told of a coordinate.

    Raises:
        MetagenError: an option is out of range, nothing moves, or too many coordinates do.
    """

    def __init__(self, weights: Weights, owners: Mapping[str, str], rate: float, hidden: int, inputs: int) -> None:
        super().__init__()
        count = sum(w.numel() for w in weights.values())
        if not count:
            raise MetagenError("adapted_params: a learned optimiser needs something to move; give at least one glob")
        if count > MOST:
            raise MetagenError(
                f"adapted_params: a learned optimiser moves at most {MOST:,} parameters, got {count:,}; "
                "give fewer `adapted_params`"
            )
        check_positive("rate", rate)
        check_at_least("hidden", hidden, 1)
        self.owners, self.rate, self.hidden = dict(owners), rate, hidden
        self.players = sorted({self.owners[name] for name in weights})
        like = next(iter(weights.values()))
        bound = hidden**-0.5
        self.weight = self.of_each(like.new_empty(4 * hidden, inputs + hidden), bound)
        self.bias = self.of_each(like.new_empty(4 * hidden), bound)

    def of_each(self, like: torch.Tensor, bound: float) -> PerWeight:
        """A meta-parameter of each player, drawn uniformly from -bound to bound."""
        return PerWeight({player: torch.empty_like(like).uniform_(-bound, bound) for player in self.players})

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """Hidden and cell state of every coordinate, zero."""
        return {name: (w.new_zeros(w.numel(), self.hidden),) * 2 for name, w in weights.items()}

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One step of every coordinate, those of all weights together: they have one player."""
        if not weights:
            return {}, {}
        names, sizes = list(weights), [w.numel() for w in weights.values()]
        w, g = (torch.cat([of[name].flatten() for name in names]) for of in (weights, gradients))
        remembered = tuple(torch.cat(each) for each in zip(*(state[name] for name in names), strict=True))
        flat, remembered = self.of_all(self.owners[names[0]], w, g, remembered, index, loss)
        parts = zip(*(each.split(sizes) for each in remembered), strict=True)
        moved = {name: part.view_as(weights[name]) for name, part in zip(names, flat.split(sizes), strict=True)}
        return moved, dict(zip(names, parts, strict=True))

    @abstractmethod
    def of_all(
        self, player: str, w: torch.Tensor, g: torch.Tensor, state: Coordinates, index: int, loss: torch.Tensor
    ) -> tuple[torch.Tensor, Coordinates]:
        """The next values of coordinates w [n] with gradients g [n], and their next state."""


class CoordinateLSTM(Recurrent):
    """w <- w - rate_t * (exp(a) g + b), where an LSTM says a and b of each coordinate (Andrychowicz 2016).

    It is told of g, and of how far w has come, so that it can learn where to stop. With a = b = 0 it is gradient
    descent, and so it nearly begins. Both are bounded by the readout, since |hidden| < 1. What was learned over N steps
    need not come to rest after them: rate_t = rate / (t + 1)^decay does (Robbins & Monro 1951).

    Args:
        weights: those that move.
        owners: the player of each.
        rate: the inner learning rate at which it begins; what the LSTM says is relative to it.
        hidden: size of the hidden state.
        decay: how fast steps grow smaller, 0 to 1; 0 for not at all.

    Raises:
        MetagenError: an option is out of range, nothing moves, or too many coordinates do.
    """

    def __init__(
        self, weights: Weights, owners: Mapping[str, str], rate: float, hidden: int = 20, decay: float = 0.0
    ) -> None:
        if not 0 <= decay <= 1:
            raise MetagenError(f"decay: expected 0 to 1, got {decay}")
        super().__init__(weights, owners, rate, hidden, 4)
        self.decay = decay
        self.readout = self.of_each(next(iter(weights.values())).new_empty(2, hidden), 1e-2)

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """The LSTM's state, zero, and where every coordinate begins."""
        return {name: (*own, weights[name].flatten()) for name, own in super().init(weights, support, noise).items()}

    def of_all(
        self, player: str, w: torch.Tensor, g: torch.Tensor, state: Coordinates, index: int, loss: torch.Tensor
    ) -> tuple[torch.Tensor, Coordinates]:
        """See `Recurrent`."""
        hidden, cell, start = state
        x = torch.cat([preprocessed(g), preprocessed(w - start)], -1)
        hidden, cell = lstm_cell(x, hidden, cell, self.weight[player], self.bias[player])
        gain, push = (hidden @ self.readout[player].T).unbind(-1)
        rate = self.rate / (index + 1) ** self.decay
        return w - rate * (gain.exp() * g + push), (hidden, cell, start)


class MetaLSTM(Recurrent):
    """w <- f w - i g: the cell state of an LSTM is the weights (Ravi & Larochelle 2017, section 3.1).

    A first LSTM is told of g and of the loss; the gates f and i see what it says, the weight and their last value. The
    biases begin so that f is nearly 1 and i nearly `rate`, which is gradient descent.

    Args:
        weights: those that move.
        owners: the player of each.
        rate: where the input gate begins, between 0 and 1.
        hidden: size of the first LSTM's hidden state.

    Raises:
        MetagenError: an option is out of range, or too many coordinates move.
    """

    def __init__(self, weights: Weights, owners: Mapping[str, str], rate: float, hidden: int = 20) -> None:
        if not 0 < rate < 1:
            raise MetagenError(f"rate: an input gate begins between 0 and 1, got {rate}")
        super().__init__(weights, owners, rate, hidden, 4)
        like = next(iter(weights.values()))
        self.gates = self.of_each(like.new_empty(2, hidden + 2), 1e-2)
        begin = like.new_tensor([KEPT, math.log(rate / (1 - rate))])
        self.begin = PerWeight({player: begin.clone() for player in self.players})

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """The first LSTM's state, zero, and the gates [n, 2] of plain gradient descent."""
        first = super().init(weights, support, noise)
        gates = {name: w.new_tensor([1.0, self.rate]).expand(w.numel(), 2) for name, w in weights.items()}
        return {name: (*first[name], gates[name]) for name in weights}

    def of_all(
        self, player: str, w: torch.Tensor, g: torch.Tensor, state: Coordinates, index: int, loss: torch.Tensor
    ) -> tuple[torch.Tensor, Coordinates]:
        """See `Recurrent`."""
        hidden, cell, gates = state
        x = torch.cat([preprocessed(g), preprocessed(loss).expand(len(g), 2)], -1)
        hidden, cell = lstm_cell(x, hidden, cell, self.weight[player], self.bias[player])
        weight, begin = self.gates[player], self.begin[player]
        common = hidden @ weight[:, :-2].T + w[:, None] * weight[:, -2]
        gates = (common + gates * weight[:, -1] + begin).sigmoid()
        forget, enter = gates.unbind(-1)
        return forget * w - enter * g, (hidden, cell, gates)
