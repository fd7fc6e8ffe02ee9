"""Learners whose inner optimiser has a fixed rate."""

from __future__ import annotations

from typing import cast

import torch

from metagen.adaptation import Carry, Optimiser, PlayerNoise, fixed_rate_step, select_params
from metagen.core.factored import Factored, Weights, inputs_of_layers
from metagen.generators import Generator, Noise, PerPlayer, by_player
from metagen.learners.base import Learner
from metagen.learners.parameters import overridden

# The methods of a learner that see what adapts otherwise than through the modules that use it.
PLAIN = ("start", "begin", "advance", "support_loss", "start_loss", "outer_loss_terms", "task_record")
MOST_OF_RANK = 2.0  # times that of the weight: changes of more pay no longer (measured for 64 x 3,136 and 32 x 3,136)


class FixedRate(Learner):
    """A learner whose inner optimiser has one fixed rate.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate, of all players or each one's by its name.
        optimiser: "sgd" or "adam".
        adapted_params: what moves: globs over the generator's weight names, or names of its parts; see
            `select_params`.
        test_steps: N where a trained model adapts; None for the same.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        of_player = by_player("rate", rate, generator)
        rates = {name: of_player[generator.player_of(name)] for name in select_params(generator, adapted_params)}
        super().__init__(
            generator, fixed_rate_step(optimiser, rates, generator.betas), steps, test_steps, adapted_params
        )
        self.rate, self.optimiser = rate, optimiser
        self._inputs: dict[tuple[int, ...], dict[str, int]] = {}  # of linear layers, by the shape of a support

    @property
    def pure(self) -> bool:
        """See `Parts`; of all tasks together, where no weight moves, a recording would add nothing."""
        if self.context_only:
            return False
        annealed = self.second_order_from > 0 or overridden(self.generator, ["anneal"])
        return self._plain and not annealed and not overridden(self, ["loss_weights"])

    @property
    def stationary(self) -> bool:
        """See `Parts`: Adam counts its steps."""
        return self.optimiser == "sgd" and self._plain and not overridden(self, ["step_noise"])

    @property
    def _plain(self) -> bool:
        """Whether what adapts goes into modules and nowhere else."""
        return self.regulariser is None and not overridden(self, PLAIN)

    def factored(self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, steps: int) -> Carry:
        """See `Parts`: of plain gradient descent, the weights whose change is of a small rank."""
        if self.optimiser != "sgd" or not self._plain:
            return carry
        weights, state = carry
        if support.shape not in self._inputs:
            self._inputs[support.shape] = self._inputs_of_layers(weights, support, noise)
        rows = self._inputs[support.shape]
        small = [name for name, r in rows.items() if steps * r < MOST_OF_RANK * min(weights[name].shape)]
        changed = {name: cast(torch.Tensor, Factored.of(weights[name], rows[name])) for name in small}
        return {**weights, **changed}, state

    def _inputs_of_layers(self, weights: Weights, support: torch.Tensor, noise: PlayerNoise) -> dict[str, int]:
        start, found = self.start(), dict[str, int]()
        for player in self.generator.players:
            draws = {name: x[0] for name, x in noise[player].items()}
            own = {name: w for name, w in weights.items() if self.generator.player_of(name) == player}

            def run(probed: Weights, player: str = player, draws: Noise = draws) -> object:
                return self.support_loss({**start, **weights, **probed}, start, player, support, draws)

            found |= inputs_of_layers(self.generator, own, run)
        return found
