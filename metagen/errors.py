"""The one root exception, and the words that help a user to mend a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MetagenError(Exception):
    """A mistake that the user can mend: one line saying what, where, expected, got and how."""


def unknown(kind: str, name: object, known: Iterable[str]) -> MetagenError:
    """The error for a name that is not registered, with the nearest ones that are."""
    names = sorted(known)
    by_lower = {each.lower(): each for each in names}
    near = [by_lower[each] for each in difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return MetagenError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(names)}")
