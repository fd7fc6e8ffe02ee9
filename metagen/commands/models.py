"""`metagen models`: the models bundled with metagen, in a table."""

from __future__ import annotations

from pathlib import Path

from metagen.report.next_steps import adaptation, next_steps
from metagen.storage.bundled import all_bundled

HEADINGS = ("name", "pixels", "trained on", "score")


def models() -> None:
    """List the models bundled with metagen: name, size in pixels, what they were trained on, and how good they are.

    `metagen adapt --model NAME` and `metagen.load("NAME")` take them by name.
    """
    rows = [HEADINGS, *(_row(place) for place in all_bundled("models"))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(next_steps(adaptation(rows[1][0], "my_thing/")))


def _row(place: Path) -> tuple[str, ...]:
    """One model.

    Raises:
        MetagenError: its config cannot be read.
    """
    from metagen.storage.artifacts import read_config  # slow to import, and not for the help of this verb

    config = read_config(place, "model")
    info = config["info"]
    trained_on = info.get("data", {}).get("task_set", "-")
    return place.name, str(config["generator"]["size"]), str(trained_on), str(info.get("score", "-"))
