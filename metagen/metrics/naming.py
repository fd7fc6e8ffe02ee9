"""What a figure is called: a column and the extractor that it was seen through, `fd[omniglot-report]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from metagen.errors import MetagenError, unknown
from metagen.metrics.base import Column

INCEPTION = "inception"
PUBLISHED = {"fd": "fid", "is": "is", "kid": "kid"}  # what these are called through the weights of the literature alone


def figure_name(column: str, extractor: str) -> str:
    """`column[extractor]`; a published name only where it is the published measure."""
    return PUBLISHED[column] if extractor == INCEPTION and column in PUBLISHED else f"{column}[{extractor}]"


def chosen(
    asked: Sequence[str] | None, columns: dict[str, Column], extractors: Iterable[str]
) -> dict[str, tuple[str, str]]:
    """The figures that are meant, each with its column and its extractor.

    Args:
        asked: names such as "fd" (through every extractor), "fd[omniglot-report]" or "fid"; None for what is measured
            unasked: through Inception the published measures alone.
        columns: all there are.
        extractors: the names of those at hand.

    Raises:
        MetagenError: no such column, or no such extractor at hand.
    """
    every = {figure_name(column, look): (column, look) for look in extractors for column in columns}
    if asked is None:
        usual = {name for name, (column, look) in every.items() if not columns[column].on_request}
        return {n: at for n, at in every.items() if n in usual and (at[1] != INCEPTION or at[0] in PUBLISHED)}
    found: dict[str, tuple[str, str]] = {}
    for name in asked:
        bare = re.sub(r"\[.*\]$", "", name)
        if name in every:
            found[name] = every[name]
        elif name in columns:
            found |= {n: at for n, at in every.items() if at[0] == name}
        elif bare in columns or name == "fid":
            hint = "name it with --extractor" if name != "fid" else "give its weights with --inception"
            raise MetagenError(f"metrics: {name!r} needs an extractor that is not at hand; {hint}")
        else:
            raise unknown("metric", name, [*columns, *every])
    return found
