"""The auxiliary adaptation loss: between joint training and MAML."""

from __future__ import annotations

from metagen.adaptation import Optimiser
from metagen.errors import MetagenError
from metagen.generators import Generator, PerPlayer
from metagen.learners.gradient.maml import MAML


class Auxiliary(MAML):
    """total = task loss + weight * (loss after N inner steps): 0 is joint training, infinity MAML.

    A start that is a good generator by itself and adapts well: the query loss before any step is the task loss.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate.
        optimiser: "sgd" or "adam".
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        weight: lambda, how much the loss after adaptation counts beside the task loss.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
        weight: float = 1.0,
    ) -> None:
        if not 0 <= weight < float("inf") or steps < 1:
            raise MetagenError(f"expected a finite weight >= 0 and 1 or more steps, got {weight} and {steps}")
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        self.weight = weight

    def loss_weights(self) -> tuple[float, ...]:
        """1 before any step, and the weight after the last."""
        return (1.0, *[0.0] * (self.steps - 1), self.weight)
