"""Almost no inner loop: MAML of the head alone (Raghu 2020, arXiv:1909.09157)."""

from __future__ import annotations

from metagen.adaptation import Optimiser
from metagen.generators import Generator, PerPlayer
from metagen.learners.gradient.maml import MAML


class ANIL(MAML):
    """Learn a start of which only the head, or another named part, moves; an adapted model stores that part alone."""

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        adapted_params: tuple[str, ...] = ("head",),
        test_steps: int | None = None,
    ) -> None:
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
