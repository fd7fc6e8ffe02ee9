"""`metagen compare`: a league table of evaluated models."""

from __future__ import annotations

from collections.abc import Sequence

from metagen.evaluation import league
from metagen.storage.files import placed


def compare(results: Sequence[str], /, by: str | None = None, out: str | None = None, overwrite: bool = False) -> None:
    """A league table of evaluated models: their figures, and the differences between them, paired by task.

    The models have to be evaluated alike: on the same tasks and shots, through the same extractors, with one seed.

    Args:
        results: result folders of metagen evaluate, or runs and exported models with one result each.
        by: the figure to order by, such as fd or recognisability[omniglot-report]; the first fd if not given.
        out: a folder to write league.md, league.csv and league.json to.
        overwrite: replace what stands at `out`.
    """
    league.compare(results, by, placed(out) if out else None, overwrite)
