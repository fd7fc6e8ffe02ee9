"""Write README.md and plane.png of one model from its result files of `metagen evaluate`.

    python experiments/scorecard.py runs/omniglot/evaluation-*/result.json \
        --beside runs/omniglot-redraw/evaluation-*/result.json

The files are of one model at several numbers of shots, and of another one on the same tasks for the row beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.pages import JITTER, RESULTS, paragraphs, result_table, write_page
from experiments.runs import parser
from metagen.evaluation.league import ALIKE
from metagen.report.next_steps import counted
from metagen.report.result import Difference, Result, Row, read_result, row_named
from metagen.report.tables import by_column
from metagen.storage.strict_json import number

COLUMNS = (
    *("fd", "recognisability", "diversity_relative", "diversity"),
    *("near_copies", "copy_ratio", "query_loss"),
)
CURVE = ("copy", JITTER, "affine x1.5")  # a support image moved ever further
ROWS = {"human": "people", "reconstruction": "reconstruction", **{name: name for name in (*CURVE[1:], CURVE[0])}}
X, Y = "diversity_relative", "recognisability"
# Diversity over that of people's drawings in the same figure, recognisability in %, as read from the published figures.
RAW, NORMALISED, PUBLISHED_PEOPLE = 1.29, 0.39, 97.5
PUBLISHED = {
    "VAE-NS": (1.75 / RAW, 85.0),
    "VAE-STN": (2.05 / RAW, 74.8),
    "DA-GAN UNet": (0.32 / RAW, 88.3),
    "DA-GAN ResNet": (0.36 / RAW, 82.8),
    "DDPM": (0.50 / NORMALISED, 89.6),
    "FSDM": (0.49 / NORMALISED, 94.8),
    "CFGDM": (0.365 / NORMALISED, 96.8),
}
TASKS = {"omniglot": "characters of Omniglot", "glyphs": "letters of scripts that were held out, drawn from fonts"}
NOTES = {"glyphs": " Of these letters, *people* means other drawings from fonts."}
HEAD = """# Characters nobody was trained on: the scorecard of `{name}`

Made by `python experiments/scorecard.py RESULT.json ...` from result files of `metagen evaluate`. {tasks} {split}
{of_what} (split {split_hash}) through `{extractor}`, weights {weights}, seed {seed}; {hardware}.{sampling}{note}

Each figure has its 95 % interval over characters. Every row makes as many images as *people* have, and all are measured
against the same other drawings of people. *Reconstruction* is people's drawings through the model's encoder and back,
the ceiling of what it can draw; *affine* a random affine map of a support image, *copy* the support itself. The last
row is a difference, paired by character. The columns are explained in [evaluation.md](../../docs/evaluation.md). The
query loss compares models of one kind alone.
"""
CAPTION = """The plane of diversity and recognisability at {shots}, with 95 % intervals over characters. Best is where
people are. The grey line is the support itself, moved at random ever further (copy, affine x1, x1.5), which takes
no model at all."""
CROSSES = """ Crosses are published models, 1 shot, read from the figures of Boutin 2022 (arXiv:2205.10370, VAE and
DA-GAN) and Boutin 2023 (arXiv:2301.11722, the diffusion models). They were measured through other critics, at 50 px,
on another split, whose test characters are of alphabets that were seen. So all diversity is given relative to that of
people's drawings in the same place, and the cross *people, there* shows where those lie. Compare each by its distance
from its own people, and not in the last digit."""


class Model(NamedTuple):
    """A model's name and its results by the number of shots, in ascending order."""

    name: str
    results: Mapping[int, Result]


def read(name: str, paths: Sequence[Path]) -> Model:
    """The results of a model.

    Raises:
        SystemExit: two are of one number of shots, or they are of several models.
    """
    results = [read_result(path) for path in paths]
    by_shots = {result["shots"]: result for result in results}
    if len(by_shots) < len(results):
        raise SystemExit(f"{name}: expected one result for each number of shots; name each once")
    if len({result["model"]["weights_sha256"] for result in results}) > 1:
        raise SystemExit(f"{name}: the results are of several models; give another one's results after --beside")
    return Model(name, dict(sorted(by_shots.items())))


def check_alike(one: Result, other: Result) -> None:
    """Refuse two models that were not measured on the same images through the same extractor."""
    keys = {"extractor": [each["extractors"][0]["weights_sha256"] for each in (one, other)]}
    values: list[Mapping[str, object]] = [{**one}, {**other}]
    differ = [name for name, (ours, theirs) in keys.items() if ours != theirs]
    differ += [name for key, name in ALIKE.items() if values[0][key] != values[1][key]]
    if differ:
        raise SystemExit(
            f"{shots_of(one)}: the results differ in {', '.join(differ)}; evaluate both models with the same options"
        )


def shots_of(result: Result) -> str:
    """The number of shots, in words."""
    return counted(result["shots"], "shot")


def rows_of(model: Model, beside: Model, shots: int) -> list[tuple[str, Difference]]:
    """Rows of the table at one number of shots, with their names there."""
    result, other, name = model.results[shots], beside.results.get(shots), model.name
    rows: dict[str, Difference | None] = {title: row_named(result["rows"], row) for row, title in ROWS.items()}
    rows[beside.name] = row_named(other["rows"], "adapted") if other else None
    rows[f"**{name}**"] = row_named(result["rows"], "adapted")
    rows[f"{name} - {JITTER}"] = row_named(result["differences"], f"adapted - {JITTER}")
    return [(title, row) for title, row in rows.items() if row]


def head(name: str, result: Result) -> str:
    """The page's head: model, tasks, hardware."""
    model = result["model"]
    chosen = model.get("sampling", {}).get("chosen", {})
    details = {
        "split_hash": result["split_sha256"][:12],
        "extractor": result["extractors"][0]["name"],
        "weights": model["weights_sha256"][:12],
        "hardware": result["environment"]["hardware"],
        "sampling": f" Sampled with {', '.join(f'{key} {value:g}' for key, value in chosen.items())}." * bool(chosen),
        "of_what": TASKS[result["data"]["task_set"]],
        "note": NOTES.get(result["data"]["task_set"], ""),
    }
    return paragraphs(HEAD.format(**{**result, **details, "name": name}))


def page_lines(model: Model, beside: Model) -> list[str]:
    """The page of a model."""
    first = next(iter(model.results.values()))
    lines = [head(model.name, first)]
    for shots, result in model.results.items():
        images = f"{result['queries']} drawings a character beside the support, {result['made']} images a row."
        table = result_table(rows_of(model, beside, shots), COLUMNS)
        lines += [f"## {shots_of(result).capitalize()}\n", images, "", *table, ""]
    caption = CAPTION.format(shots=shots_of(first)) + CROSSES * (first["data"]["task_set"] == "omniglot")
    return [*lines, "## The plane\n", "![Diversity against recognisability](plane.png)\n", paragraphs(caption)]


def place(row: Row) -> list[dict[str, float]]:
    """The two figures of a row."""
    figures = by_column(row["figures"])
    return [{key: number(figures[axis][key]) for key in ("mean", "low", "high")} for axis in (X, Y)]


def point(axes: Axes, row: Row | None, label: str, colour: str, marker: str) -> None:
    """Draw a row as a point with the intervals of both figures."""
    if row is not None:
        x, y = place(row)
        reach = [[[max(0, f["mean"] - f["low"])], [max(0, f["high"] - f["mean"])]] for f in (x, y)]  # rounding: -1e-14
        style: dict[str, Any] = {"color": colour, "label": label, "capsize": 2, "markersize": 8, "zorder": 3}
        axes.errorbar(x["mean"], y["mean"], reach[1], reach[0], marker, **style)


def add_published(axes: Axes) -> None:
    """Draw crosses for published models."""
    theirs = {**PUBLISHED, "people, there": (1.0, PUBLISHED_PEOPLE)}
    axes.plot(*zip(*((100 * x, y) for x, y in theirs.values()), strict=True), "kx", label="published, other critics")
    for each, (x, y) in theirs.items():
        offset, side = ((-6, -3), "right") if x < 1 else ((6, -3), "left")
        axes.annotate(each, (100 * x, y), xytext=offset, ha=side, textcoords="offset points", fontsize=8)


def plane(model: Model, beside: Model) -> Figure:
    """Diversity against recognisability at the fewest shots."""
    shots, result = next(iter(model.results.items()))
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="diversity, % of people's drawings", ylabel="recognised among 20 characters, %",
        title=f"{result['tasks']} {result['split']} characters, {shots_of(result)}",
    )  # fmt: skip
    rows = {row["row"]: row for row in result["rows"]}
    spots = {name: [axis["mean"] for axis in place(rows[name])] for name in CURVE if name in rows}
    axes.plot(*zip(*spots.values(), strict=True), "o-", color="grey", label="support moved at random")
    for name, spot in spots.items():
        axes.annotate(name, (spot[0], spot[1]), xytext=(6, -12), textcoords="offset points", color="grey", fontsize=8)
    if result["data"]["task_set"] == "omniglot":
        add_published(axes)
    axes.margins(x=0.12)
    point(axes, rows.get("human"), "people", "C2", "*")
    point(axes, rows.get("reconstruction"), "reconstruction", "C9", "d")
    if shots in beside.results:
        point(axes, row_named(beside.results[shots]["rows"], "adapted"), beside.name, "C1", "s")
    point(axes, rows.get("adapted"), model.name, "C3", "D")
    axes.legend(loc="lower left")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page and the picture."""
    options = parser(__doc__)
    options.add_argument("results", nargs="+", type=Path, help="result files of the model, one a number of shots")
    options.add_argument("--beside", nargs="*", type=Path, default=[], help="result files of the other model")
    options.add_argument("--name", default="omniglot", help="name of the model")
    options.add_argument("--beside_name", default="omniglot-redraw", help="name of the other one")
    options.add_argument("--out", type=Path, default=RESULTS / "omniglot", help="folder of the page")
    given = options.parse_args(argv)
    model, beside = read(given.name, given.results), read(given.beside_name, given.beside)
    for shots in model.results.keys() & beside.results.keys():
        check_alike(model.results[shots], beside.results[shots])
    write_page(given.out, page_lines(model, beside), {"plane.png": plane(model, beside)})


if __name__ == "__main__":
    main()
