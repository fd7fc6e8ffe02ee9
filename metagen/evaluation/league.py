"""`metagen compare`: a league table of evaluated models, whose differences are paired by task."""

from __future__ import annotations

import csv
import io
import math
import os
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from rich.table import Table
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors

from metagen.errors import MetagenError, unknown
from metagen.evaluation.trial import MODEL_FREE
from metagen.metrics import Column, QueryLoss, metrics
from metagen.metrics.naming import PUBLISHED
from metagen.report.headings import HEADINGS
from metagen.report.next_steps import Command, adaptation, next_steps, sibling
from metagen.report.result import (
    Estimate,
    League,
    LeagueRow,
    Result,
    Row,
    TaskEstimate,
    estimate,
    read_result,
    row_named,
)
from metagen.report.tables import RESULT, as_text, difference_cell, markdown_table, shown
from metagen.storage.artifacts import read_config
from metagen.storage.files import check_free, fresh_folder, placed, write_atomically
from metagen.storage.strict_json import finite, number, page

VALUES = "values.safetensors"
# The keys that have to be equal in two results, as a message calls them.
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
# Figures that a table shows; the others stand in CSV and JSON.
SHOWN = ("query_loss", "fid", "fd", "kid", "energy", "recognisability", "diversity_relative", "copy_ratio")
COST = {"seconds": "seconds a task", "peak_mib": "peak MiB"}  # of result["studies"]["cost"]; its steps are N


class Entry(NamedTuple):
    """An evaluated model.

    Attributes:
        name: in the table.
        result: what `metagen evaluate` wrote of it.
        values: what its figures come from, by "ROW/FIGURE" and "scale/FIGURE".
    """

    name: str
    result: Result
    values: dict[str, torch.Tensor]

    @property
    def adapted(self) -> Row:
        """The row of the model as it adapts, without any figure if there is none."""
        empty: Row = {"row": "adapted", "steps": None, "seconds": None, "diverged": None, "figures": {}}
        return row_named(self.result["rows"], "adapted") or empty

    def figures(self, name: str, figures: Sequence[str]) -> dict[str, TaskEstimate]:
        """Those of the figures that a row has; none of a row that is not there."""
        row = row_named(self.result["rows"], name)
        known = row["figures"] if row else {}
        return {figure: known[figure] for figure in figures if figure in known}


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
    folders = find_each(given)
    if out:
        check_free(out, overwrite, folders)
    entries = read(folders)
    ranking = cast(League, finite(league(entries, by)))
    if out:
        texts = {"md": markdown(ranking), "csv": table_csv(ranking), "json": page(ranking).decode()}
        with fresh_folder(out, overwrite) as folder:
            for ending, text in texts.items():
                write_atomically(folder / f"league.{ending}", text.encode())
    print(table(ranking))
    first = ranking["models"][0]["row"]
    print(f"first by {ranking['by']}: {first}")
    if out:
        print(f"wrote league.md, league.csv and league.json to {out}")
    leader = folders[[entry.name for entry in entries].index(first)]
    print(next_steps(*_proposed(given, leader, out)))


def _proposed(given: Sequence[str], leader: Path, out: Path | None) -> list[Command]:
    """The commands that follow a league: keep the table, and adapt the leader, or the model of a name to fill in."""
    export = leader.with_name("export")
    table_files: list[Command] = [] if out else [["compare", *given, "--out", "league/"]]
    return [*table_files, adaptation(export if export.is_dir() else "MODEL/", sibling(leader, "adapted"))]


# finding and reading


def find(given: Path) -> Path:
    """The folder of a result: itself, its result.json, or a run or exported model with just one result of it near by.

    Raises:
        MetagenError: there is none, or more than one.
    """
    if (given / RESULT).is_file() or (given.is_file() and given.name == RESULT.name):
        return given if given.is_dir() else given.parent
    model = given if (given / "model.safetensors").is_file() else given / "export"
    saved = (model / "model.safetensors").is_file()
    folders = sorted({path.parent for root in (model, model.parent) for path in root.glob(f"*/{RESULT}")})
    if saved:  # what is near by may be of another model, or of an older export
        weights = read_config(model)["weights_sha256"]
        folders = [folder for folder in folders if _weights_of(folder) == weights]
    if len(folders) == 1:
        return folders[0]
    if folders:
        raise MetagenError(f"{given}: has {len(folders)} results; name one of {', '.join(map(str, folders))}")
    if not saved:
        raise MetagenError(f"{given}: no result of metagen evaluate, no run and no exported model; name one of these")
    out = model.with_name("evaluation" if model.name == "export" else f"{model.name}-evaluation")
    raise MetagenError(f"{given}: was not evaluated yet: {_command(model, out)}")


def find_each(given: Sequence[str]) -> list[Path]:
    """The folders of two or more results, in the order given.

    Raises:
        MetagenError: there are fewer, one is given twice, or see `find`.
    """
    if len(given) < 2:
        raise MetagenError(f"compare: expected 2 or more results, got {len(given)}")
    folders = [find(placed(each)) for each in given]
    places = [Path(os.path.realpath(folder)) for folder in folders]
    twice = [each for place, each in zip(places, given, strict=True) if places.count(place) > 1]
    if twice:
        raise MetagenError(f"{' and '.join(twice)}: are the same result; name each once")
    return folders


def read(folders: Sequence[Path]) -> list[Entry]:
    """The entries, in the order given, each named by the shortest part of its path that tells it from the others.

    Raises:
        MetagenError: a result is damaged or measured otherwise than the first.
    """
    names = _names([Path(os.path.realpath(folder)) for folder in folders])
    entries = [Entry(name, *_contents(folder)) for name, folder in zip(names, folders, strict=True)]
    for entry in entries[1:]:
        _check_alike(entries[0], entry)
    return entries


def _names(places: Sequence[Path]) -> list[str]:
    longest = max(len(place.parts) for place in places)
    windows = (slice(start, start + n) for n in range(1, longest + 1) for start in range(longest))
    named = (["/".join(place.parts[window]) for place in places] for window in windows)
    return next(names for names in named if all(names) and len(set(names)) == len(names))


def _weights_of(folder: Path) -> str | None:
    model = read_result(folder / RESULT).get("model")
    return model.get("weights_sha256") if model else None


def _contents(folder: Path) -> tuple[Result, dict[str, torch.Tensor]]:
    result, export = read_result(folder / RESULT), folder.parent / "export"
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


def _protocol(result: Result) -> dict[str, Any]:
    """The circumstances of a measurement, as a message calls them."""
    extractors = {each["name"]: each["weights_sha256"] for each in result["extractors"]}
    images = {f"image {option}": result["data"].get(option) for option in IMAGES}
    by_key: Mapping[str, Any] = result
    return {**{name: by_key[key] for key, name in ALIKE.items()}, "extractors": extractors, **images}


def _check_alike(first: Entry, other: Entry) -> None:
    """Refuse two models that were not judged by the same images in the same way."""
    expected, got = _protocol(first.result), _protocol(other.result)
    differ = [
        f"{key} ({reprlib.repr(got[key])}, not {reprlib.repr(expected[key])})"
        for key in expected
        if expected[key] != got[key]
    ]
    if differ:
        raise MetagenError(
            f"{other.name}: measured otherwise than {first.name}: {', '.join(differ)}; evaluate them alike"
        )
    figures = _shared([first, other])
    for row in MODEL_FREE:
        ours, theirs = first.figures(row, figures), other.figures(row, figures)
        for figure in ours:
            if not _agree(ours[figure], theirs[figure]):
                raise MetagenError(
                    f"{other.name}: its row {row!r}, which needs no model, has {figure} "
                    f"{number(theirs[figure]['mean']):.4g}, and that of {first.name} "
                    f"{number(ours[figure]['mean']):.4g}: the images differ; evaluate on the same ones"
                )


def _agree(one: Estimate, other: Estimate) -> bool:
    """Whether two figures differ by rounding alone, as they may on two machines: little beside their interval."""
    if one["mean"] is None or other["mean"] is None:
        return one["mean"] is other["mean"]
    interval = 0.0 if one["high"] is None or one["low"] is None else one["high"] - one["low"]
    room = 0.01 * interval + 1e-4 * abs(one["mean"]) + 1e-6
    return abs(one["mean"] - other["mean"]) <= room


def _shared(entries: Sequence[Entry]) -> list[str]:
    """The figures of adapted rows that all have, with their values."""
    first, *others = ({f for f in entry.adapted["figures"] if f"adapted/{f}" in entry.values} for entry in entries)
    return [figure for figure in entries[0].adapted["figures"] if figure in first.intersection(*others)]


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
    values, figures = dict(first.values), {}
    for figure in _shared(entries):
        key, scale = f"adapted/{figure}", first.values.get(f"scale/{figure}")
        values[key] = torch.stack([entry.values[key] for entry in entries]).mean(0)
        figures[figure] = estimate(_column(figure).interval(values[key], first.result["tasks"], scale))
    adapted: Row = {**first.adapted, "figures": figures}
    model_free = [row for name in MODEL_FREE if (row := row_named(first.result["rows"], name))]
    result: Result = {**first.result, "rows": [adapted, *model_free]}
    return Entry(name, result, values)


def league(entries: Sequence[Entry], by: str | None = None) -> League:
    """Models in order, what needs no model, and paired differences: from the leader, and between neighbours.

    Args:
        entries: two or more models that were measured alike.
        by: the figure to order by, such as "fd" or "fd[omniglot-report]"; None for the first "fd", if there is one.

    Returns:
        JSON-ready data; a difference's figures tell whether their interval is `clear` of zero.

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
            {"row": f"{one.name} - {other.name}", "figures": {f: difference(one, other, f) for f in figures}}
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
    """The league is in ascending order of it; a figure that is no number comes last."""
    mean, best = entry.adapted["figures"][figure]["mean"], _column(figure).best
    human = _mean_of_human(entry, figure) if best == "human" else 0.0
    if mean is None or human is None or math.isnan(mean):
        return math.inf
    if best == "human":
        return abs(mean - human)
    return mean if best == "low" else -mean


def _mean_of_human(entry: Entry, figure: str) -> float | None:
    return entry.figures("human", [figure])[figure]["mean"]


def _models(ranked: Sequence[Entry], figures: Sequence[str]) -> list[LeagueRow]:
    costs: list[Mapping[str, Any]] = [(entry.result.get("studies") or {}).get("cost") or {} for entry in ranked]
    alike = len({entry.result["environment"]["hardware"] for entry in ranked}) == 1  # a cost is one of a machine
    shown_costs = [key for key in COST if alike and all(key in cost for cost in costs)]
    return [
        {
            "row": entry.name,
            "steps": entry.adapted.get("steps"),
            "weights_sha256": entry.result["model"].get("weights_sha256"),
            "figures": {**entry.figures("adapted", figures), **{key: cost[key] for key in shown_costs}},
        }
        for entry, cost in zip(ranked, costs, strict=True)
    ]


def difference(one: Entry, other: Entry, figure: str) -> TaskEstimate:
    """One model less another, paired by task; `clear` says that zero is outside the interval."""
    paired = one.values[f"adapted/{figure}"] - other.values[f"adapted/{figure}"]
    interval = _column(figure).interval(paired, one.result["tasks"], one.values.get(f"scale/{figure}"))
    return {**estimate(interval), "clear": interval.low > 0 or interval.high < 0}


# what people read


def table(ranking: League) -> str:
    """A league as text."""
    lines = Table("", "N", *_columns(ranking).values(), title=_about(ranking))
    for rows in _sections(ranking).values():
        for row in rows:
            lines.add_row(*_cells(ranking, row))
        lines.add_section()
    return as_text(lines)


def markdown(ranking: League) -> str:
    """A league as Markdown."""
    headings = ["", "N", *_columns(ranking).values()]
    lines = [f"# League table\n\n{_about(ranking)}"]
    for section, rows in _sections(ranking).items():
        lines += [f"\n## {section}\n", *markdown_table(headings, (_cells(ranking, row) for row in rows))]
    return "\n".join(lines) + "\n"


def table_csv(ranking: League) -> str:
    """A league as CSV: every figure in full, with the ends of its interval in columns of their own."""
    figures, parts = ranking["models"][0]["figures"], ("mean", "low", "high")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [figure if part == "mean" else f"{figure} {part}" for figure in figures for part in parts]
    writer.writerow(["section", "row", "N", *names])
    for section, rows in _sections(ranking).items():
        for row in rows:
            known: Mapping[str, Mapping[str, Any]] = row["figures"]
            numbers = [known.get(figure, {}).get(part) for figure in figures for part in parts]
            writer.writerow([section, row["row"], row.get("steps"), *numbers])
    return text.getvalue()


def _about(ranking: League) -> str:
    measured = ranking["measured"]
    through = " and ".join(extractor["name"] for extractor in measured["extractors"]) or "no extractor"
    best = "nearest to human" if ranking["best"] == "human" else ranking["best"]
    return (
        f"{measured['number of tasks']} {measured['split']} tasks, {measured['shots']} shots, through {through}; "
        f"by {ranking['by']}, {best} is best; ± half the 95 % interval; differences are paired by task, "
        "* where the interval is clear of zero"
    )


def _sections(ranking: League) -> dict[str, list[LeagueRow]]:
    sections = {"models": ranking["models"], "no model": ranking["model_free"], "differences": ranking["differences"]}
    return {name: rows for name, rows in sections.items() if rows}


def _columns(ranking: League) -> dict[str, str]:
    """The figures that are shown with their headings, that of the order first; the others stand in CSV and JSON."""
    headed = shown(ranking["models"], {name: HEADINGS[name].title for name in SHOWN} | COST)
    return {ranking["by"]: headed.get(ranking["by"], ranking["by"]), **headed}


def _cells(ranking: League, row: LeagueRow) -> list[str]:
    """A row as it is shown."""
    cells = [difference_cell(row["figures"].get(figure)) for figure in _columns(ranking)]
    return [row["row"], "" if row.get("steps") is None else str(row["steps"]), *cells]
