"""A meta-learned generator against a plain one, on people it never saw.

    python experiments/faces.py --root DIR          # DIR holds one folder of photographs a person

At 32 px, of people with 9 or more photographs: a plain VAE and one that is meta-trained by MAML, alike but for that.
Some three quarters of an hour on two cores.

    python experiments/faces.py --root DIR --size 64

At 64 px, of everybody: of those with 9 or more photographs a seed draws 50 test people and 40 val people; all others
are trained on, at 3 queries, so that 8 photographs suffice. A plain VAE, one that is meta-trained by MAML from it,
redraw, and redraw that goes on with a critic. An hour and a half on one core.

All at 5 shots. The number of inner steps of each model that takes some is chosen on val people by Frechet distance;
then they are measured on test people. Runs of the same options are reused. The page of the results is made by
`python experiments/comparison.py --out results/faces runs/faces*/evaluation/result.json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.runs import config_of, evaluated, made, metagen, parser
from metagen.core.seeding import numpy_rng
from metagen.generators import generators
from metagen.learners.model_files import load_model
from metagen.report.result import read_result, row_named
from metagen.report.tables import by_column
from metagen.storage.files import write_atomically
from metagen.storage.images import image_files
from metagen.storage.strict_json import number, to_json
from metagen.tasks.splits import Split

RUNS = Path("runs")
SHOTS, QUERIES = 5, 4  # of a measurement


@dataclass(frozen=True)
class Plan:
    """The models, data and measurements at one size.

    Attributes:
        name: of all that is made.
        people: the options of the split, from those of this module.
        extractors: by name, options of their training; the first chooses, the last reports.
        models: by the names of their configs, further options of their training; the first is the plain one, which is
            fine-tuned as a baseline of those over the same networks.
        measured: those that are evaluated.
        steps: the numbers of inner steps to choose from.
        figures: the metrics; None for the usual ones.
    """

    name: str
    people: Callable[[argparse.Namespace], list[object]]
    extractors: dict[str, list[object]]
    models: dict[str, list[object]]
    measured: Sequence[str]
    steps: Sequence[int] = (3, 6, 10, 20, 60, 150)
    figures: Sequence[str] | None = None


def split_of_all(options: argparse.Namespace) -> list[object]:
    """Put everybody into the split; those who are held out have images enough for a measurement."""
    folders = [folder for folder in sorted(Path(options.root).iterdir()) if folder.is_dir()]
    counts = {folder.name: len(image_files(folder)) for folder in folders}
    enough = [name for name, count in counts.items() if count >= SHOTS + QUERIES]
    drawn = [enough[place] for place in numpy_rng(0, "faces64", "held out").permutation(len(enough))]
    test, val = sorted(drawn[: options.test]), sorted(drawn[options.test :][: options.val])
    split = Split(tuple(sorted(counts.keys() - {*test, *val})), tuple(val), tuple(test))
    path = RUNS / "faces64-split.json"
    write_atomically(path, split.to_json().encode())
    return ["--data.split_file", path]


PLANS = {
    32: Plan(
        "faces",
        lambda _: ["--data.min_images", SHOTS + QUERIES],
        {"faces-report": ["--steps", 1500]},
        {"faces-vae-joint": [], "faces-vae-maml": []},
        ("faces-vae-joint", "faces-vae-maml"),
        figures=("fd", "is", "recognisability", "diversity_relative", "copy_ratio", "coverage"),
    ),
    64: Plan(
        "faces64",
        split_of_all,
        {
            "faces64-select": ["--steps", 400, "--widths", "[16, 24, 48, 96]", "--seed", 1],
            "faces64-report": ["--steps", 700, "--widths", "[16, 32, 64, 128]"],
        },
        {
            "faces64-vae-joint": [],
            "faces64-vae-maml": ["--model.initial", RUNS / "faces64-vae-joint/export"],
            "faces64-redraw": [],
            "faces64-redraw-gan": [
                *("--model.initial", RUNS / "faces64-redraw/export", "--model.chosen_by", RUNS / "faces64-select"),
            ],
        },
        ("faces64-vae-maml", "faces64-redraw", "faces64-redraw-gan"),
        steps=(3, 10, 30),
    ),
}


def measured(name: str, out: Path, extractor: Path, *words: object) -> Path:
    """The result of a model on all held-out people, through an extractor."""
    return evaluated(RUNS / name / "export", out, "--limit", "null", "--extractor", extractor, *words)


def distance(result: Path) -> float:
    """The Frechet distance of a model's adapted samples."""
    adapted = row_named(read_result(result)["rows"], "adapted")
    return number(by_column(adapted["figures"] if adapted else {})["fd"]["mean"])


def baselines(name: str, joint: str) -> list[object]:
    """The baselines of a model, as options; the plain model is one of those over the same networks.

    A GAN gets no row that is fine-tuned: it would take an hour.
    """
    mine, plain = (load_model(RUNS / each / "export")[0].generator for each in (name, joint))
    if name == joint or not mine.comparable:
        return ["--baselines", "false"]
    alike = generators.describe(mine) == generators.describe(plain)
    return ["--baselines", "true", *(["--joint", RUNS / joint / "export"] if alike else [])]


def chosen(name: str, data: Sequence[object], extractor: Path, steps: Sequence[int]) -> list[object]:
    """The number of inner steps that is best on val people, and the curve over them, as options."""
    if not load_model(RUNS / name / "export")[0].adapted_names:
        return ["--curve", "[]"]
    quick = ("--metrics", "[fd]", "--split", "val", "--baselines", "false", "--curve", "[]")
    by = {n: distance(measured(name, RUNS / name / f"val-{n}", extractor, *data, *quick, "--steps", n)) for n in steps}
    print(f"{name}: Frechet distance on val people by the number of steps {by}")
    return ["--steps", min(by, key=lambda n: by[n]), "--curve", to_json([0, *steps])]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, choose, measure, compare."""
    options = parser(__doc__, root="holds one folder of photographs a person")
    options.add_argument("--size", type=int, choices=PLANS, default=32, help="of the images, in pixels")
    options.add_argument("--test", type=int, default=50, help="test people at 64 px")
    options.add_argument("--val", type=int, default=40, help="val people at 64 px")
    options.add_argument("--steps", type=int, nargs="+", help="numbers of inner steps to choose from; the plan's")
    options.add_argument("--extractor_steps", type=int, help="of the training of the extractors; the plan's")
    given = options.parse_args(argv)
    plan = PLANS[given.size]
    shortened = [] if given.extractor_steps is None else ["--steps", given.extractor_steps]
    data: list[object] = ["--data.task_set", "folder", "--data.root", given.root, "--data.size", given.size]
    data += ["--data.channels", 3, *plan.people(given)]
    folders = [RUNS / name for name in plan.extractors]
    for folder, words in zip(folders, plan.extractors.values(), strict=True):
        made(folder / "config.json", ["train-extractor", *data, "--out", folder, *words, *shortened, "--overwrite"])
    for name, words in plan.models.items():
        made(RUNS / name / "export", ["fit", "--config", config_of(name), *data, *words, "--overwrite"])
    data += ["--data.shots", SHOTS, "--data.queries", QUERIES]
    figures = [] if plan.figures is None else ["--metrics", to_json(plan.figures)]
    results = []
    for name in plan.measured:
        words = [*baselines(name, next(iter(plan.models))), *chosen(name, data, folders[0], given.steps or plan.steps)]
        results.append(measured(name, RUNS / name / "evaluation", folders[-1], *data, *words, *figures))
    metagen("compare", *results, "--by", "fd", "--out", RUNS / f"{plan.name}-league", "--overwrite")


if __name__ == "__main__":
    main()
