"""Inner optimisers of fixed rates, by name."""

from __future__ import annotations

from typing import Literal

from metagen.adaptation.inner_loop import SGD
from metagen.adaptation.steps import Adam, Rates, Step
from metagen.errors import check_choice

Optimiser = Literal["sgd", "adam"]


def fixed_rate_step(name: Optimiser, rates: Rates, betas: tuple[float, float] = (0.9, 0.999)) -> Step:
    """The inner optimiser of that name; betas are Adam's.

    Raises:
        MetagenError: no such optimiser.
    """
    check_choice("step", name, Optimiser)
    return SGD(rates) if name == "sgd" else Adam(rates, betas)
