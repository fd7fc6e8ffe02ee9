"""Learners whose inner optimiser has a fixed rate."""

from __future__ import annotations

from metagen.adaptation import Optimiser, fixed_rate_step, select_params
from metagen.generators import Generator, PerPlayer, by_player
from metagen.learners.base import Learner


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
