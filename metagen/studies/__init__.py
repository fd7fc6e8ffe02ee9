"""Studies of a model on held-out tasks. To add one: a file here and a line below."""

from collections.abc import Callable
from typing import Any

from metagen.studies.base import HeldOut
from metagen.studies.cost import adaptation_cost
from metagen.studies.gain import downstream_gain
from metagen.studies.log_likelihood import conditional_log_likelihood

studies: dict[str, Callable[[HeldOut], dict[str, Any]]] = {
    "log_likelihood": conditional_log_likelihood,
    "gain": downstream_gain,
    "cost": adaptation_cost,
}

__all__ = ["HeldOut", "studies"]
