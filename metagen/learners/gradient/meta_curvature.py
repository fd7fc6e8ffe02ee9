"""Meta-Curvature: MAML whose gradients are preconditioned by learned matrices (Park & Oliva 2019, arXiv:1902.03356)."""

from __future__ import annotations

from metagen.adaptation import Curvature, Exact, moving
from metagen.generators import Generator
from metagen.learners.base import Learner


class MetaCurvature(Learner):
    """Learn a start, and a matrix along each mode of every weight that moves; see `Curvature`.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: of a step; the matrices are relative to it.
        moves: what moves (see `moving`).
        test_steps: N where a trained model adapts; None for the same.
    """

    meta_gradient = Exact()

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-3,
        moves: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        super().__init__(generator, Curvature(moving(generator, moves), rate), steps, test_steps, moves)
        self.rate = rate
