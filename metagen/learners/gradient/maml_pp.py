"""MAML++: how to train your MAML (Antoniou 2019, arXiv:1810.09502)."""

from __future__ import annotations

from metagen.errors import MetagenError
from metagen.generators import Generator
from metagen.learners.gradient.meta_sgd import MetaSGD


class MAMLPP(MetaSGD):
    """A learned rate of every layer at every step, a loss after every step, and second order only from some time on.

    In the beginning the query loss counts alike after each inner step; what the earlier ones count goes down linearly,
    until the last alone counts (multi-step loss, section 4). The paper's batch normalisation has no part here, since no
    generator has any.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: where the rates begin.
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        multi_step_until: the progress of meta-training, from 0 to 1, at which the last step alone counts.
        second_order_from: the progress from which inner gradients are differentiated.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-3,
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
        multi_step_until: float = 0.2,
        second_order_from: float = 0.3,
    ) -> None:
        for name, value in (("multi_step_until", multi_step_until), ("second_order_from", second_order_from)):
            if not 0 <= value <= 1:
                raise MetagenError(f"{name}: expected 0 to 1, got {value}")
        super().__init__(generator, steps, rate, "step", adapted_params, test_steps)
        self.multi_step_until, self.second_order_from = multi_step_until, second_order_from

    def loss_weights(self) -> tuple[float, ...]:
        """Each inner step's, from 1 / N for all to 1 for the last; the start never counts where there are steps."""
        left = max(0.0, 1 - self.progress / self.multi_step_until) if self.multi_step_until else 0.0
        early = left / max(self.steps, 1)
        return (0.0,) * bool(self.steps) + (early,) * (self.steps - 1) + (1 - early * max(self.steps - 1, 0),)
