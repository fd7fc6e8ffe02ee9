"""Meta-SGD: MAML whose rates are learned too (Li 2017, arXiv:1707.09835)."""

from __future__ import annotations

from metagen.adaptation import Exact, LearnedRates, select_params
from metagen.adaptation.steps.learned_rates import Per
from metagen.generators import Generator
from metagen.learners.base import Learner


class MetaSGD(Learner):
    """Learn a start and the rate of every parameter, or of every layer; a rate may become negative.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: where the rates begin.
        per: "parameter", "layer", or "step" (every layer at every step); see `LearnedRates`.
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
    """

    meta_gradient = Exact()
    step: LearnedRates

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-3,
        per: Per = "parameter",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        weights = select_params(generator, adapted_params)
        updates = {name: steps * generator.player_updates[generator.player_of(name)] for name in weights}
        step = LearnedRates(weights, rate, per, updates)
        super().__init__(generator, step, steps, test_steps, adapted_params)
        self.rate, self.per = rate, per
