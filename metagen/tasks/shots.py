"""The number k of support images of a task, or a distribution of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metagen.errors import MetagenError, check_at_least

HELD_OUT_SHOTS = (1, 5)  # at which a model trained on many k is judged


def distribution_of(shots: int | Mapping[int, float] | Mapping[str, float]) -> dict[int, float]:
    """The probability of each k, from k alone or from probabilities by k, which sum to 1.

    Raises:
        MetagenError: some k is no whole number of 1 or more, or these are no probabilities.
    """
    if not isinstance(shots, Mapping):
        check_at_least("data.shots", shots, 1)
        return {shots: 1.0}
    try:
        given = {int(str(k)): float(p) for k, p in shots.items()}
    except (TypeError, ValueError):
        raise MetagenError(f"data.shots: expected whole numbers with their probabilities, got {dict(shots)}") from None
    if not given or min(given) < 1 or not min(given.values()) >= 0 or not abs(sum(given.values()) - 1) <= 1e-6:
        raise MetagenError(
            "data.shots: expected numbers of 1 or more with probabilities of 0 or more that sum to 1, such as "
            f"{{1: 0.4, 5: 0.6}}; got {given}, whose sum is {sum(given.values()):g}"
        )
    return {k: p for k, p in given.items() if p}


def drawn(distribution: Mapping[int, float], rng: np.random.Generator) -> int:
    """One k, in whatever order they are given."""
    numbers = sorted(distribution)
    shares = np.array([distribution[k] for k in numbers])
    return int(rng.choice(numbers, p=shares / shares.sum()))


def held_out_shots(distribution: Mapping[int, float], val_shots: Sequence[int] | None = None) -> list[int]:
    """The k of held-out tasks, ascending: those given; else the one k, or those of 1 and 5 that are within reach.

    Raises:
        MetagenError: none is given, or one below 1.
    """
    if val_shots is None:
        one = list(distribution) if len(distribution) == 1 else []
        return one or [k for k in HELD_OUT_SHOTS if k <= max(distribution)]
    if not val_shots or min(val_shots) < 1:
        raise MetagenError(f"data.val_shots: expected one or more numbers of 1 or more, got {list(val_shots)}")
    return sorted(set(val_shots))
