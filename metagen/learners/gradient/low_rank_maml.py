"""MAML over low-rank deltas: few numbers a task, spread over many weights (Hu 2021, arXiv:2106.09685)."""

from __future__ import annotations

from metagen.adaptation import Optimiser, add_deltas
from metagen.generators import Generator, PerPlayer
from metagen.learners.gradient.maml import MAML


class LowRankMAML(MAML):
    """Learn a start from which the low-rank deltas of some layers move; an adapted model stores these alone.

    Args:
        generator: whose weights are theta; it is given the deltas, which are meta-parameters too.
        steps: N in meta-training.
        rate: the inner learning rate.
        optimiser: "sgd" or "adam".
        layers: whose weights have deltas: globs over weight names, or names of the generator's parts; see
            `select_params`.
        rank: that of every delta is at most this.
        test_steps: N where a trained model adapts; None for the same.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        layers: tuple[str, ...] = ("*",),
        rank: int = 1,
        test_steps: int | None = None,
    ) -> None:
        super().__init__(generator, steps, rate, optimiser, add_deltas(generator, rank, layers), test_steps)
        self.layers, self.rank = tuple(layers), rank
