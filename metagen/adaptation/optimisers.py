"""Inner optimisers of a fixed rate, by name."""

from __future__ import annotations

from typing import Literal

from metagen.adaptation.inner_loop import SGD
from metagen.adaptation.steps import Adam, Rate, Step
from metagen.errors import check_choice

Optimiser = Literal["sgd", "adam"]


def fixed_rate_step(name: Optimiser, rate: Rate, betas: tuple[float, float] = (0.9, 0.999)) -> Step:
    """The inner optimiser of that name; betas are Adam's.

    Raises:
        MetagenError: no such optimiser.
    """
    check_choice("step", name, Optimiser)
    return SGD(rate) if name == "sgd" else Adam(rate, betas)
