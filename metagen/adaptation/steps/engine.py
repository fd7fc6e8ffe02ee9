"""A network that reads the support and writes the update rule for it."""

from __future__ import annotations

import torch
from torch import nn

from metagen.adaptation.batch import State
from metagen.adaptation.encoders import Encoder
from metagen.adaptation.steps.base import PerWeight, Step, layer_of
from metagen.adaptation.steps.rule import Rule
from metagen.core.functional import Weights
from metagen.errors import MetagenError, check_positive
from metagen.generators import Generator, Noise

BOUND = 3.0  # of a log factor: what is emitted is within 20-fold of where it began


class Engine(Step):
    """w <- w - rate * preconditioner * v, v <- momentum * v + g, by a rule that is computed once from the support.

    Linear in the code of the support and softly bounded are the log rate and the logit of the momentum of every layer,
    and the log of a factor for each output channel of every weight. These last layers begin at 0, so all tasks begin
    with one rule: SGD at the given rate and momentum. An empty support has a code, too.

    Args:
        generator: whose weights move.
        weights: those that move.
        rate: where all rates begin.
        momentum: where all momenta begin, in [0, 1); at 0 they stay there.
        encoder: that reads the support.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        generator: Generator,
        weights: Weights,
        rate: float,
        momentum: float,
        encoder: Encoder,
    ) -> None:
        super().__init__()
        check_positive("rate", rate)
        if not 0 <= momentum < 1:
            raise MetagenError(f"momentum: expected 0 or more and less than 1, got {momentum}")
        self.rate, self.momentum = rate, momentum
        self.axes = {name: output_axis(generator, name) for name in weights}
        self.encoder, code = encoder, encoder.code
        sizes = {name: w.shape[self.axes[name]] if w.ndim else 1 for name, w in weights.items()}
        self.of_layer = PerWeight({layer: torch.zeros(2, code + 1) for layer in map(layer_of, weights)})
        self.of_weight = PerWeight({name: torch.zeros(size, code + 1) for name, size in sizes.items()})
        self.to(next(generator.parameters()))

    def rule(self, weights: Weights, support: torch.Tensor) -> Rule:
        """The rule for these weights and a support [k, C, H, W] in [0, 1], k >= 0, whose order does not matter."""
        code = self._code(support)
        layers = {layer: bounded(self.of_layer[layer] @ code) for layer in dict.fromkeys(map(layer_of, weights))}
        start = torch.tensor(self.momentum, dtype=code.dtype, device=code.device).logit()
        rates = {layer: self.rate * emitted[0].exp() for layer, emitted in layers.items()}
        momenta = {layer: (start + emitted[1]).sigmoid() for layer, emitted in layers.items()}
        return Rule(rates, momenta, {name: bounded(self.of_weight[name] @ code).exp() for name in weights})

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """The rule of this support, by weight: rates of its channels, momentum; and its velocity, zero."""
        rule = self.rule(weights, support)
        state: State = {}
        for name, w in weights.items():
            layer, shape = layer_of(name), [-1 if axis == self.axes[name] else 1 for axis in range(w.ndim)]
            rates = rule.rates[layer] * rule.preconditioners[name].reshape(shape)
            state[name] = (rates, rule.momenta[layer], torch.zeros_like(w))
        return state

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One step of descent with momentum."""
        moved: Weights = {}
        after: State = {}
        for name, w in weights.items():
            rates, momentum, velocity = state[name]
            velocity = momentum * velocity + gradients[name]
            moved[name] = w - rates * velocity
            after[name] = (rates, momentum, velocity)
        return moved, after

    def _code(self, support: torch.Tensor) -> torch.Tensor:
        """[code + 1], the last of them 1."""
        code = self.encoder(support)
        return torch.cat([code, code.new_ones(1)])


def bounded(log_factor: torch.Tensor) -> torch.Tensor:
    """Softly within BOUND."""
    return BOUND * torch.tanh(log_factor / BOUND)


def output_axis(generator: Generator, name: str) -> int:
    """The axis of a weight along which its layer's output channels lie: the first, but of a transposed convolution."""
    transposed = isinstance(generator.get_submodule(name.rpartition(".")[0]), nn.ConvTranspose2d)
    return int(transposed and name.endswith(".weight"))
