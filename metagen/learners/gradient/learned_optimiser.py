"""A learned optimiser: one small LSTM moves every weight (Andrychowicz 2016, arXiv:1606.04474)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from metagen.adaptation import Exact, select_params
from metagen.adaptation.steps.recurrent import CoordinateLSTM, Recurrent
from metagen.errors import check_choice
from metagen.generators import Generator
from metagen.learners.base import Learner

Counts = Literal["every", "late", "last"]


class LearnedRule(Learner):
    """Learn a start and a recurrent update rule; by default inner gradients are inputs, and are not differentiated.

    Args:
        generator: whose weights are theta.
        rule: makes the step, of the weights that move and the player of each.
        steps: N in meta-training.
        adapted_params: what moves, at most 20,000 parameters (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        counts: the query loss after "every" step, all alike (eq. 3 with w_t = 1 / N); "late" ones more (w_t in
            proportion to t); or after the "last" alone.
        second_order: differentiate inner gradients too.

    Raises:
        MetagenError: an option is out of range, or too many parameters move.
    """

    meta_gradient = Exact()

    def __init__(
        self,
        generator: Generator,
        rule: Callable[..., Recurrent],
        steps: int,
        adapted_params: tuple[str, ...],
        test_steps: int | None,
        counts: Counts,
        second_order: bool,
    ) -> None:
        check_choice("counts", counts, Counts)
        weights = select_params(generator, adapted_params)
        owners = {name: generator.player_of(name) for name in weights}
        super().__init__(generator, rule(weights, owners), steps, test_steps, adapted_params)
        self.counts, self.second_order = counts, second_order
        self.second_order_from = 0.0 if second_order else float("inf")

    def loss_weights(self) -> tuple[float, ...]:
        """The same for each of phi_1 ... phi_N, growing with t, or all for the last."""
        if self.counts == "last" or not self.steps:
            return super().loss_weights()
        weights = [float(t) if self.counts == "late" else 1.0 for t in range(1, self.steps + 1)]
        return (0.0, *(w / sum(weights) for w in weights))


class LearnedOptimiser(LearnedRule):
    """Learn a start, and an optimiser whose LSTM is told of a weight's gradient and says how it moves.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate at which it begins (see `CoordinateLSTM`).
        hidden: size of the LSTM's state of each coordinate.
        adapted_params: what moves, at most 20,000 parameters (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        counts: which query losses make the outer loss, "every", "late" or "last" (see `LearnedRule`).
        second_order: differentiate inner gradients too.
        decay: how fast steps grow smaller, 0 to 1 (see `CoordinateLSTM`).
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 10,
        rate: float = 1e-2,
        hidden: int = 20,
        adapted_params: tuple[str, ...] = ("biases",),
        test_steps: int | None = None,
        counts: Counts = "every",
        second_order: bool = False,
        decay: float = 0.0,
    ) -> None:
        rule = partial(CoordinateLSTM, rate=rate, hidden=hidden, decay=decay)
        super().__init__(generator, rule, steps, adapted_params, test_steps, counts, second_order)
        self.rate, self.hidden, self.decay = rate, hidden, decay
