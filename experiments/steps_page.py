"""Write results/steps/README.md: what steps on the weights add to context, by kind of tasks.

    python -m experiments.steps_page [--out results/steps]

Of several seeds the first is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from experiments.league_plans import AUGMENTED
from experiments.pages import RESULTS, paragraphs, row_of, write_page
from experiments.runs import parser
from experiments.steps import FIGURES, STEPS, Place, places
from metagen.learners import adapt_tasks, learners
from metagen.model import load_base
from metagen.report.headings import HEADINGS
from metagen.report.result import TaskEstimate
from metagen.report.tables import by_column, difference_cell, markdown_table, with_ends
from metagen.storage.strict_json import number, read_json

RANKED, RANKED_SHOTS = ("omniglot", "glyphs", "digits", "typefaces"), 5  # where every row is measured
DRAWN, MOST_SHOWN = "fine-tune: cross-attention, augmented", 10  # of the curves: the row, and the number of images
SHOWN = ("query_loss", *FIGURES)
FOLDER = RESULTS / "steps"
WITH, WITHOUT, OTHER = "adapted", "context only", "another task's support"
TRAINED = (
    "The other rows are meta-trained from it on train tasks of all kinds, with meta-gradients of {seconds:g} processor "
    "seconds; their steps are augmented, too. "
)
PREAMBLE = """# Where do steps on the weights do what context cannot?

Made by `python -m experiments.steps_page` from the files in rows/, which `python -m experiments.steps --root DIR` wrote
(the tasks by `python -m experiments.shifts --root DIR`; each file names its options and revision).

All rows begin from the bundled model `omniglot`, which draws from its support without any step. Rows *fine-tune* take
steps of Adam on a part of it as it is; *augmented*: each step sees the support through one random affine map, at the
rate of the row without. {trained}The rate and what moves were chosen on val tasks of each kind, and the number of steps
N on val tasks of that kind and number of shots, up to 10, of augmented rows up to 40. Sampling options were chosen on
val tasks of each kind, of the model without steps and after 20 of them, and are the same for all rows. They were
chosen on all val tasks at hand up to 12; of letters for the row *cross-attention, augmented* at 10 shots, on 40. The
samples of rows *fine-tune* at 5 shots, on photographs and on hands are from before: after steps as without.

*Query loss* is that after N steps, in nats an image. All other figures are that of the model after N steps less that of
the same model without any: same tasks, same draws, with half the 95 % interval over tasks; * where it is clear of zero.
All but the loss are through `{extractor}`. *Another's support*: the query loss after steps on another task's images,
less that after its own. Rows of as many test tasks are of the same ones. {hardware}, one thread a row, beside other
work.
"""


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows, by name."""
    rows = [read_json(path) for path in sorted((folder / "rows").glob("*.json"))]
    if not rows:
        raise SystemExit(f"{folder}: holds no row; run experiments.steps first")
    return rows


def results_at(rows: Sequence[dict[str, Any]], kind: str, shots: int) -> list[tuple[str, dict[str, Any]]]:
    """Each row's name and result of the first seed at so many shots, the largest gain in query loss first."""
    found = [(row["name"], row["by_seed"]["0"]["places"].get(kind, {}).get(str(shots))) for row in rows]
    there = [(name, result) for name, result in found if result and result["steps"]]
    return sorted(there, key=lambda each: number(gained(each[1])["query_loss"]["mean"]))


def gained(result: Mapping[str, Any], other: str = WITHOUT) -> dict[str, Any]:
    """The figures of the adapted row less those of another."""
    named = {each["row"]: each["figures"] for each in result["differences"]}
    figures = by_column(named[f"{WITH} - {other}"])
    return {
        name: {**each, "clear": number(each["low"]) > 0 or number(each["high"]) < 0} for name, each in figures.items()
    }


def table(found: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """Rows of learners, with the change by their steps; below them the figures without steps, and of real images."""
    shown_of = {name: HEADINGS[name].title for name in SHOWN}
    headings = ["", "tasks", "N", "query loss", "change", *[*shown_of.values()][1:], "another's support", "ms a task"]
    lines: list[list[object]] = []
    for name, result in found:
        figures, own = gained(result), gained(result, OTHER)["query_loss"]
        ends = {"mean": -number(own["mean"]), "low": -number(own["high"]), "high": -number(own["low"])}
        lost: TaskEstimate = {**own, **ends}  # type: ignore[typeddict-item]
        took = row_of(result, WITH)["seconds"] / result["tasks"]
        shown = [difference_cell(figures.get(column)) for column in SHOWN]
        after = by_column(row_of(result, WITH)["figures"])["query_loss"]["mean"]
        about = [name, result["tasks"], result["steps"], f"{after:.1f}"]
        lines.append([*about, *shown, difference_cell(lost), f"{1000 * took:.0f}"])
    first = found[0][1]
    for row, title in ((WITHOUT, "*no step*, of the first"), ("human", "*real images*"), ("affine x1", "*affine x1*")):
        figures = by_column(row_of(first, row)["figures"])
        shown = [with_ends(figures.get(column), HEADINGS[column].digits) for column in SHOWN]
        lines.append([title, first["tasks"], "", "", *shown, "", ""])
    return markdown_table(headings, lines)


def ranking(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """All rows in one table: the query loss without and after steps of each kind of tasks, the least mean first."""
    found: dict[str, list[tuple[float, float]]] = {}
    for kind in RANKED:
        for name, result in results_at(rows, kind, RANKED_SHOTS):
            figures = [by_column(row_of(result, row)["figures"])["query_loss"] for row in (WITHOUT, WITH)]
            found.setdefault(name, []).append((number(figures[0]["mean"]), number(figures[1]["mean"])))
    means = {name: sum(after for _, after in losses) / len(losses) for name, losses in found.items()}
    whole = sorted((name for name, losses in found.items() if len(losses) == len(RANKED)), key=means.__getitem__)
    lines = [[name, *(f"{a:.1f} to {b:.1f}" for a, b in found[name]), f"{means[name]:.1f}"] for name in whole]
    if lines:
        yield f"## All rows: query loss without and after steps, {RANKED_SHOTS} shots\n"
        yield from markdown_table(["", *RANKED, "mean after"], lines)
        yield ""


def sections(rows: Sequence[dict[str, Any]], kinds: Mapping[str, Place]) -> Iterator[str]:
    """A table for each kind of tasks and number of shots, the most shots first."""
    for kind, place in kinds.items():
        for shots in sorted(place.shots, reverse=True):
            if found := results_at(rows, kind, shots):
                yield f"## {kind.capitalize()}: {place.title}, {shots} shots\n"
                yield from table(found)
                yield ""


def curves(rows: Sequence[dict[str, Any]], kinds: Mapping[str, Place], name: str) -> Figure:
    """The change of the query loss by steps: of val tasks against their number, of test tasks against images."""
    places_of = next(row for row in rows if row["name"] == name)["by_seed"]["0"]["places"]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(
        xlabel=f"inner steps N, {MOST_SHOWN} images, val tasks",
        ylabel="query loss less that of no step, nats",
        xscale="symlog",
    )
    right.set(xlabel="images k, N chosen on val tasks", xscale="log", yscale="symlog")
    for kind in kinds:
        by_shots = {int(shots): result for shots, result in places_of.get(kind, {}).items()}
        curve = {int(n): loss for n, loss in by_shots.get(MOST_SHOWN, {}).get("val", {}).items()}
        left.plot([*curve], [loss - curve[0] for loss in curve.values()], marker="o", label=kind)
        moved = {k: gained(by_shots[k])["query_loss"] for k in sorted(by_shots) if by_shots[k]["steps"]}
        means = [each["mean"] for each in moved.values()]
        ends = [[each["mean"] - each["low"], each["high"] - each["mean"]] for each in moved.values()]
        right.errorbar([*moved], means, np.array(ends).T if ends else None, marker="o", capsize=3, label=kind)
    left.set_xticks([0, *STEPS], [str(n) for n in (0, *STEPS)])
    ticks = sorted({k for place in kinds.values() for k in place.shots})
    right.set_xticks(ticks, [str(k) for k in ticks])
    left.legend()
    for axes in (left, right):
        axes.axhline(0, color="black", linewidth=0.5)
    return figure


def costs(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of learners, with their options and their cost."""
    lines = []
    for row in rows:
        cost, training = row["training_cost"], row["by_seed"]["0"]["training"]
        chosen = ", ".join(f"{name} {value}" for name, value in row["options"].items())
        took = [f"{training['seconds']:.0f}", f"{1000 * cost['step_seconds']:.0f}"] if cost else ["", ""]
        lines.append([row["name"], chosen, f"{stored(row) / 1000:.0f}", training["meta_steps"] if cost else "", *took])
    headings = ["", "chosen on val", "kB an adapted model", "meta-steps", "s to train", "ms a meta-step"]
    return markdown_table(headings, lines)


def stored(row: Mapping[str, Any]) -> int:
    """The bytes of what moves in an adapted model."""
    options = {name: value for name, value in row["options"].items() if name not in AUGMENTED}
    learner = learners[row["learner"]](load_base("omniglot").learner.generator, **options)
    adapted = adapt_tasks(learner.eval(), torch.zeros(1, 2, 1, 28, 28), (0, "size"), steps=1)
    return sum(moved.numel() * moved.element_size() for moved in adapted.difference.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=FOLDER, help="folder of the result")
    folder = options.parse_args(argv).out
    rows, kinds = read(folder), places("", Path())
    first = next(iter(next(iter(rows[0]["by_seed"]["0"]["places"].values())).values()))
    about = {"trained": TRAINED.format(seconds=rows[0]["seconds"]) if any(row["training_cost"] for row in rows) else ""}
    hardware = {"hardware": first["environment"]["hardware"], "extractor": first["extractors"][0]["name"]}
    lines = [paragraphs(PREAMBLE.format(**about, **hardware)), *ranking(rows), *sections(rows, kinds)]
    drawn = {"curves.png": curves(rows, kinds, DRAWN)} if any(row["name"] == DRAWN for row in rows) else {}
    lines += [f"![Against N and k]({name})\n" for name in drawn]
    lines += ["## What was chosen, and what it costs\n", *costs(rows)]
    write_page(folder, lines, drawn)


if __name__ == "__main__":
    main()
