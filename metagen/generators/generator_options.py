"""Options with a value for each player, and options of sampling alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from metagen.core.functional import with_weights
from metagen.errors import MetagenError, check_at_least, check_positive
from metagen.generators.base import Generator

PerPlayer = float | dict[str, float]  # one number for all players, or each one's by name


def by_player(option: str, value: PerPlayer, generator: Generator, at_least: int | None = None) -> dict[str, float]:
    """An option that is one number for all players, or each one's by name.

    Args:
        option: what it is called.
        value: as it was given.
        generator: whose players.
        at_least: the least it may be; None for anything above 0.

    Raises:
        MetagenError: a player is missing or unknown, or a number is out of range.
    """
    each = value if isinstance(value, dict) else dict.fromkeys(generator.players, value)
    if set(each) != set(generator.players):
        raise MetagenError(
            f"{option}: expected one number, or one for each of the players {', '.join(generator.players)}, got {value}"
        )
    for player, number in each.items():
        name = f"{option}.{player}" if isinstance(value, dict) else option
        if at_least is None:
            check_positive(name, number)
        else:
            check_at_least(name, number, at_least)
    return {player: each[player] for player in generator.players}


def with_sampling(generator: Generator, settings: Mapping[str, float]) -> Generator:
    """The generator with other sampling options: a copy that shares all weights; the given one stays as it is.

    What is set here also holds after steps, in place of `after_steps`.

    Raises:
        MetagenError: the generator has no such option, or a value is out of range.
    """
    for name, value in settings.items():
        if name not in generator.sampling:
            known = " and ".join(generator.sampling) or "none"
            raise MetagenError(f"{type(generator).__name__} has no sampling option {name}; it has {known}")
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise MetagenError(f"{name}: expected a finite number, got {value}")
    changed = with_weights(generator, {})
    for name, value in settings.items():
        setattr(changed, name, value)
    changed.after_steps = {name: x for name, x in generator.after_steps.items() if name not in settings}
    changed.check_sampling()
    return changed
