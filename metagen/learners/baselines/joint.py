"""Joint pre-training and fine-tuning: the baseline that no meta-learner may lose to."""

from metagen.adaptation import Exact, Optimiser
from metagen.generators import Generator, PerPlayer
from metagen.learners.fixed_rate import FixedRate


class Joint(FixedRate):
    """Train on all train tasks mixed, as if they were one (MAML with no inner step), then fine-tune on a support."""

    meta_gradient = Exact()

    def __init__(
        self,
        generator: Generator,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "adam",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int = 50,
    ) -> None:
        super().__init__(generator, 0, rate, optimiser, adapted_params, test_steps)
