"""A learned mixture of known optimisers, as an architecture is searched (DARTS, Liu 2019, arXiv:1806.09055, eq. 2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from metagen.adaptation.batch import State
from metagen.adaptation.steps.base import PerWeight, Step, layer_of
from metagen.core.functional import Weights
from metagen.core.gumbel import ChoiceName, gumbel
from metagen.core.philox import Draws
from metagen.errors import check_choice, check_positive
from metagen.generators import Noise

MEMBERS = ("sgd", "momentum", "rmsprop", "adam")


class Mixture(Step):
    """w <- w - sum_j share_j rate_j direction_j over SGD, momentum, RMSprop and Adam.

    Every layer has four learned logits, for the shares, and four learned log-scales, for the rates. Each member sees
    the gradients where the mixture has come to. Epsilon stands inside the square roots, as in `Adam`.

    Args:
        weights: those that move.
        rates: where the rates of the four members begin.
        choice: "relaxed" (shares are the softmax of the logits) or "sampled" (in meta-training every layer of a task
            draws its shares once: Gumbel-softmax, Jang 2017, arXiv:1611.01144, eq. 2; a trained model takes the most
            likely member alone).
        temperature: of the softmax; towards 0 the shares go to one member.
        momentum: of the velocity.
        memory: how much RMSprop's mean square keeps of itself.
        betas: those of Adam.
        epsilon: the smallest root of a mean square.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        weights: Weights,
        rates: tuple[float, float, float, float],
        choice: ChoiceName = "relaxed",
        temperature: float = 1.0,
        momentum: float = 0.9,
        memory: float = 0.99,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__()
        check_choice("choice", choice, ChoiceName)
        check_positive("rate", min(rates))
        check_positive("temperature", temperature)
        self.rates, self.choice, self.temperature = rates, choice, temperature
        self.momentum, self.memory, self.betas, self.epsilon = momentum, memory, betas, epsilon
        self.layers = sorted(set(map(layer_of, weights)))
        like = {layer_of(name): w for name, w in weights.items()}
        self.logits = PerWeight({layer: like[layer].new_zeros(len(MEMBERS)) for layer in self.layers})
        self.log_scale = PerWeight({layer: like[layer].new_zeros(len(MEMBERS)) for layer in self.layers})

    def task_noise(self, draws: Draws) -> Noise:
        """Gumbel draws for the shares of every layer, [layers, 4]; none where nothing is sampled."""
        if self.choice == "relaxed":
            return {}
        return {"gumbel": gumbel(draws, len(self.layers), len(MEMBERS))}

    def mixing_weights(self, noise: Noise) -> Weights:
        """By layer, how much each member counts for a task with these draws, or for a trained model: [4], sum 1."""
        return {layer: self._share(index, layer, noise) for index, layer in enumerate(self.layers)}

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """The task's rates, shares times scaled rates [4], and four memories, zero."""
        shares = self.mixing_weights(noise)
        state: State = {}
        for name, w in weights.items():
            layer = layer_of(name)
            rates = torch.tensor(self.rates, dtype=w.dtype, device=w.device) * self.log_scale[layer].exp()
            zero = torch.zeros_like(w)
            state[name] = (shares[layer] * rates, zero, zero, zero, zero)
        return state

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One step of the mixture."""
        moved: Weights = {}
        after: State = {}
        for name, w in weights.items():
            rates, *memory = state[name]
            directions, memory = self._directions(gradients[name], memory, index)
            moved[name] = w - torch.tensordot(rates, directions, 1)
            after[name] = (rates, *memory)
        return moved, after

    def _share(self, index: int, layer: str, noise: Noise) -> torch.Tensor:
        logits = self.logits[layer]
        if self.choice == "sampled" and not noise:
            return F.one_hot(logits.argmax(), len(MEMBERS)).to(logits)
        drawn = logits + noise["gumbel"][index] if noise else logits
        return (drawn / self.temperature).softmax(0)

    def _directions(
        self, g: torch.Tensor, memory: list[torch.Tensor], index: int
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The update of each member at rate 1, [4, ...], and the state of all."""
        velocity, square, first, second = memory
        velocity = self.momentum * velocity + g
        square = torch.lerp(g.square(), square, self.memory)
        first = torch.lerp(g, first, self.betas[0])
        second = torch.lerp(g.square(), second, self.betas[1])
        mean, spread = (m / (1 - beta ** (index + 1)) for m, beta in zip((first, second), self.betas, strict=True))
        directions = (g, velocity, g / self._root(square), mean / self._root(spread))
        return torch.stack(directions), [velocity, square, first, second]

    def _root(self, square: torch.Tensor) -> torch.Tensor:
        return (square + self.epsilon**2).sqrt()
