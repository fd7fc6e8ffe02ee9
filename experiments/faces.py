"""Is a meta-learned generator better than a plain one on people it never saw?

    python scripts/faces.py --root DIR          # DIR holds one folder of photographs a person
    python scripts/make_league.py --keep faces=runs/faces-vae-maml/evaluation/result.json \\
        league-of-faces=runs/faces-league/league.json

At 32 px, of people with 9 or more photographs: a plain VAE and one that is meta-trained by MAML, alike but for that.
Some three quarters of an hour on two cores.

    python scripts/faces.py --root DIR --size 64
    python scripts/make_results.py runs/faces64-*/evaluation/result.json

At 64 px, of everybody: of those with 9 or more photographs a seed draws 50 test people and 40 val people; all others
are trained on, at 3 queries, so that 8 photographs suffice. A plain VAE, one that is meta-trained by MAML from it,
redraw, and redraw that goes on with a critic. An hour and a half on one core.

All at 5 shots. The number of inner steps of each model that takes some is chosen on val people by Frechet distance;
then they are measured on test people. What was made by the same options is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from making import made, metagen

from metagen.core.seeding import numpy_rng
from metagen.generators import generators
from metagen.learners.model_files import load_model
from metagen.report.result import read_result, row_named
from metagen.storage.artifacts import read_config
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
        people: options that say who is trained on and who is held out, from those of this script.
        extractors: by name, options of their training; the first chooses, the last reports.
        models: by the names of their configs, further options of their training; the first is the plain one, which is
            fine-tuned as a baseline of those over the same networks.
        measured: which of them; GANs take `--model.chosen_by` and the first extractor as options of their training.
        steps: the numbers of inner steps that are chosen from.
        figures: what is measured; None for the usual ones.
    """

    name: str
    people: Callable[[argparse.Namespace], list[object]]
    extractors: dict[str, list[object]]
    models: dict[str, list[object]]
    measured: Sequence[str]
    steps: Sequence[int] = (3, 6, 10, 20, 60, 150)
    figures: Sequence[str] | None = None


def split_of_all(options: argparse.Namespace) -> list[object]:
    """Everybody has a place; those who are held out have images enough for a measurement."""
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


def evaluated(name: str, out: Path, data: Sequence[object], extractor: Path, *words: object) -> Path:
    """The result of a model, through an extractor."""
    export = RUNS / name / "export"
    words = ("--limit", "null", "--extractor", extractor, *words, "--out", out, "--overwrite")
    weights = [read_config(folder)["weights_sha256"] for folder in (export, extractor)]
    return made(out / "result.json", ["evaluate", "--model", export, *data, *words], " ".join(weights))


def distance(result: Path) -> float:
    """The Frechet distance of a model's adapted samples."""
    figures = row_named(read_result(result)["rows"], "adapted")["figures"]
    return number(next(figure["mean"] for name, figure in figures.items() if name.startswith("fd[")))


def baselines(name: str, joint: str) -> list[object]:
    """The baselines of a model, as options: the plain one has it beside those that are over its networks.

    Nothing that is fine-tuned stands beside a game: it would take an hour.
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
    by = {n: distance(evaluated(name, RUNS / name / f"val-{n}", data, extractor, *quick, "--steps", n)) for n in steps}
    print(f"{name}: Frechet distance on val people by the number of steps {by}")
    return ["--steps", min(by, key=lambda n: by[n]), "--curve", to_json([0, *steps])]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, choose, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="holds one folder of photographs a person")
    parser.add_argument("--size", type=int, choices=PLANS, default=32, help="of the images, in pixels")
    parser.add_argument("--test", type=int, default=50, help="test people at 64 px")
    parser.add_argument("--val", type=int, default=40, help="val people at 64 px")
    parser.add_argument("--steps", type=int, nargs="+", help="numbers of inner steps to choose from; the plan's")
    parser.add_argument("--extractor_steps", type=int, help="of the training of what is looked through; the plan's")
    options = parser.parse_args(argv)
    plan = PLANS[options.size]
    steps = options.steps or plan.steps
    shortened = [] if options.extractor_steps is None else ["--steps", options.extractor_steps]
    data: list[object] = ["--data.task_set", "folder", "--data.root", options.root, "--data.size", options.size]
    data += ["--data.channels", 3, *plan.people(options)]
    folders = [RUNS / name for name in plan.extractors]
    for folder, words in zip(folders, plan.extractors.values(), strict=True):
        made(folder / "config.json", ["train-extractor", *data, "--out", folder, *words, *shortened, "--overwrite"])
    for name, words in plan.models.items():
        made(RUNS / name / "export", ["fit", "--config", f"configs/{name}.yaml", *data, *words, "--overwrite"])
    episodes = [*data, "--data.shots", SHOTS, "--data.queries", QUERIES]
    figures = [] if plan.figures is None else ["--metrics", to_json(plan.figures)]
    results = []
    for name in plan.measured:
        words = [*baselines(name, next(iter(plan.models))), *chosen(name, episodes, folders[0], steps), *figures]
        results.append(evaluated(name, RUNS / name / "evaluation", episodes, folders[-1], *words))
    metagen("compare", *results, "--by", "fd", "--out", RUNS / f"{plan.name}-league", "--overwrite")


if __name__ == "__main__":
    main()
