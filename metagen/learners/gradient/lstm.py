"""The LSTM meta-learner (Ravi & Larochelle 2017, "Optimization as a model for few-shot learning", ICLR)."""

from __future__ import annotations

from functools import partial

from metagen.adaptation.steps.recurrent import MetaLSTM
from metagen.generators import Generator
from metagen.learners.gradient.learned_optimiser import Counts, LearnedRule


class LSTMLearner(LearnedRule):
    """Learn a start, and an LSTM whose cell state is the weights: what it forgets, and how far it goes.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: where the input gate begins, between 0 and 1 (see `MetaLSTM`).
        hidden: size of the first LSTM's state of each coordinate.
        adapted_params: what moves, at most 20,000 parameters (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        counts: which query losses make the outer loss, "every", "late" or "last" (see `LearnedRule`).
        second_order: differentiate inner gradients too.
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
    ) -> None:
        rule = partial(MetaLSTM, rate=rate, hidden=hidden)
        super().__init__(generator, rule, steps, adapted_params, test_steps, counts, second_order)
        self.rate, self.hidden = rate, hidden
