"""The one root exception, and the words that help a user to mend a mistake."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import get_args

ALL = 20  # as many names as can be read in an error
NAMED = 8  # names that a message lists before it only counts


class MetagenError(Exception):
    """A mistake that the user can mend: one line saying what, where, expected, got and how."""


def check_positive(name: str, value: float) -> None:
    """Refuse what is no finite number above 0.

    Args:
        name: of the option.
        value: what was given.

    Raises:
        MetagenError: it is none.
    """
    if not 0 < value < float("inf"):
        raise MetagenError(f"{name}: expected a finite number above 0, got {value}")


def check_at_least(name: str, value: float, least: int) -> None:
    """Refuse what is below `least`.

    Args:
        name: of the option.
        value: what was given.
        least: the smallest that may be.

    Raises:
        MetagenError: it is below, or no number.
    """
    if not value >= least:
        raise MetagenError(f"{name}: expected {least} or more, got {value}")


def check_choice(name: str, value: object, choices: object) -> None:
    """Refuse a value that is none of a `Literal`'s; the command line's parser does so by itself.

    Args:
        name: of the option.
        value: the value that was given.
        choices: the `Literal` type.

    Raises:
        MetagenError: it is none of them; the nearest ones are named.
    """
    if value not in get_args(choices):
        raise unknown(name, value, get_args(choices))


def whole(name: str, value: object, least: int = 0, otherwise: str = "") -> int:
    """A whole number: an int, or one of numpy's or torch's, but no truth value.

    Args:
        name: of the option.
        value: what was given.
        least: the smallest that may be.
        otherwise: what else it might have been, for the message.

    Raises:
        MetagenError: it is below, or something else.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise MetagenError(f"{name}: expected a whole number{otherwise}, got {value!r}")
    check_at_least(name, number, least)
    return number


def unknown(kind: str, name: object, known: Iterable[str]) -> MetagenError:
    """The error for a name that is not registered, with the nearest ones that are."""
    names = sorted(known)
    by_lower = {each.lower(): each for each in names}
    near = [by_lower[each] for each in difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.5)]
    hints = [f"did you mean {' or '.join(near)}?"] if near else []
    if not near or len(names) <= ALL:
        hints.append(f"choose from {', '.join(names)}")
    return MetagenError(f"unknown {kind} {name!r}: {' '.join(hints)}")


def some(names: Iterable[str]) -> str:
    """A few names for a message, and how many more there are."""
    names = list(names)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
