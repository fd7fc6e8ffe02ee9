"""MAML by the adjoint of its inner loop: long adaptations in little memory."""

from __future__ import annotations

from metagen.adaptation import Adjoint, Optimiser
from metagen.generators import Generator, PerPlayer
from metagen.learners.fixed_rate import FixedRate


class AdjointMAML(FixedRate):
    """`MAML`, with the graph of one inner step in memory at a time.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate.
        optimiser: "sgd" or "adam".
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        segment: a state is kept every so many steps, least memory at ceil(sqrt(N)); None for every step.
        truncate: how many steps are differentiated, the last ones; None for all (see `Adjoint`).
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
        segment: int | None = None,
        truncate: int | None = None,
    ) -> None:
        self.meta_gradient = Adjoint(segment, truncate)
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        self.segment, self.truncate = segment, truncate
