"""`metagen compare`: a league table of evaluated models, whose differences are paired by task."""

from __future__ import annotations

import csv
import io
import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from metagen.errors import MetagenError, unknown
from metagen.evaluation.scorecard import MODEL_FREE
from metagen.metrics import Column, QueryLoss, metrics
from metagen.metrics.naming import PUBLISHED
from metagen.report.tables import COLUMNS, as_text, short, shown
from metagen.storage.artifacts import read_config
from metagen.storage.files import check_free, fresh_folder, placed, write_atomically
from metagen.storage.strict_json import finite, number, page, read_json

RESULT, VALUES = "result.json", "values.safetensors"
# What has to be equal in two results, as a message calls it.
ALIKE = {
    "split": "split",
    "split_sha256": "split hash",
    "tasks": "number of tasks",
    "task_names": "task names",
    "images_crc32": "images",
    "shots": "shots",
    "queries": "queries",
    "seed": "seed",
}
NEEDED = ("extractors", "data", "model", "environment", "rows")
IMAGES = ("size", "channels", "invert", "binarise")
COST = {"seconds": "seconds a task", "peak_mib": "peak MiB"}  # of result["studies"]["cost"]; its steps are N


class Entry(NamedTuple):
    """An evaluated model.

    Attributes:
        name: in the table.
        result: what `metagen evaluate` wrote of it.
        values: what its figures come from, by "ROW/FIGURE" and "scale/FIGURE".
    """

    name: str
    result: dict[str, Any]
    values: dict[str, torch.Tensor]

    def row(self, name: str) -> dict[str, Any]:
        """A row of its table, without any figure if there is none of that name."""
        return next((row for row in self.result["rows"] if row["row"] == name), {"figures": {}})

    def figures(self, name: str, figures: Sequence[str]) -> dict[str, Any]:
        """Those of the figures that a row has."""
        found = self.row(name)["figures"]
        return {figure: found[figure] for figure in figures if figure in found}


def compare(given: Sequence[str], by: str | None = None, out: Path | None = None, overwrite: bool = False) -> None:
    """Print the league table of evaluated models, and write league.md, league.csv and league.json if asked to.

    Args:
        given: what `find` takes, of each model.
        by: see `league`.
        out: the folder to write to.
        overwrite: replace what stands at `out`.

    Raises:
        MetagenError: a result is missing, damaged or measured otherwise than the first, or `out` is taken.
    """
    if out:
        check_free(out, overwrite, [find(placed(each)) for each in given])
    found = finite(league(read(given), by))
    if out:
        written = {"md": markdown(found), "csv": table_csv(found), "json": page(found).decode()}
        with fresh_folder(out, overwrite) as folder:
            for ending, text in written.items():
                write_atomically(folder / f"league.{ending}", text.encode())
    print(table(found))
    if out:
        print(f"wrote league.md, league.csv and league.json to {out}")


# finding and reading


def find(given: Path) -> Path:
    """The folder of a result: itself, its result.json, or a run or exported model with just one result of it near by.

    Raises:
        MetagenError: there is none, or more than one.
    """
    if (given / RESULT).is_file() or (given.is_file() and given.name == RESULT):
        return given if given.is_dir() else given.parent
    model = given if (given / "model.safetensors").is_file() else given / "export"
    saved = (model / "model.safetensors").is_file()
    found = sorted({path.parent for root in (model, model.parent) for path in root.glob(f"*/{RESULT}")})
    if saved:  # what is near by may be of another model, or of an older export
        weights = read_config(model)["weights_sha256"]
        found = [place for place in found if _json(place).get("model", {}).get("weights_sha256") == weights]
    if len(found) == 1:
        return found[0]
    if found:
        raise MetagenError(f"{given}: has {len(found)} results; name one of {', '.join(map(str, found))}")
    if not saved:
        raise MetagenError(f"{given}: no result of metagen evaluate, no run and no exported model; name one of these")
    out = model.with_name("evaluation" if model.name == "export" else f"{model.name}-evaluation")
    raise MetagenError(f"{given}: was not evaluated yet: {_command(model, out)}")


def read(given: Sequence[str]) -> list[Entry]:
    """The entries, in the order given, each named by the shortest part of its path that tells it from the others.

    Raises:
        MetagenError: see `compare`.
    """
    if len(given) < 2:
        raise MetagenError(f"compare: expected 2 or more results, got {len(given)}")
    folders = [find(placed(each)) for each in given]
    places = [Path(os.path.realpath(folder)) for folder in folders]
    twice = [each for place, each in zip(places, given, strict=True) if places.count(place) > 1]
    if twice:
        raise MetagenError(f"{' and '.join(twice)}: are the same result; name each once")
    entries = [Entry(name, *_contents(folder)) for name, folder in zip(_names(places), folders, strict=True)]
    for entry in entries[1:]:
        _check_alike(entries[0], entry)
    return entries


def _names(places: Sequence[Path]) -> list[str]:
    longest = max(len(place.parts) for place in places)
    windows = (slice(start, start + n) for n in range(1, longest + 1) for start in range(longest))
    named = (["/".join(place.parts[window]) for place in places] for window in windows)
    return next(names for names in named if all(names) and len(set(names)) == len(names))


def _json(folder: Path) -> dict[str, Any]:
    try:
        result = read_json(folder / RESULT)
    except (OSError, ValueError, RecursionError) as error:
        raise MetagenError(f"{folder / RESULT}: cannot be read ({type(error).__name__}); evaluate again") from error
    return result if isinstance(result, dict) else {}


def _contents(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    result, export = _json(folder), folder.parent / "export"
    again = _command(export if export.is_dir() else Path("MODEL"), folder)
    missing = [key for key in (*ALIKE, *NEEDED) if key not in result]
    if missing or not (folder / VALUES).is_file():
        raise MetagenError(f"{folder}: an older metagen wrote it, without {missing[0] if missing else VALUES}: {again}")
    try:
        return result, load_tensors((folder / VALUES).read_bytes())
    except (OSError, SafetensorError) as error:
        raise MetagenError(f"{folder / VALUES}: cannot be read ({type(error).__name__}): {again}") from error


def _command(model: Path, out: Path) -> str:
    return f"metagen evaluate --model {model} --out {out}{' --overwrite' if out.exists() else ''}"


# what may be compared


def _protocol(result: Mapping[str, Any]) -> dict[str, Any]:
    """How a model was measured."""
    through = {each["name"]: each["weights_sha256"] for each in result["extractors"]}
    images = {f"image {option}": result["data"].get(option) for option in IMAGES}
    return {**{name: result[key] for key, name in ALIKE.items()}, "extractors": through, **images}


def _check_alike(first: Entry, other: Entry) -> None:
    """Refuse two models that were not judged by the same images in the same way."""
    ours, theirs = _protocol(first.result), _protocol(other.result)
    differ = [
        f"{key} ({reprlib.repr(theirs[key])}, not {reprlib.repr(ours[key])})"
        for key in ours
        if ours[key] != theirs[key]
    ]
    if differ:
        raise MetagenError(
            f"{other.name}: measured otherwise than {first.name}: {', '.join(differ)}; evaluate them alike"
        )
    figures = _shared([first, other])
    for row in MODEL_FREE:
        mine, beside = first.figures(row, figures), other.figures(row, figures)
        for figure in mine:
            if not _agree(mine[figure], beside[figure]):
                raise MetagenError(
                    f"{other.name}: its row {row!r}, which needs no model, has {figure} "
                    f"{number(beside[figure]['mean']):.4g}, and that of {first.name} "
                    f"{number(mine[figure]['mean']):.4g}: the images differ; evaluate on the same ones"
                )


def _agree(one: Mapping[str, float | None], other: Mapping[str, float | None]) -> bool:
    """Whether two figures differ by rounding alone, as they may on two machines: little beside their interval."""
    if one["mean"] is None or other["mean"] is None:
        return one["mean"] is other["mean"]
    interval = 0.0 if one["high"] is None or one["low"] is None else one["high"] - one["low"]
    room = 0.01 * interval + 1e-4 * abs(one["mean"]) + 1e-6
    return abs(one["mean"] - other["mean"]) <= room


def _shared(entries: Sequence[Entry]) -> list[str]:
    """The figures of adapted rows that all have, with their values."""
    first, *others = (
        {f for f in entry.row("adapted")["figures"] if f"adapted/{f}" in entry.values} for entry in entries
    )
    return [figure for figure in entries[0].row("adapted")["figures"] if figure in first.intersection(*others)]


# the league


def averaged(name: str, entries: Sequence[Entry]) -> Entry:
    """A model that was trained from several seeds as one entry: its values are the means over the seeds.

    So an interval is one over tasks, of the mean seed.

    Raises:
        MetagenError: they were not measured alike.
    """
    first = entries[0]
    for entry in entries[1:]:
        _check_alike(first, entry)
    figures, known, found = _shared(entries), dict(first.values), {}
    for figure in figures:
        known[f"adapted/{figure}"] = torch.stack([entry.values[f"adapted/{figure}"] for entry in entries]).mean(0)
        scale = known.get(f"scale/{figure}")
        found[figure] = asdict(_column(figure).interval(known[f"adapted/{figure}"], first.result["tasks"], scale))
    rows = [first.row("adapted") | {"figures": found}, *({**first.row(row), "row": row} for row in MODEL_FREE)]
    return Entry(name, {**first.result, "rows": rows}, known)


def league(entries: Sequence[Entry], by: str | None = None) -> dict[str, Any]:
    """Models in order, what needs no model, and paired differences: from the leader, and between neighbours.

    Args:
        entries: two or more models that were measured alike.
        by: the figure to order by, such as "fd" or "fd[omniglot-report]"; None for the first "fd", if there is one.

    Returns:
        JSON-ready data: by, best ("low", "high" or "human", the nearest to that row), measured, models, model_free
        and differences; a difference's figures tell whether their interval is `clear` of zero.

    Raises:
        MetagenError: no such figure, or not of all models.
    """
    figures, first = _shared(entries), entries[0]
    chosen = _chosen(by, figures)
    ranked = sorted(entries, key=lambda entry: _badness(entry, chosen))
    pairs = [*((entry, ranked[0]) for entry in ranked[1:]), *zip(ranked[2:], ranked[1:], strict=False)]
    return {
        "by": chosen,
        "best": _column(chosen).best,
        "measured": {**_protocol(first.result), "extractors": first.result["extractors"]},
        "models": _models(ranked, figures),
        "model_free": [{"row": row, "figures": f} for row in MODEL_FREE if (f := first.figures(row, figures))],
        "differences": [
            {"row": f"{one.name} - {other.name}", "figures": {f: _difference(one, other, f) for f in figures}}
            for one, other in pairs
        ],
    }


def _chosen(by: str | None, figures: Sequence[str]) -> str:
    named = [figure for figure in figures if (by or "fd") in (figure, figure.partition("[")[0])]
    if not named and (by or not figures):
        raise unknown("figure", by, figures)
    return (named or figures)[0]


def _column(figure: str) -> Column:
    published = {name: metrics[bare] for bare, name in PUBLISHED.items() if bare in metrics}
    known: dict[str, Column] = {"query_loss": QueryLoss(), **published, **metrics}
    bare = figure.partition("[")[0]
    if bare not in known:
        raise unknown("figure", figure, known)
    return known[bare]


def _badness(entry: Entry, figure: str) -> float:
    """What the league is in ascending order of; what is no number comes last."""
    mean, best = entry.row("adapted")["figures"][figure]["mean"], _column(figure).best
    human = entry.row("human")["figures"][figure]["mean"] if best == "human" else 0.0
    if None in (mean, human) or math.isnan(mean):
        return math.inf
    if best == "human":
        return abs(mean - human)
    return mean if best == "low" else -mean


def _models(ranked: Sequence[Entry], figures: Sequence[str]) -> list[dict[str, Any]]:
    costs = [(entry.result.get("studies") or {}).get("cost") or {} for entry in ranked]
    alike = len({entry.result["environment"]["hardware"] for entry in ranked}) == 1  # a cost is one of a machine
    told = [key for key in COST if alike and all(key in cost for cost in costs)]
    return [
        {
            "row": entry.name,
            "steps": entry.row("adapted").get("steps"),
            "weights_sha256": entry.result["model"].get("weights_sha256"),
            "figures": {**entry.figures("adapted", figures), **{key: cost[key] for key in told}},
        }
        for entry, cost in zip(ranked, costs, strict=True)
    ]


def _difference(one: Entry, other: Entry, figure: str) -> dict[str, Any]:
    """One model less another, paired by task; `clear` says that zero is outside the interval."""
    paired = one.values[f"adapted/{figure}"] - other.values[f"adapted/{figure}"]
    found = _column(figure).interval(paired, one.result["tasks"], one.values.get(f"scale/{figure}"))
    return {**asdict(found), "clear": found.low > 0 or found.high < 0}


# what people read


def table(found: Mapping[str, Any]) -> str:
    """A league as text."""
    lines = Table("", "N", *_columns(found).values(), title=_about(found))
    for rows in _sections(found).values():
        for row in rows:
            lines.add_row(*_cells(found, row))
        lines.add_section()
    return as_text(lines)


def markdown(found: Mapping[str, Any]) -> str:
    """A league as Markdown."""
    headings = ["", "N", *_columns(found).values()]
    lines = [f"# League table\n\n{_about(found)}"]
    for section, rows in _sections(found).items():
        lines += [f"\n## {section}\n", _line(headings), "|---" * len(headings) + "|"]
        lines += [_line(_cells(found, row)) for row in rows]
    return "\n".join(lines) + "\n"


def table_csv(found: Mapping[str, Any]) -> str:
    """A league as CSV: every figure in full, with the ends of its interval in columns of their own."""
    figures, parts = found["models"][0]["figures"], ("mean", "low", "high")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [figure if part == "mean" else f"{figure} {part}" for figure in figures for part in parts]
    writer.writerow(["section", "row", "N", *names])
    for section, rows in _sections(found).items():
        for row in rows:
            numbers = [row["figures"].get(figure, {}).get(part) for figure in figures for part in parts]
            writer.writerow([section, row["row"], row.get("steps"), *numbers])
    return text.getvalue()


def _about(found: Mapping[str, Any]) -> str:
    measured = found["measured"]
    seen = " and ".join(extractor["name"] for extractor in measured["extractors"]) or "no extractor"
    best = "nearest to human" if found["best"] == "human" else found["best"]
    return (
        f"{measured['number of tasks']} {measured['split']} tasks, {measured['shots']} shots, through {seen}; "
        f"by {found['by']}, {best} is best; ± half the 95 % interval; differences are paired by task, "
        "* where the interval is clear of zero"
    )


def _sections(found: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    sections = {"models": found["models"], "no model": found["model_free"], "differences": found["differences"]}
    return {name: rows for name, rows in sections.items() if rows}


def _columns(found: Mapping[str, Any]) -> dict[str, str]:
    """The figures that are shown with their headings, that of the order first; the others stand in CSV and JSON."""
    headed = shown(found["models"], COLUMNS | COST)
    return {found["by"]: headed.get(found["by"], found["by"]), **headed}


def _cells(found: Mapping[str, Any], row: Mapping[str, Any]) -> list[str]:
    """A row as it is shown."""
    figures = row["figures"]
    cells = [short(figures[f]) + " *" * figures[f].get("clear", False) if f in figures else "" for f in _columns(found)]
    return [row["row"], "" if row.get("steps") is None else str(row["steps"]), *cells]


def _line(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"
