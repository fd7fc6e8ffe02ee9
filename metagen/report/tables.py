"""Tables of a result and its studies as text, and a picture of support, real and generated images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from rich.table import Table

from metagen.learners import Learner, adapt_tasks
from metagen.report.headings import COLUMNS, FIRST, HEADINGS, ROWS
from metagen.report.next_steps import counted
from metagen.report.plots import labelled
from metagen.report.result import Estimate, Result, Row, TaskEstimate, row_named
from metagen.storage.images import grid
from metagen.storage.strict_json import NOTES, number
from metagen.tasks.episodes import Episode

ABSENT = "-"  # a number that is not finite
NOTED = 8  # notes that are printed
RESULT = Path("result.json")


def short(figure: Estimate) -> str:
    """A figure to a few digits, and half the width of its interval; what is null in JSON is a dash."""
    mean, half = figure["mean"], _half(figure["low"], figure["high"])
    if mean is None:
        return ABSENT
    if half is None:
        return f"{mean:.{1 if abs(mean) >= 20 else 2}f} ±{ABSENT}"
    digits = 1 if abs(mean) >= 20 else 2 if max(abs(mean), half) >= 0.1 else 4 if mean or half else 0
    return f"{mean:.{digits}f} ±{half:.{digits}f}"


def _half(low: float | None, high: float | None) -> float | None:
    return None if low is None or high is None else (high - low) / 2


def with_ends(figure: Estimate | None, digits: int = 2) -> str:
    """A figure with both ends of its interval; empty for none."""
    if figure is None:
        return ""
    mean, low, high = (number(figure[key]) for key in ("mean", "low", "high"))
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(mean) else "not finite"


def difference_cell(figure: TaskEstimate | None) -> str:
    """A figure by `short`, with a * where it is a difference clear of zero; empty for none."""
    return "" if figure is None else short(figure) + " *" * figure.get("clear", False)


def by_column(figures: Mapping[str, TaskEstimate]) -> dict[str, TaskEstimate]:
    """Figures by the names of their columns: the first of each is that of the domain's extractor."""
    return {name.partition("[")[0]: figure for name, figure in reversed([*figures.items()])}


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = (" | ".join(str(cell).replace("|", r"\|") for cell in row) for row in (headings, *rows))
    first, *rest = (f"| {line} |" for line in lines)
    return [first, "|---" * len(headings) + "|", *rest]


def shown(rows: Iterable[Mapping[str, Any]], headings: Mapping[str, str]) -> dict[str, str]:
    """The figures of rows that have a heading: the first of each, which is that of the domain's extractor."""
    measured = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    first = {bare: [name for name in measured if name.partition("[")[0] == bare] for bare in headings}
    return {names[0]: headings[bare] for bare, names in first.items() if names}


def table(result: Result, every: bool = False, place: Path = RESULT) -> str:
    """The rows of a result as text, a clause on each column and row, and what could not be measured.

    Args:
        result: of `metagen evaluate`.
        every: show every figure, in place of the first few.
        place: of the file that holds all of it.
    """
    columns, rows = _columns(result["rows"], every), _most_telling(result["rows"])
    through = " and ".join(extractor["name"] for extractor in result["extractors"]) or "no extractor"
    about = f"{result['tasks']} {result['split']} tasks, {counted(result['shots'], 'shot')}, through {through}"
    title = f"{about}; ± half the 95 % interval"
    parts = _in_parts([*columns.items()])
    blocks = [block(rows, dict(part), None if number else title) for number, part in enumerate(parts)]
    absent = [f"not measured here: {name}" for name in result["not_measured"]]
    diverged = [
        f"diverged, so counted as grey: {row['row']}, {row['diverged']} of {result['tasks']} tasks"
        for row in result["rows"]
        if row["diverged"]
    ]
    rest = _rest(result, len(columns), len(rows), place)
    clauses = clauses_on(columns, {row["row"]: ROWS[row["row"]] for row in rows})
    return "\n".join([*blocks, *clauses, *absent, *diverged, *noted(result), rest])


def _in_parts(columns: Sequence[tuple[str, str]]) -> list[Sequence[tuple[str, str]]]:
    """As many columns at once as the terminal has room for; one part without any of none."""
    return [columns[start : start + COLUMNS] for start in range(0, max(len(columns), 1), COLUMNS)]


def block(rows: Sequence[Row], columns: Mapping[str, str], title: str | None) -> str:
    """A table of some figures, by name with their headings."""
    lines = Table("", *columns.values(), title=title)
    for row in rows:
        lines.add_row(_label(row), *(short(row["figures"][n]) if n in row["figures"] else "" for n in columns))
    return as_text(lines)


def _columns(rows: Sequence[Row], every: bool) -> dict[str, str]:
    """The headings of the first figures of a result, or of every one, by the figures' names."""
    titles = {name: HEADINGS[name].title for name in FIRST}
    if not every:
        return dict([*shown(rows, titles).items()][:COLUMNS])
    headed = shown(rows, {name: heading.title for name, heading in HEADINGS.items()})
    return {name: headed.get(name, name) for row in rows for name in row["figures"]}


def _most_telling(rows: Sequence[Row]) -> list[Row]:
    """The rows that have a clause, in their order."""
    return [row for row in rows if row["row"] in ROWS]


def _label(row: Row) -> str:
    steps = row["steps"]
    return f"{row['row']}, {steps} step{'s' * (steps > 1)}" if isinstance(steps, int) and steps else row["row"]


def clauses_on(columns: Iterable[str], rows: Mapping[str, str]) -> list[str]:
    """A line on each figure and row that is shown; one on all figures of one kind, through whatever extractor.

    columns: the figures' names.
    rows: the clause of each.
    """
    kinds = dict.fromkeys(name.partition("[")[0] for name in columns)
    clauses = {HEADINGS[kind].title: HEADINGS[kind].clause for kind in kinds if kind in HEADINGS}
    clauses |= rows
    width = max(map(len, clauses), default=0)
    return [f"  {name:{width}}  {clause}" for name, clause in clauses.items()]


def _rest(result: Result, columns: int, rows: int, place: Path) -> str:
    """A line that says where all is that is not shown."""
    figures = len({name for row in result["rows"] for name in row["figures"]}) - columns
    more = [counted(figures, "more figure"), counted(len(result["rows"]) - rows, "more row")]
    return f"... and {', '.join([*filter(None, more), 'paired differences'])} in {place}"


def headline(result: Result) -> str:
    """The adapted row beside people's images in one line, by up to three figures; empty where no image was judged."""
    adapted, human = (row_named(result["rows"], name) for name in ("adapted", "human"))
    if adapted is None or human is None:
        return ""
    both = {n: title for n, title in _columns(result["rows"], every=False).items() if n in human["figures"]}
    parts = [
        f"{title} {_mean(adapted['figures'][name])} ({_mean(human['figures'][name])})"
        for name, title in [*both.items()][:3]
    ]
    return f"adapted, and real images in brackets: {', '.join(parts)}" if parts else ""


def _mean(figure: Estimate) -> str:
    return short(figure).partition(" ")[0]


def noted(result: Mapping[str, Any]) -> list[str]:
    """The first notes of a result, a line each, and how many more there are."""
    notes = result.get(NOTES, ())
    more = [f"and {len(notes) - NOTED} more notes"] if len(notes) > NOTED else []
    return [f"note: {note}" for note in notes[:NOTED]] + more


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


def picture(learners: Mapping[str, Learner], episode: Episode, generated: int) -> torch.Tensor:
    """One row a task: the images given | as many real ones, never seen | those of each learner, under its heading.

    learners: by their headings; all over images of one size.

    Returns:
        An image [3, H, W] in [0, 1].
    """
    shots, size = episode.support.shape[1], episode.support.shape[-1]
    blocks = {"given": episode.support, "real, not shown": episode.query[:, : max(shots, 3)]}
    for heading, learner in learners.items():
        adapted = adapt_tasks(learner, episode.to_like(learner).support, (0, "picture"), episode.numbers)
        blocks[heading] = adapted.sample(generated, (0, "picture", "sample"), episode.numbers).to(episode.support)
    return labelled({heading: grid(block, pad=1) for heading, block in blocks.items()}, cell=size)
