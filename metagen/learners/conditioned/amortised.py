"""Amortised adaptation: no inner step in meta-training, the generator looks at its support (Garnelo 2018)."""

from metagen.adaptation import Exact, Optimiser
from metagen.errors import MetagenError
from metagen.generators import Generator, PerPlayer
from metagen.learners.fixed_rate import FixedRate


class Amortised(FixedRate):
    """Context only (Garnelo 2018, arXiv:1807.01613): N = 0, so that adapting costs nothing.

    A trained model takes steps on top of context where it is asked to, for images that are unlike those that it was
    trained on.

    Args:
        generator: one that looks at its support.
        adapted_params: what such steps move (see `select_params`); nothing by default.
        rate: their rate.
        optimiser: "sgd" or "adam".
        test_steps: N where a trained model adapts and is not told.

    Raises:
        MetagenError: the generator does not, so that nothing would adapt.
    """

    meta_gradient = Exact()
    context_only = True

    def __init__(
        self,
        generator: Generator,
        adapted_params: tuple[str, ...] = (),
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "adam",
        test_steps: int = 0,
    ) -> None:
        if not generator.uses_support:
            raise MetagenError(
                f"Amortised: {type(generator).__name__} does not look at its support, so nothing would adapt; "
                "take token_vae, redraw or set_vae, or a learner with inner steps"
            )
        super().__init__(generator, 0, rate, optimiser, adapted_params, test_steps)
