"""Inner optimisers. To add one: a file here and a line below."""

from metagen.adaptation.steps.adam import Adam
from metagen.adaptation.steps.base import PerWeight, Rates, Step, weight_of
from metagen.adaptation.steps.curvature import Curvature
from metagen.adaptation.steps.engine import Engine
from metagen.adaptation.steps.learned_rates import LearnedRates
from metagen.adaptation.steps.mixture import Mixture
from metagen.adaptation.steps.recurrent import CoordinateLSTM, MetaLSTM
from metagen.adaptation.steps.rule import EmitsRule, Rule

__all__ = [
    "Adam",
    "CoordinateLSTM",
    "Curvature",
    "EmitsRule",
    "Engine",
    "LearnedRates",
    "MetaLSTM",
    "Mixture",
    "PerWeight",
    "Rates",
    "Rule",
    "Step",
    "weight_of",
]
