"""Pages of results: text in lines, tables of result files, rows of images."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from matplotlib.figure import Figure

from metagen.evaluation.league import Entry
from metagen.model import Model, load
from metagen.report.headings import HEADINGS
from metagen.report.plots import png
from metagen.report.result import Difference, Result
from metagen.report.tables import by_column, markdown_table, with_ends
from metagen.storage.files import write_atomically
from metagen.storage.images import grid
from metagen.tasks.episodes import Episodes

RESULTS = Path("results")
PAGE, SAMPLES = "README.md", "samples.png"
JITTER = "affine x1"


def paragraphs(text: str) -> str:
    """Paragraphs in lines of 120 characters; a heading stays as it is."""
    return "\n\n".join(textwrap.fill(each, 120, break_on_hyphens=False) for each in text.split("\n\n")) + "\n"


def write_page(folder: Path, lines: Iterable[str], pictures: Mapping[str, Figure | bytes] | None = None) -> None:
    """Write README.md of a folder of results, and pictures by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PAGE, ("\n".join(lines).rstrip("\n") + "\n").encode())
    for name, picture in (pictures or {}).items():
        write_atomically(folder / name, picture if isinstance(picture, bytes) else png(picture))
    print(f"wrote {folder / PAGE}")


def titles(columns: Iterable[str]) -> list[str]:
    """The headings of columns."""
    return [HEADINGS[column].title for column in columns]


def result_table(rows: Iterable[tuple[str, Difference]], columns: Sequence[str]) -> list[str]:
    """Lines of a table of named rows of a result, with those of the columns that some row has."""
    named = [(name, row, by_column(row["figures"])) for name, row in rows]
    shown = [column for column in columns if any(column in figures for *_, figures in named)]
    return markdown_table(["row", "N", *titles(shown)], (_cells(*each, shown) for each in named))


def _cells(name: str, row: Mapping[str, Any], figures: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    steps, diverged = row.get("steps"), row.get("diverged")
    name += f" ({diverged} diverged: grey)" if diverged else ""
    figured = [with_ends(figures.get(column), HEADINGS[column].digits) for column in columns]
    return [name, "" if steps is None else str(steps), *figured]


def entry(name: str, kept: Mapping[str, Any], row: str = "adapted") -> Entry:
    """A row of a stored result, {"result": ..., "values": ...}, as a contender of a league."""
    values = {key: torch.tensor(value, dtype=torch.float64) for key, value in kept["values"].items()}
    own = {f"adapted/{key.partition('/')[2]}": v for key, v in values.items() if key.startswith(f"{row}/")}
    scales = {key: value for key, value in values.items() if key.startswith("scale/")}
    rows = [r for r in kept["result"]["rows"] if r["row"] != "adapted" or row == "adapted"]
    rows = [{**r, "row": "adapted"} if r["row"] == row else r for r in rows]
    return Entry(name, cast(Result, {**kept["result"], "rows": rows}), {**own, **scales})


def row_of(result: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401
    """The row of a stored result that has this name."""
    return next(row for row in result["rows"] if row["row"] == name)


def rounded(values: Mapping[str, torch.Tensor]) -> dict[str, list[float]]:
    """Values of single tasks as they are stored, to six digits."""
    return {name: [float(f"{x:.6g}") for x in value.tolist()] for name, value in values.items()}


def sample_rows(
    episodes: Episodes, places: Sequence[int], exports: Mapping[str, Path], samples: int, real: bool = False
) -> Figure:
    """Draw the support of some test tasks, with `real` also other images of them, and under it each model's samples."""
    tasks = len(episodes.task_set.split.test)
    episode = episodes.of("test", [place for place in places if place < tasks])
    lines = {"support": episode.support} | ({"real, not shown": episode.query[:, :samples]} if real else {})
    for name, export in exports.items():
        model = load(export)
        if isinstance(model, Model):
            lines[name] = model.adapt_many(episode.support).sample(samples)
    image = grid(torch.stack([images.flatten(0, 1) for images in lines.values()]))
    figure = Figure(figsize=(9, 0.5 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image[0], cmap="gray", extent=(0, 1, len(lines), 0), aspect="auto")
    axes.set_yticks([n + 0.5 for n in range(len(lines))], list(lines))
    axes.set_xticks([])
    return figure
