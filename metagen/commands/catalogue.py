"""`metagen models`: what is bundled with metagen, told in a table."""

from __future__ import annotations

from pathlib import Path

from metagen.storage.artifacts import read_config
from metagen.storage.bundled import all_bundled

HEADINGS = ("name", "pixels", "trained on", "score")


def table() -> str:
    """The models bundled with metagen, a line each.

    Raises:
        MetagenError: the config of one cannot be read.
    """
    rows = [HEADINGS, *(_told(place) for place in all_bundled("models"))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _told(place: Path) -> tuple[str, ...]:
    config = read_config(place, "model")
    info = config["info"]
    trained_on = info.get("data", {}).get("task_set", "-")
    return place.name, str(config["generator"]["size"]), str(trained_on), str(info.get("score", "-"))
