"""How much data an own folder needs: letters of fonts in folders of several sizes, for a model that never saw a font.

    python experiments/how_much_data.py --out results/how-much-data

Each folder goes through `metagen fit --data.root FOLDER --model.initial omniglot`; the result is evaluated on letters
of scripts that no folder has. What was fitted and evaluated before is not made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from experiments.pages import RESULTS, paragraphs, titles, write_page
from experiments.runs import evaluated, fitted, parser
from metagen.core.seeding import numpy_rng
from metagen.evaluation.league import Entry, difference, find_each, read
from metagen.report.result import TaskEstimate
from metagen.report.tables import by_column, markdown_table, short
from metagen.storage.artifacts import read_config
from metagen.storage.bundled import bundled
from metagen.storage.files import write_atomically
from metagen.storage.images import save_pngs, to_float
from metagen.storage.strict_json import page
from metagen.tasks import Glyphs

TASKS, IMAGES = (5, 20, 100, 400), (5, 10, 20)
BASE = "omniglot"
FIGURES = ("fd", "recognisability", "diversity_relative", "near_copies")
LOSS = "query_loss"
HEAD = paragraphs(
    """# How much data does an own folder need?

Made by `python experiments/how_much_data.py`; what it means stands in [how-much-data.md](../../docs/how-much-data.md).
{tasks} test letters of scripts that no folder has, from one image each; {hardware}, seed 0.

*Best step* is 0 where training made nothing better on the folder's own val tasks. *Nats* are those of an image less the
base's, paired by letter: below zero is better. ± is half a 95 % interval over letters. All figures: `result.json`."""
)
PICTURE = "![Nats and Frechet distance over the number of tasks](plot.png)"


class Run(NamedTuple):
    """A folder of letters, and the model that was fitted on it."""

    tasks: int
    images: int
    best_step: int
    entry: Entry


def write_folder(letters: Glyphs, tasks: int, images: int, place: Path) -> None:
    """Write the first drawings of some train letters as PNG files, one folder a letter; the few are among the many."""
    order = numpy_rng(0, "how much data").permutation(len(letters.split.train))[:tasks]
    for name in (letters.split.train[at] for at in order):
        (place / name).mkdir(parents=True, exist_ok=True)
        save_pngs(to_float(letters.images(name, range(images))), place / name)


def evaluate(model: Path, out: Path, limit: str) -> None:
    """Evaluate a model on held-out letters at one shot."""
    evaluated(model, out, *("--data.task_set", "glyphs", "--data.shots", 1, "--data.queries", 14, "--limit", limit))


def fit(letters: Glyphs, tasks: int, images: int, run: Path, more: Sequence[str]) -> None:
    """Let `metagen fit` make what it can of one folder."""
    folder = run.parent / "data" / run.name
    write_folder(letters, tasks, images, folder)
    fitted(run, "--data.root", folder, "--model.initial", BASE, *more)


def best_step(run: Path) -> int:
    """The meta-step of a run whose weights were the best on val tasks."""
    return int(read_config(run / "export", "model")["info"]["training"]["best_step"])


def table(runs: Sequence[Run], base: Entry) -> list[str]:
    """Lines of a table of all runs."""

    def cells(first: Sequence[object], figures: Mapping[str, TaskEstimate]) -> list[object]:
        return [*first, *(short(by_column(figures)[name]) for name in FIGURES)]

    rows = [cells([f"*{BASE}*, no folder", "", "", "0"], base.adapted["figures"])]
    for run in runs:
        nats = short(difference(run.entry, base, LOSS))
        rows.append(cells([run.tasks, run.images, run.best_step, nats], run.entry.adapted["figures"]))
    rows.append(cells(["*other real drawings*", "", "", ""], base.figures("human", [*base.adapted["figures"]])))
    headings = ["tasks", "images", "best step", "nats, less the base's", *titles(FIGURES)]
    return markdown_table(headings, rows)


def plot(runs: Sequence[Run], base: Entry) -> Figure:
    """Draw nats and Frechet distance over the number of tasks, a line for each number of images."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    nats, distance = figure.subplots(1, 2)
    for images in sorted({run.images for run in runs}):
        line = [run for run in runs if run.images == images]
        tasks, label = [run.tasks for run in line], f"{images} images each"
        nats.plot(tasks, [difference(run.entry, base, LOSS)["mean"] for run in line], "o-", label=label)
        distance.plot(tasks, [by_column(run.entry.adapted["figures"])["fd"]["mean"] for run in line], "o-")
    for axes, label in ((nats, "nats, less those of the base"), (distance, "Frechet distance")):
        axes.set(xscale="log", xlabel="tasks in the folder", ylabel=label)
        axes.set_xticks(sorted({run.tasks for run in runs}), labels=map(str, sorted({run.tasks for run in runs})))
        axes.minorticks_off()
    nats.legend(frameon=False)
    return figure


def write(out: Path, runs: Sequence[Run], base: Entry) -> None:
    """Write result.json, README.md and plot.png."""
    hardware = base.result["environment"]
    rows = [{"tasks": r.tasks, "images": r.images, "best_step": r.best_step, "row": r.entry.adapted} for r in runs]
    lines = [HEAD.format(tasks=base.result["tasks"], hardware=hardware["hardware"]), *table(runs, base), "", PICTURE]
    write_page(out, lines, {"plot.png": plot(runs, base)})
    write_atomically(out / "result.json", page({"base": base.adapted, "runs": rows, "environment": hardware}))


def main(argv: Sequence[str] | None = None) -> None:
    """Fit, evaluate and write the page."""
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=RESULTS / "how-much-data", help="folder of the page")
    options.add_argument("--runs", type=Path, default=Path("runs/how-much-data"), help="folder of the runs")
    options.add_argument("--tasks", type=int, nargs="+", default=TASKS)
    options.add_argument("--images", type=int, nargs="+", default=IMAGES)
    options.add_argument("--limit", default="null", help="test letters; null for all")
    options.add_argument("fit", nargs="*", help="more options of metagen fit, after --")
    given = options.parse_args(argv)
    letters, sizes = Glyphs(), [(tasks, images) for tasks in given.tasks for images in given.images]
    places = [given.runs / f"{tasks}x{images}" for tasks, images in sizes]
    evaluate(bundled("models", BASE), given.runs / BASE, given.limit)
    for size, run in zip(sizes, places, strict=True):
        fit(letters, *size, run, given.fit)
        evaluate(run / "export", run / "evaluation", given.limit)
    folders = find_each([str(given.runs / BASE), *(str(run / "evaluation") for run in places)])
    base, *entries = read(folders)
    runs = [Run(*size, best_step(run), entry) for size, run, entry in zip(sizes, places, entries, strict=True)]
    write(given.out, runs, base)


if __name__ == "__main__":
    main()
