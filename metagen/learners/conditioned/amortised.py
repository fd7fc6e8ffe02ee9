"""Amortised adaptation: no inner step at all, the generator looks at its support (Garnelo 2018, arXiv:1807.01613)."""

from metagen.adaptation import Exact, fixed_rate_step
from metagen.errors import MetagenError
from metagen.generators import Generator
from metagen.learners.base import Learner


class Amortised(Learner):
    """Context only: N = 0 and no weight moves, so adapting costs nothing.

    Args:
        generator: one that looks at its support.

    Raises:
        MetagenError: the generator does not, so that nothing would adapt.
    """

    meta_gradient = Exact()

    def __init__(self, generator: Generator) -> None:
        if not generator.uses_support:
            raise MetagenError(
                f"Amortised: {type(generator).__name__} does not look at its support, so nothing would adapt; "
                "take token_vae, redraw or set_vae, or a learner with inner steps"
            )
        super().__init__(generator, fixed_rate_step("sgd", {}), 0, 0, ())
