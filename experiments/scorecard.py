"""Write docs/NAME.md and docs/NAME-plane.png of a model from result files of `metagen evaluate`; no figure is typed.

    python scripts/make_scorecard.py runs/omniglot/evaluation-*/result.json \
        --beside runs/omniglot-redraw/evaluation-*/result.json

The files are of one model at several numbers of shots, and of another one on the same tasks for the row beside it.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from league_beside import wrapped
from make_results import ROOT, Columns, bare, table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metagen.evaluation.league import ALIKE
from metagen.report.result import Difference, Result, Row, read_result, row_named
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import number

COLUMNS: Columns = {
    "fd": ("Frechet", 2),
    "recognisability": ("recognised %", 1),
    "diversity_relative": ("diversity % of people's", 1),
    "diversity": ("diversity", 3),
    "near_copies": ("near copies %", 1),
    "copy_ratio": ("copy ratio", 2),
    "query_loss": ("query loss", 2),
}
PEOPLE, CURVE = "human", ("copy", "affine x1", "affine x1.5")  # the curve: a support image moved ever further
ROWS = {PEOPLE: "people", "reconstruction": "reconstruction", **{name: name for name in (*CURVE[1:], CURVE[0])}}
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
HEAD = """# Characters nobody was trained on: the scorecard of `{name}`

Made by `python scripts/make_scorecard.py RESULT.json ...`; no figure here is typed. {tasks} {split} {of_what}
(split {split_hash}) through `{extractor}`, weights {weights}, seed {seed}; {hardware}.{sampling}

Each figure has its 95 % interval over characters. Every row makes as many images as *people* have, and all are judged
by the same other drawings of people. *Reconstruction* is people's drawings through the model's encoder and back, the
ceiling of what it can draw; *affine* a random affine map of a support image, *copy* the support itself. The last row
is a difference, paired by character. What each column means, and how it can fool you: [evaluation.md](evaluation.md).
The query loss compares models of one kind alone.
"""
CAPTION = """The plane of diversity and recognisability at {shots}, with 95 % intervals over characters. Best is where
people are. The grey line is the support itself, moved at random ever further (copy, affine x1, x1.5), which takes
no model at all."""
CROSSES = """ Crosses are published models, 1 shot, read from the figures of Boutin 2022 (arXiv:2205.10370, VAE and
DA-GAN) and Boutin 2023 (arXiv:2301.11722, the diffusion models). They were measured through other critics, at 50 px,
on another split, whose test characters are of alphabets that were seen. So all diversity is given relative to that of
people's drawings in the same place, and the cross *people, there* shows where those lie. Compare each by its distance
from its own people, and not in the last digit.
"""


def read(paths: Sequence[str]) -> dict[int, Result]:
    """Results by their number of shots, in ascending order.

    Raises:
        SystemExit: two are of one number of shots, or they are of several models.
    """
    results = [read_result(Path(path)) for path in paths]
    by_shots = {result["shots"]: result for result in results}
    if len(by_shots) < len(results):
        raise SystemExit(f"{', '.join(paths)}: expected one result for each number of shots; name each once")
    if len({result["model"]["weights_sha256"] for result in results}) > 1:
        raise SystemExit(f"{', '.join(paths)}: are of several models; give another one's results after --beside")
    return dict(sorted(by_shots.items()))


def check_alike(one: Result, other: Result) -> None:
    """Refuse two models that were not measured on the same images through the same extractor."""
    keys = {"extractor": [each["extractors"][0]["weights_sha256"] for each in (one, other)]}
    keys |= {said: [each[key] for each in (one, other)] for key, said in ALIKE.items()}
    differ = [said for said, (ours, theirs) in keys.items() if ours != theirs]
    if differ:
        raise SystemExit(f"{shots_of(one)}: the results differ in {', '.join(differ)}; measure both models alike")


def rows_of(result: Result, name: str, beside: tuple[str, Result] | None) -> dict[str, Difference]:
    """Rows of the table at one number of shots, by what they are called there."""
    rows: dict[str, Difference | None] = {said: row_named(result["rows"], each) for each, said in ROWS.items()}
    if beside:
        rows[beside[0]] = row_named(beside[1]["rows"], "adapted")
    rows[f"**{name}**"] = row_named(result["rows"], "adapted")
    rows[f"{name} - affine x1"] = row_named(result["differences"], "adapted - affine x1")
    return {said: each for said, each in rows.items() if each}


def shots_of(result: Result) -> str:
    """The number of shots, in words."""
    return f"{result['shots']} shot{'s' if result['shots'] > 1 else ''}"


def task_set(result: Result) -> str:
    """The name of the task set that was evaluated on."""
    return str(result["data"]["task_set"])


def head(name: str, result: Result) -> str:
    """The page's head: model, tasks, hardware."""
    model = result["model"]
    chosen = model.get("sampling", {}).get("chosen", {})
    sampling = f" Sampled with {', '.join(f'{key} {value:g}' for key, value in chosen.items())}." if chosen else ""
    details = {
        "split_hash": result["split_sha256"][:12],
        "extractor": result["extractors"][0]["name"],
        "weights": model["weights_sha256"][:12],
        "hardware": result["environment"]["hardware"],
        "sampling": sampling,
        "of_what": TASKS[task_set(result)],
    }
    return wrapped(HEAD.format(**{**result, **details, "name": name}))


def page(name: str, results: dict[int, Result], beside_name: str, beside: dict[int, Result]) -> str:
    """All of docs/NAME.md."""
    first = next(iter(results.values()))
    lines = [head(name, first)]
    for shots, result in results.items():
        other = (beside_name, beside[shots]) if shots in beside else None
        images = f"{result['queries']} drawings a character beside the support, {result['made']} images a row."
        lines += [f"## {shots_of(result).capitalize()}\n", images, ""]
        lines += [*table(rows_of(result, name, other).items(), "row", COLUMNS), ""]
    picture = f"![Diversity against recognisability]({name}-plane.png)"
    caption = CAPTION.format(shots=shots_of(first)) + (CROSSES if task_set(first) == "omniglot" else "\n")
    return "\n".join([*lines, "## The plane\n", picture, "", wrapped(caption)])


def place(row: Row) -> tuple[dict[str, float], dict[str, float]]:
    """The two figures of a row."""
    figures = bare(row["figures"])
    x, y = ({key: number(value) for key, value in figures[axis].items()} for axis in (X, Y))
    return x, y


def point(axes: Axes, row: Row, label: str, colour: str, marker: str) -> None:
    """A row as a point with the intervals of both figures."""
    x, y = place(row)
    reach = [[[max(0, f["mean"] - f["low"])], [max(0, f["high"] - f["mean"])]] for f in (x, y)]  # rounding: -1e-14
    axes.errorbar(
        x["mean"], y["mean"], reach[1], reach[0], marker, color=colour, label=label, capsize=2, markersize=8, zorder=3
    )


def add_published(axes: Axes) -> None:
    """Crosses for published models."""
    theirs = {**PUBLISHED, "people, there": (1.0, PUBLISHED_PEOPLE)}
    axes.plot(*zip(*((100 * x, y) for x, y in theirs.values()), strict=True), "kx", label="published, other critics")
    for each, (x, y) in theirs.items():
        aside = {"xytext": (-6, -3), "ha": "right"} if x < 1 else {"xytext": (6, -3)}
        axes.annotate(each, (100 * x, y), textcoords="offset points", fontsize=8, **aside)


def plane(name: str, result: Result, beside: tuple[str, Result] | None) -> bytes:
    """Diversity against recognisability, as a PNG file."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="diversity, % of people's drawings", ylabel="recognised among 20 characters, %",
        title=f"{result['tasks']} {result['split']} characters, {shots_of(result)}",
    )  # fmt: skip
    curve = {each: row for each in CURVE if (row := row_named(result["rows"], each))}
    spots = {each: tuple(axis["mean"] for axis in place(row)) for each, row in curve.items()}
    axes.plot(*zip(*spots.values(), strict=True), "o-", color="grey", label="support moved at random")
    for each, spot in spots.items():
        axes.annotate(each, spot, xytext=(6, -12), textcoords="offset points", color="grey", fontsize=8)
    if task_set(result) == "omniglot":
        add_published(axes)
    axes.margins(x=0.12)
    rows = result["rows"]
    shown = [(row_named(rows, PEOPLE), "people", "C2", "*")]
    shown += [(row_named(rows, "reconstruction"), "reconstruction", "C9", "d")]
    shown += [(row_named(beside[1]["rows"], "adapted"), beside[0], "C1", "s")] if beside else []
    for row, label, colour, marker in [*shown, (row_named(rows, "adapted"), name, "C3", "D")]:
        if row:
            point(axes, row, label, colour, marker)
    axes.legend(loc="lower left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def write(paths: Sequence[str], beside_paths: Sequence[str], name: str, beside_name: str, out: Path) -> None:
    """Write the page and the picture."""
    results, beside = read(paths), read(beside_paths)
    for shots in results.keys() & beside.keys():
        check_alike(results[shots], beside[shots])
    least = next(iter(results))
    other = (beside_name, beside[least]) if least in beside else None
    write_atomically(out / f"{name}.md", page(name, results, beside_name, beside).encode())
    write_atomically(out / f"{name}-plane.png", plane(name, results[least], other))


def main(argv: Sequence[str] | None = None) -> None:
    """The page of the result files that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="result files of the model, one for each number of shots")
    parser.add_argument("--beside", nargs="*", default=[], help="result files of the other model")
    parser.add_argument("--name", default="omniglot", help="what the model is called")
    parser.add_argument("--beside_name", default="omniglot-redraw", help="what the other one is called")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="the folder to write to")
    given = parser.parse_args(argv)
    write(given.results, given.beside, given.name, given.beside_name, given.out)


if __name__ == "__main__":
    main()
