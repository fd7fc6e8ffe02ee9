"""Meta-Curvature: MAML whose gradients are preconditioned by learned matrices (Park & Oliva 2019, arXiv:1902.03356)."""

from __future__ import annotations

from metagen.adaptation import Curvature, Exact, select_params
from metagen.generators import Generator
from metagen.learners.base import Learner


class MetaCurvature(Learner):
    """Learn a start, and a matrix along each mode of every weight that moves; see `Curvature`.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: of a step; the matrices are relative to it.
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
    """

    meta_gradient = Exact()

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-3,
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        super().__init__(
            generator, Curvature(select_params(generator, adapted_params), rate), steps, test_steps, adapted_params
        )
        self.rate = rate
