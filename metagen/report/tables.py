"""Tables of a result and its studies as text, and a picture of support, real and generated images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from metagen.core.seeding import torch_rng
from metagen.learners import Learner, adapt_tasks
from metagen.report.plots import labelled
from metagen.report.result import Difference, Estimate, Result
from metagen.storage.images import grid
from metagen.storage.strict_json import NOTES
from metagen.tasks.episodes import Episode

# The figures that a table shows, each with its heading; the others stand in result.json.
COLUMNS = {
    "query_loss": "query loss",
    "fid": "FID",
    "fd": "Frechet",
    "kid": "kernel",
    "energy": "energy",
    "recognisability": "recognised %",
    "diversity_relative": "diversity %",
    "copy_ratio": "copy ratio",
}
ABSENT = "-"  # a number that is not finite
NOTED = 8  # notes that are printed


def short(figure: Estimate) -> str:
    """A figure to a few digits, and half the width of its interval; what is null in JSON is a dash."""
    mean, half = figure["mean"], _half(figure["low"], figure["high"])
    if mean is None:
        return ABSENT
    if half is None:
        return f"{mean:.{1 if abs(mean) >= 20 else 2}f} ±{ABSENT}"
    digits = 1 if abs(mean) >= 20 else 2 if max(abs(mean), half) >= 0.1 else 4
    return f"{mean:.{digits}f} ±{half:.{digits}f}"


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def shown(rows: Iterable[Mapping[str, Any]], headings: Mapping[str, str] = COLUMNS) -> dict[str, str]:
    """The figures of rows that have a heading: the first of each, which is that of the domain's extractor."""
    measured = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    first = {bare: [name for name in measured if name.partition("[")[0] == bare] for bare in headings}
    return {names[0]: headings[bare] for bare, names in first.items() if names}


def table(result: Result, every: bool = False) -> str:
    """The rows and differences of a result as text, and what could not be measured; `every` figure, or the usual."""
    columns = shown(result["rows"])
    if every:
        columns = {name: columns.get(name, name) for row in result["rows"] for name in row["figures"]}
    through = " and ".join(extractor["name"] for extractor in result["extractors"]) or "no extractor"
    about = f"{result['tasks']} {result['split']} tasks, {result['shots']} shots, through {through}"
    lines = Table("", "N", *columns.values(), title=f"{about}; ± half the 95 % interval")
    rows: list[Difference] = [*result["rows"], *result["differences"]]
    for row in rows:
        steps = row.get("steps")
        cells = [short(row["figures"][name]) if name in row["figures"] else "" for name in columns]
        lines.add_row(row["row"], "" if steps is None else str(steps), *cells)
    absent = [f"not measured here: {name}\n" for name in result["not_measured"]]
    diverged = [
        f"diverged, so counted as grey: {row['row']}, {row['diverged']} of {result['tasks']} tasks\n"
        for row in result["rows"]
        if row["diverged"]
    ]
    return as_text(lines) + "\n" + "".join(absent + diverged + noted(result))


def noted(result: Mapping[str, Any]) -> list[str]:
    """The first notes of a result, a line each, and how many more there are."""
    notes = result.get(NOTES, ())
    more = [f"and {len(notes) - NOTED} more notes\n"] if len(notes) > NOTED else []
    return [f"note: {note}\n" for note in notes[:NOTED]] + more


def study_lines(name: str, study: Mapping[str, Any]) -> str:
    """A study as text: figures with half their intervals, rows as a table."""
    lines = [f"{name}:"]
    for key, value in study.items():
        if isinstance(value, list):
            lines.append(as_text(_rows(value)))
        elif isinstance(value, Mapping) and "mean" not in value:
            lines += [f"  {key}, {part}: {_cell(each)}" for part, each in value.items()]
        elif value is not None:
            lines.append(f"  {key}: {_cell(value)}")
    return "\n".join(lines)


def _rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    keys = [key for key in rows[0] if key not in ("n", "low", "high")]
    lines = Table(*keys)
    for row in rows:
        whole = {**row, "mean": row} if "mean" in row else row
        lines.add_row(*(_cell(whole[key]) for key in keys))
    return lines


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return short(cast(Estimate, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def as_text(lines: Table) -> str:
    """A table as it is printed."""
    console = Console(width=130, markup=False)  # fd[omniglot-report] is no markup
    with console.capture() as captured:
        console.print(lines)
    return captured.get().rstrip("\n")


def picture(learner: Learner, episode: Episode, generated: int, steps: int | None = None) -> torch.Tensor:
    """One row a task: its support | as many real images, never seen | generated ones; [3, H, W] in [0, 1]."""
    shots = episode.support.shape[1]
    support = episode.to_like(learner).support
    adapted = adapt_tasks(learner, support, (0, "picture"), episode.numbers, steps)
    rngs = [torch_rng(0, "picture", number, "sample") for number in episode.numbers]
    blocks = {"support": episode.support, "real, not shown to it": episode.query[:, : max(shots, 3)]}
    blocks["generated"] = adapted.sample(generated, rngs).to(episode.support)
    return labelled({heading: grid(block, pad=1) for heading, block in blocks.items()}, cell=learner.generator.size)
