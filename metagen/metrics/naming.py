"""Names of figures: a column and the extractor that it is measured through, `fd[omniglot-report]`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from metagen.errors import MetagenError, unknown
from metagen.metrics.base import Column

INCEPTION, LPIPS = "inception", "lpips"
PUBLISHED = {"fd": "fid", "is": "is", "kid": "kid"}  # what these are called through the weights of the literature alone
OF_LPIPS = ("lpips", "lpips_cluster")  # measured through its extractor, which nothing else is measured through


def figure_name(column: str, extractor: str) -> str:
    """`column[extractor]`; a published name, which has no brackets, only where it is the published measure."""
    if extractor == INCEPTION and column in PUBLISHED:
        return PUBLISHED[column]
    return column if extractor == LPIPS else f"{column}[{extractor}]"


def select_figures(
    names: Sequence[str] | None, columns: dict[str, Column], extractors: Iterable[str], others: Iterable[str] = ()
) -> dict[str, tuple[str, str]]:
    """The figures that are named, each with its column and its extractor.

    Args:
        names: such as "fd" (through every extractor), "fd[omniglot-report]" or "fid"; None for the
            usual ones: through Inception the published measures alone, and what is of LPIPS where that is at hand.
        columns: all there are.
        extractors: the names of those at hand.
        others: what else may be named, elsewhere: for the error.

    Raises:
        MetagenError: no such column, or no such extractor at hand.
    """
    pairs = [(column, name) for name in extractors for column in columns if (column in OF_LPIPS) == (name == LPIPS)]
    every = {figure_name(*pair): pair for pair in pairs}
    if names is None:
        return {name: pair for name, pair in every.items() if _usual(columns, *pair)}
    selected: dict[str, tuple[str, str]] = {}
    for name in names:
        bare = re.sub(r"\[.*\]$", "", name)
        if bare not in columns and name != "fid":
            raise unknown("metric", name, [*columns, *every, *others])
        meant = {n: at for n, at in every.items() if at[0] == name or (n == name and name not in columns)}
        if not meant:
            raise MetagenError(f"metrics: {name!r} needs an extractor that is not at hand; {_hint(bare)}")
        selected |= meant
    return selected


def _usual(columns: dict[str, Column], column: str, extractor: str) -> bool:
    """Whether a figure is measured where none is named."""
    if extractor == INCEPTION:
        return column in PUBLISHED and not columns[column].on_request
    return extractor == LPIPS or not columns[column].on_request


def _hint(column: str) -> str:
    if column in OF_LPIPS:
        return "give its weights with --lpips"
    return "give its weights with --inception" if column == "fid" else "name it with --extractor"
