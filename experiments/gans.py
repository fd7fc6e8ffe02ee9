"""The effect of meta-learning on GANs, on Omniglot.

    python scripts/gans.py --root DIR            # DIR holds Omniglot; some two hours on two cores
    python scripts/make_gans.py                  # docs/gans.md and docs/gans.png, from the files it leaves

The contest: FIGR (WGAN-GP, Reptile; Clouatre 2019) and GANs of ours at 32 px and 4 shots, each trained for the same
processor seconds, on the same test characters. The study of stability: one small GAN (R3), meta-learned and jointly
trained for the same seconds from one start, and trained on the support alone, from several seeds. The options of
few-shot practice: the first of these adapts once with each of them. What was made by the same options is not made
again.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from making import made, revision
from safetensors.torch import load_file

from metagen.learners.model_files import build, describe, load_model, save_model
from metagen.report.result import read_result
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json
from metagen.tasks.splits import split_of

RUNS, ROWS = Path("runs/gans"), Path("docs/gans")
FIGURES = (
    *("fd", "energy", "is", "recognisability", "copy_ratio", "coverage", "recall"),
    *("diversity", "diversity_relative"),
)
FEW, MORE = 10, 40  # meta-steps: what the second takes longer than the first is the cost of so many
LOOKS = {role: RUNS / f"omniglot32-{role}" for role in ("select", "report")}
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
    LATENT: {
        "learner": {"name": "joint", "adapted_params": ["latent"], "rate": 0.03}
    },  # Reptile would not train the rest
}
SHARE_OF_STUDY, SHARE_OF_TASKS = 0.15, 0.2  # of a contestant's seconds and test characters: it has six trainings
SHOTS_OF_FIGR = ("--data.size", 32, "--data.shots", 4)
COLLAPSED = 0.1  # of the diversity of real images: below this a task's samples are taken for one image


def cost(run: Path, words: list[object]) -> float:
    """Processor seconds of one meta-step, all around it included: measured once, in processes of their own."""
    place = run / "cost.json"
    if not place.is_file():
        seconds = [_processor_seconds(words, run / "cost", episodes) for episodes in (FEW, MORE)]
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(place, to_json((seconds[1] - seconds[0]) / (MORE - FEW)).encode())
    return float(read_json(place))


def _processor_seconds(words: list[object], run: Path, episodes: int) -> float:
    command = [*words, "--data.episodes", episodes, "--data.val_tasks", 1, "--run_dir", run, "--overwrite", "true"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # as the training itself, which is in a worker of one thread
    subprocess.run([sys.executable, "-m", "metagen.cli", "fit", *map(str, command)], check=True, env=alone)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


def trained(run: Path, seconds: float, *words: object, val_tasks: int = 40) -> Path:
    """A model that was trained for so many processor seconds, and validated ten times: the folder of its export."""
    shared = [*words, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--samples.tasks", 4]
    episodes = max(10, int(seconds / cost(run, shared)))
    command = ["fit", *shared, "--data.episodes", episodes, "--trainer.val_check_interval", max(1, episodes // 10)]
    return made(run / "export", [*command, "--data.val_tasks", val_tasks, "--run_dir", run, "--overwrite", "true"])


def evaluated(export: Path, root: str, shots: int, extractor: Path | str, tasks: int, *words: object) -> Path:
    """The result of a model on test tasks."""
    out = export.parent / "evaluation"
    command = [
        *("evaluate", "--model", export, "--out", out, "--data.root", root, "--data.shots", shots, "--overwrite"),
        *("--data.queries", 14, "--limit", tasks, "--extractor", extractor, "--metrics", to_json(FIGURES)),
    ]
    return made(out / "result.json", [*command, *words], read_config(export)["weights_sha256"])


def contest(options: argparse.Namespace, name: str) -> None:
    """One contestant: FIGR's config or one of ours at its size and shots."""
    torch.set_num_threads(1)
    words = ["--config", f"configs/omniglot-{name}.yaml", "--data.root", options.root]
    words += [*SHOTS_OF_FIGR, "--model.chosen_by", LOOKS["select"]]
    more = ("--baselines", str(name != FIGR).lower())
    evaluated(trained(RUNS / name, options.seconds, *words), options.root, 4, LOOKS["report"], options.tasks, *more)


def begun(root: str) -> Path:
    """The jointly trained GAN from which the study of stability begins."""
    words = ["fit", "--config", "configs/omniglot-r3-joint.yaml", "--data.root", root, "--overwrite", "true"]
    return made(START / "export", [*words, "--trainer.enable_progress_bar", "false"])


def stability(options: argparse.Namespace, seed: int) -> None:
    """One seed of the study: a GAN goes on with meta-learning, its like with joint training, and one scorecard."""
    torch.set_num_threads(1)
    place, seconds = RUNS / "stability", options.seconds * SHARE_OF_STUDY
    words = ["--config", "configs/omniglot-r3-reptile.yaml", "--data.root", options.root]
    words += ["--data.seed", seed, "--seed_everything", seed, "--model.initial", START / "export"]
    meta, joint = (
        trained(place / f"{kind}-{seed}", seconds, *words, *more, val_tasks=12) for kind, more in KINDS.items()
    )
    more = ("--seed", seed, "--baselines", "true", "--joint", joint, "--steps", options.steps, "--curve", "[]")
    evaluated(meta, options.root, 5, "omniglot-report", int(options.tasks * SHARE_OF_TASKS), *more)


def variant(name: str) -> Path:
    """The folder of the model of a practice."""
    return RUNS / "practice" / name.replace(" ", "-").replace(",", "") / "export"


def practice(options: argparse.Namespace, name: str) -> None:
    """One option of few-shot practice: the first meta-learned GAN of the study of stability adapts with it."""
    torch.set_num_threads(1)
    learner, info, weights = load_model(RUNS / "stability/meta-0/export")
    described, changes = describe(learner), PRACTICE[name]
    generator = {**described["generator"], **changes.get("generator", {})}
    changed = build({"generator": generator, "learner": changes.get("learner", described["learner"])})
    changed.load_state_dict(learner.state_dict())
    export = variant(name)
    save_model(export, changed, {**info, "of": weights}, split_of(RUNS / "stability/meta-0/export"), overwrite=True)
    more = ("--steps", options.steps, "--curve", "[]", "--baselines", "false")
    evaluated(export, options.root, 5, "omniglot-report", int(options.tasks * SHARE_OF_TASKS), *more)


def validations(run: Path) -> list[dict[str, float]]:
    """The log of a training at each of its validations."""
    with (run / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [row for row in rows if "val/unadapted" in row]


def kept(result: Path) -> dict[str, Any]:
    """The scorecard, the values of its figures, and of how many tasks samples have collapsed, by row."""
    scorecard, values = read_result(result), load_file(result.parent / "values.safetensors")
    (spread,) = (key for key in scorecard["rows"][0]["figures"] if key.startswith("diversity["))
    for row in scorecard["rows"]:
        collapsed = values[f"{row['row']}/{spread}"] < COLLAPSED * values[f"human/{spread}"]
        row["collapsed"] = int(collapsed.sum())
    scorecard["differences"] = []  # those that are shown are made anew from the values
    return {"result": scorecard, "values": {n: [float(f"{x:.6g}") for x in v.tolist()] for n, v in values.items()}}


def gather(options: argparse.Namespace) -> None:
    """docs/gans: what the page is made from."""
    ROWS.mkdir(parents=True, exist_ok=True)
    common = {"seconds": options.seconds, "share": SHARE_OF_STUDY, "collapsed": COLLAPSED, "revision": revision()}
    contestants = {
        name: kept(RUNS / name / "evaluation/result.json") | {"training": training(RUNS / name)} for name in CONTESTANTS
    }
    write_atomically(ROWS / "contest.json", (to_json({**common, "rows": contestants}) + "\n").encode())
    seeds = {}
    for seed in range(options.seeds):
        parts = {kind: RUNS / "stability" / f"{kind}-{seed}" for kind in KINDS}
        seeds[str(seed)] = kept(parts["meta"] / "evaluation/result.json") | {
            "training": {kind: training(run) for kind, run in parts.items()},
            "told": {kind: validations(run) for kind, run in parts.items()},
        }
    write_atomically(ROWS / "stability.json", (to_json({**common, "seeds": seeds}) + "\n").encode())
    tried = {name: kept(variant(name).parent / "evaluation/result.json") for name in PRACTICE}
    write_atomically(ROWS / "practice.json", (to_json({**common, "rows": tried}) + "\n").encode())


def training(run: Path) -> dict[str, Any]:
    """The training of a run as its config tells it, and the cost of a meta-step."""
    return {
        **read_config(run / "export")["info"]["training"],
        "step_seconds": read_json(run / "cost.json"),
    }


def extractor(options: argparse.Namespace, role: str) -> None:
    """Through which images of 32 px are looked at, trained on train characters alone."""
    torch.set_num_threads(1)
    data = ("--data.task_set", "omniglot", "--data.root", options.root, "--data.size", 32, "--data.channels", 1)
    words = ("--steps", options.extractor_steps, "--seed", int(role == "report"), "--out", LOOKS[role], "--overwrite")
    made(LOOKS[role] / "config.json", ["train-extractor", *data, *words])


def main(argv: Sequence[str] | None = None) -> None:
    """Share the work by processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder that holds Omniglot")
    parser.add_argument("--seconds", type=float, default=600.0, help="processor seconds of a training")
    parser.add_argument("--seeds", type=int, default=3, help="of the study of stability")
    parser.add_argument("--tasks", type=int, default=100, help="test characters")
    parser.add_argument("--steps", type=int, default=50, help="inner steps of the study and of few-shot practice")
    parser.add_argument("--extractor_steps", type=int, default=1200, help="of the training of what is looked through")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", help="names of parts; their figures are gathered by a run without it")
    options = parser.parse_args(argv)
    work: dict[str, tuple[Any, object]] = {name: (contest, name) for name in CONTESTANTS}
    work |= {f"stability-{seed}": (stability, seed) for seed in range(options.seeds)}
    chosen = [name for name in work if not options.only or name in options.only]
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        pool.starmap(extractor, [(options, role) for role in LOOKS])
        pool.apply(begun, (options.root,))
        for done in [pool.apply_async(work[name][0], (options, work[name][1])) for name in chosen]:
            done.get()
        adaptations = [(options, name) for name in PRACTICE if not options.only or name in options.only]
        pool.starmap(practice, adaptations)
    if not options.only:
        gather(options)


if __name__ == "__main__":
    main()
