"""MAML whose inner optimiser is searched among the known ones, as a mixture of their updates."""

from __future__ import annotations

from metagen.adaptation import Exact, Mixture, select_params
from metagen.core.gumbel import ChoiceName
from metagen.generators import Generator
from metagen.learners.base import Learner


class OptimiserMixture(Learner):
    """Learn a start, and by layer which of SGD, momentum, RMSprop and Adam to go by, and how fast.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: where the rates of SGD and momentum begin; Adam begins at a tenth of it, and RMSprop, whose first steps
            are ten times as long, at a hundredth.
        choice: "relaxed" or "sampled"; see `Mixture`.
        temperature: of the softmax over the four.
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
    """

    meta_gradient = Exact()
    step: Mixture

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-2,
        choice: ChoiceName = "relaxed",
        temperature: float = 1.0,
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        rates = (rate, rate, rate / 100, rate / 10)
        super().__init__(
            generator,
            Mixture(select_params(generator, adapted_params), rates, choice, temperature),
            steps,
            test_steps,
            adapted_params,
        )
        self.rate, self.choice, self.temperature = rate, choice, temperature
