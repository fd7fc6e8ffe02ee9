"""The effect of meta-learning on GANs, on Omniglot.

    python experiments/gans.py --root DIR        # DIR holds Omniglot; some two hours on two cores
    python experiments/gans_page.py              # results/gans/README.md, from the files it leaves

The contest: FIGR (WGAN-GP, Reptile; Clouatre 2019) and GANs of ours at 32 px and 4 shots, each trained for the same
processor seconds, on the same test characters. The study of stability: one small GAN (R3), meta-learned and jointly
trained for the same seconds from one start, and trained on the support alone, from several seeds. The options of
few-shot practice: the first of these adapts once with each of them. Runs of the same options are reused.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.pages import RESULTS, rounded
from experiments.runs import evaluated, fitted, made, parser, revision
from metagen.learners.model_files import build, describe, load_model, save_model
from metagen.report.result import read_result
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json
from metagen.tasks.splits import split_of

RUNS = Path("runs/gans")
FIGURES = (
    *("fd", "energy", "is", "recognisability", "copy_ratio", "coverage", "recall"),
    *("diversity", "diversity_relative"),
)
FEW, MORE = 10, 40  # meta-steps: what the second takes longer than the first is the cost of so many
EXTRACTORS = {role: RUNS / f"omniglot32-{role}" for role in ("select", "report")}
START = Path("runs/omniglot-r3-joint")
JOINT = (
    *("--model.rate", 0.0003, "--data.tasks", 8, "--model.learner", "Joint", "--model.learner.optimiser", "adam"),
    *("--model.learner.rate", 0.001, "--model.learner.test_steps", 20, "--model.learner.adapted_params", '["*"]'),
)
KINDS: dict[str, tuple[object, ...]] = {"meta": (), "joint": JOINT}
FIGR, BEST = "figr", "redraw-gan"
CONTESTANTS = (FIGR, BEST, "redraw")
PLAIN, LATENT = "as trained", "latent alone"  # of few-shot practice; the second moves 64 numbers
PRACTICE: dict[str, dict[str, dict[str, object]]] = {
    PLAIN: {},
    "warp 1": {"generator": {"warp": 1.0}},
    "warp 1.5": {"generator": {"warp": 1.5}},
    "mode seeking 0.1": {"generator": {"mode_seeking": 0.1}},
    "mode seeking 1": {"generator": {"mode_seeking": 1.0}},
    "consistency 1": {"generator": {"consistency": 1.0}},
    "consistency 10": {"generator": {"consistency": 10.0}},
    "one critic step to two": {"generator": {"g_steps": 2}},
    LATENT: {"learner": {"name": "joint", "adapted_params": ["latent"], "rate": 0.03}},  # Reptile would train all
}
SHARE_OF_STUDY, SHARE_OF_TASKS = 0.15, 0.2  # of a contestant's seconds and test characters: it has six trainings
SHOTS_OF_FIGR = ("--data.size", 32, "--data.shots", 4)
COLLAPSED = 0.1  # of the diversity of real images: below this a task's samples are taken for one image


def cost(run: Path, words: list[object]) -> float:
    """Processor seconds of one meta-step and all that belongs to it, measured once in processes of their own."""
    place = run / "cost.json"
    if not place.is_file():
        seconds = [_processor_seconds(words, run / "cost", episodes) for episodes in (FEW, MORE)]
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(place, to_json((seconds[1] - seconds[0]) / (MORE - FEW)).encode())
    return float(read_json(place))


def _processor_seconds(words: list[object], run: Path, episodes: int) -> float:
    command = [*words, "--data.episodes", episodes, "--data.val_tasks", 1, "--run_dir", run, "--overwrite", "true"]
    command += ["--trainer.enable_progress_bar", "false"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the training itself, which is in a worker of one thread
    subprocess.run([sys.executable, "-m", "metagen.cli", "fit", *map(str, command)], check=True, env=alone)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def trained(run: Path, seconds: float, *words: object, val_tasks: int = 40) -> Path:
    """Train for so many processor seconds, with ten validations; the folder of the export."""
    shared = [*words, "--trainer.accelerator", "cpu", "--samples.tasks", 4]
    episodes = max(10, int(seconds / cost(run, shared)))
    command = [*shared, "--data.episodes", episodes, "--trainer.val_check_interval", max(1, episodes // 10)]
    return fitted(run, *command, "--data.val_tasks", val_tasks)


def measure(options: argparse.Namespace, export: Path, tasks: int, *words: object) -> None:
    """Evaluate a model on test tasks, beside its export."""
    shared = ("--data.root", options.root, "--data.queries", 14, "--limit", tasks, "--metrics", to_json(FIGURES))
    evaluated(export, export.parent / "evaluation", *shared, *words)


def contest(options: argparse.Namespace, name: str) -> None:
    """Train and measure one contestant: FIGR's config or one of ours at its size and shots."""
    torch.set_num_threads(1)
    words = ("--config", f"configs/omniglot/{name}.yaml", "--data.root", options.root, *SHOTS_OF_FIGR)
    export = trained(RUNS / name, options.seconds, *words, "--model.chosen_by", EXTRACTORS["select"])
    more = ("--extractor", EXTRACTORS["report"], "--baselines", str(name != FIGR).lower())
    measure(options, export, options.tasks, "--data.shots", 4, *more)


def start(root: str) -> Path:
    """Train the joint GAN from which the study of stability begins."""
    return fitted(START, "--config", "configs/omniglot/r3-joint.yaml", "--data.root", root)


def study(options: argparse.Namespace, export: Path, *words: object) -> None:
    """Measure a model of the study of stability."""
    shared = ("--data.shots", 5, "--extractor", "omniglot-report", "--steps", options.steps, "--curve", "[]")
    measure(options, export, int(options.tasks * SHARE_OF_TASKS), *shared, *words)


def stability(options: argparse.Namespace, seed: int) -> None:
    """Go on with meta-learning, and jointly, from one GAN and one seed; measure both on one scorecard."""
    torch.set_num_threads(1)
    place, seconds = RUNS / "stability", options.seconds * SHARE_OF_STUDY
    words = ["--config", "configs/omniglot/r3-reptile.yaml", "--data.root", options.root]
    words += ["--data.seed", seed, "--seed_everything", seed, "--model.initial", START / "export"]
    meta, joint = (
        trained(place / f"{kind}-{seed}", seconds, *words, *more, val_tasks=12) for kind, more in KINDS.items()
    )
    study(options, meta, "--seed", seed, "--baselines", "true", "--joint", joint)


def variant(name: str) -> Path:
    """The folder of the model of a practice."""
    return RUNS / "practice" / name.replace(" ", "-").replace(",", "") / "export"


def practice(options: argparse.Namespace, name: str) -> None:
    """Measure one option of few-shot practice on the first meta-learned GAN of the study of stability."""
    torch.set_num_threads(1)
    learner, info, weights = load_model(RUNS / "stability/meta-0/export")
    described, changes = describe(learner), PRACTICE[name]
    generator = {**described["generator"], **changes.get("generator", {})}
    changed = build({"generator": generator, "learner": changes.get("learner", described["learner"])})
    changed.load_state_dict(learner.state_dict())
    export = variant(name)
    save_model(export, changed, {**info, "of": weights}, split_of(RUNS / "stability/meta-0/export"), overwrite=True)
    study(options, export, "--baselines", "false")


def validations(run: Path) -> list[dict[str, float]]:
    """The log of a training at each of its validations."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if "val/unadapted" in row]


def kept(run: Path) -> dict[str, Any]:
    """A run's scorecard with the number of tasks whose samples have collapsed, by row; and its figures' values."""
    path = run / "evaluation/result.json"
    scorecard: dict[str, Any] = {**read_result(path)}
    values = load_file(path.with_name("values.safetensors"))
    (spread,) = (key for key in scorecard["rows"][0]["figures"] if key.startswith("diversity["))
    for row in scorecard["rows"]:
        collapsed = values[f"{row['row']}/{spread}"] < COLLAPSED * values[f"human/{spread}"]
        row["collapsed"] = int(collapsed.sum())
    scorecard["differences"] = []  # those that are shown are made anew from the values
    return {"result": scorecard, "values": rounded(values)}


def gather(options: argparse.Namespace) -> None:
    """Write the files that the page is made from."""
    options.out.mkdir(parents=True, exist_ok=True)
    common = {"seconds": options.seconds, "share": SHARE_OF_STUDY, "collapsed": COLLAPSED, "revision": revision()}
    seeds = {}
    for seed in range(options.seeds):
        parts = {kind: RUNS / "stability" / f"{kind}-{seed}" for kind in KINDS}
        seeds[str(seed)] = kept(parts["meta"]) | {
            "training": {kind: training(run) for kind, run in parts.items()},
            "told": {kind: validations(run) for kind, run in parts.items()},
        }
    contents = {
        "contest": {"rows": {name: kept(RUNS / name) | {"training": training(RUNS / name)} for name in CONTESTANTS}},
        "stability": {"seeds": seeds},
        "practice": {"rows": {name: kept(variant(name).parent) for name in PRACTICE}},
    }
    for name, content in contents.items():
        write_atomically(options.out / f"{name}.json", (to_json({**common, **content}) + "\n").encode())


def training(run: Path) -> dict[str, Any]:
    """The training of a run, from its config, and the cost of a meta-step."""
    return {**read_config(run / "export")["info"]["training"], "step_seconds": read_json(run / "cost.json")}


def extractor(options: argparse.Namespace, role: str) -> None:
    """Train an extractor for images of 32 px on train characters alone."""
    torch.set_num_threads(1)
    data = ("--data.task_set", "omniglot", "--data.root", options.root, "--data.size", 32, "--data.channels", 1)
    words = ("--steps", options.extractor_steps, "--seed", int(role == "report"), "--out", EXTRACTORS[role])
    made(EXTRACTORS[role] / "config.json", ["train-extractor", *data, *words, "--overwrite"])


def main(argv: Sequence[str] | None = None) -> None:
    """Share the work by processes."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--out", type=Path, default=RESULTS / "gans", help="folder of the result")
    options.add_argument("--seconds", type=float, default=600.0, help="processor seconds of a training")
    options.add_argument("--seeds", type=int, default=3, help="of the study of stability")
    options.add_argument("--tasks", type=int, default=100, help="test characters")
    options.add_argument("--steps", type=int, default=50, help="inner steps of the study and of few-shot practice")
    options.add_argument("--extractor_steps", type=int, default=1200, help="of the training of the extractors")
    options.add_argument("--workers", type=int, default=2)
    given = options.parse_args(argv)
    work: list[tuple[Callable[..., None], object]] = [(contest, name) for name in CONTESTANTS]
    work += [(stability, seed) for seed in range(given.seeds)]
    with multiprocessing.get_context("spawn").Pool(given.workers, maxtasksperchild=1) as pool:
        pool.starmap(extractor, [(given, role) for role in EXTRACTORS])
        pool.apply(start, (given.root,))
        for done in [pool.apply_async(function, (given, part)) for function, part in work]:
            done.get()
        pool.starmap(practice, [(given, name) for name in PRACTICE])
    gather(given)


if __name__ == "__main__":
    main()
