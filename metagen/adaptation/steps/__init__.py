"""Inner optimisers. To add one: a file here and a line below."""

from metagen.adaptation.steps.adam import Adam
from metagen.adaptation.steps.base import PerWeight, Rate, State, Step, weight_of
from metagen.adaptation.steps.curvature import Curvature
from metagen.adaptation.steps.engine import Engine
from metagen.adaptation.steps.learned_rates import LearnedRates
from metagen.adaptation.steps.mixture import Mixture
from metagen.adaptation.steps.recurrent import CoordinateLSTM, MetaLSTM
from metagen.adaptation.steps.rule import Rule
from metagen.adaptation.steps.sgd import SGD
from metagen.errors import unknown

FIXED_RATE = ("sgd", "adam")


def fixed_rate_step(name: str, rate: Rate, betas: tuple[float, float] = (0.9, 0.999)) -> Step:
    """The inner optimiser of that name at fixed rates; betas are Adam's.

    Raises:
        MetagenError: no such optimiser.
    """
    if name not in FIXED_RATE:
        raise unknown("step", name, FIXED_RATE)
    return SGD(rate) if name == "sgd" else Adam(rate, betas)


__all__ = [
    "FIXED_RATE",
    "SGD",
    "Adam",
    "CoordinateLSTM",
    "Curvature",
    "Engine",
    "LearnedRates",
    "MetaLSTM",
    "Mixture",
    "PerWeight",
    "Rate",
    "Rule",
    "State",
    "Step",
    "fixed_rate_step",
    "weight_of",
]
