"""The league: every learner from one jointly trained generator, on the same tasks, for the same seconds.

    python scripts/league.py --root DIR          # DIR holds Omniglot; about an hour on two cores
    python scripts/make_league.py                # docs/league.md, from the files of the rows

For each learner a small search on val tasks (six cells or more of what moves and how fast, 60 meta-steps each) chooses
its options; then it is trained from the shared generator for as many meta-steps as have meta-gradients of so many
processor seconds, from each seed, and measured on test tasks by `metagen evaluate`. What was made by the same options
is not made again; the file of a row, docs/league/omniglot/LEARNER.json, is written when all of it is there. More seeds
append (`--seeds 3`); other tasks and more seconds make another league (`--task_set glyphs`; `--seconds 600 --runs
runs/league-600s --rows docs/league/omniglot-600s`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from making import made, revision
from safetensors.torch import load_file

from metagen.adaptation import in_chunks, task_batch
from metagen.artifacts import load_model, read_config
from metagen.files import write_atomically
from metagen.generators import generators
from metagen.learners import learners
from metagen.studies.cost import peak_bytes
from metagen.tasks.data import EpisodeData
from metagen.training import regulariser_for

STEM, DECODER = "decoder.stem.bias", "decoder.*"
PILOT = 60  # meta-steps of a cell of the search
PROGRESS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of meta-training, at which a meta-step is timed: some learners change
SHOTS = (1, 5)
TASKS = 100  # test tasks
FIGURES = ("fd", "is", "recognisability", "diversity_relative", "copy_ratio", "coverage")
OF_ROWS = ("adapted/", "scratch/", "scale/")
RESULT = (
    *("model", "extractors", "data", "unit", "split", "split_sha256", "images_crc32", "shots", "queries", "tasks"),
    *("real", "made", "seed", "environment", "curve", "studies"),
)


def cells(**options: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Every combination of options."""
    return tuple(dict(zip(options, values, strict=True)) for values in itertools.product(*options.values()))


SGD = (*cells(moves=((STEM,),), rate=(0.1, 0.3, 1.0)), *cells(moves=((DECODER,),), rate=(3e-4, 1e-3, 3e-3)))


@dataclass(frozen=True)
class Plan:
    """How a learner takes part.

    Attributes:
        learner: its registered name.
        grid: the cells of its search: options of the learner.
        fixed: options that all cells share.
        training: options of meta-training.
    """

    learner: str
    grid: tuple[dict[str, Any], ...] = SGD
    fixed: dict[str, Any] = field(default_factory=lambda: {"steps": 3})
    training: dict[str, Any] = field(default_factory=dict)


PLANS: dict[str, Plan] = {
    "joint": Plan(
        "joint",
        (
            *cells(moves=(("*",),), rate=(1e-4, 3e-4, 1e-3, 3e-3), test_steps=(20, 50)),
            *cells(moves=((STEM,),), rate=(0.03, 0.1, 0.3), test_steps=(20, 50)),
        ),
        {},
    ),
    "maml": Plan("maml"),
    "fomaml": Plan("fomaml"),
    "reptile": Plan("reptile", cells(rate=(3e-4, 1e-3, 3e-3), steps=(3, 8)), {"optimiser": "adam"}),
    "imaml": Plan(  # its rate has to stay below 2 / (curvature + proximal)
        "imaml", cells(moves=((STEM,),), rate=(0.01, 0.03), proximal=(2.0, 5.0, 10.0)), {"steps": 16}
    ),
    "anil": Plan("anil", cells(moves=(("head",), ("last_block",)), rate=(3e-4, 1e-3, 3e-3))),
    "low-rank": Plan("low_rank", cells(rank=(1, 4), rate=(3e-4, 1e-3, 3e-3)), {"steps": 3, "layers": (DECODER,)}),
    "meta-sgd": Plan("meta_sgd"),
    "maml++": Plan("maml_pp"),
    "auxiliary": Plan("auxiliary"),
    "learned optimiser": Plan("learned_optimiser", cells(moves=((STEM,),), rate=(0.1, 0.2, 0.3), decay=(0.0, 1.0))),
    "lstm": Plan("lstm", cells(moves=((STEM,),), rate=(0.1, 0.3, 0.9), hidden=(8, 20))),
    "optimiser mixture": Plan("mixture"),
    "rule engine": Plan("engine"),
    "meta-curvature": Plan(
        "meta_curvature",
        (
            *cells(moves=(("last_block",),), rate=(3e-4, 1e-3, 3e-3)),
            *cells(moves=(("decoder.stem.*",),), rate=(0.03, 0.1, 0.3)),
        ),
    ),
    "maml, regularised": Plan("maml", training={"regularise": {"dropout": 0.2}}),
    "maml-adjoint": Plan("adjoint"),
}


@dataclass(frozen=True)
class League:
    """What all rows share."""

    task_set: str
    root: str | None
    base: str
    runs: Path
    rows: Path
    seconds: float
    seeds: int

    @property
    def place_of_images(self) -> list[str]:
        """The option that says where the images lie, of a task set that has some."""
        return ["--data.root", self.root] if self.root else []

    @property
    def data(self) -> list[str]:
        """Options of the tasks to train on."""
        return [
            *("--data.task_set", self.task_set, *self.place_of_images, "--data.size", "28"),
            *("--data.shots", "5", "--data.queries", "10", "--data.tasks", "16"),
        ]

    def place(self, name: str) -> Path:
        """Where a learner's runs lie."""
        return self.runs / name.replace(" ", "-").replace(",", "").replace("+", "p")


def fit(league: League, plan: Plan, options: dict[str, Any], run: Path, episodes: int, *more: str) -> Path:
    """A model that was trained for so many meta-steps: the folder of its export."""
    base = read_config(Path(league.base))
    told = {key: value for key, value in base["generator"].items() if key not in ("name", "size", "channels")}
    words = [f"--model.generator.{key}={spelled(value)}" for key, value in told.items()]
    words += [f"--model.learner.{key}={spelled(value)}" for key, value in {**plan.fixed, **options}.items()]
    words += [f"--model.{key}={spelled(value)}" for key, value in plan.training.items()]
    asked = [
        *("fit", *league.data, "--data.episodes", episodes, "--run_dir", run, "--overwrite"),
        *("--model.initial", league.base, "--model.generator", generators[base["generator"]["name"]].__name__),
        *("--model.learner", learners[plan.learner].__name__, *words, "--model.warmup", 20),
        *("--trainer.val_check_interval", max(1, episodes // 3), "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--samples.tasks", 1, *more),
    ]
    return made(run / "export", asked, base["weights_sha256"])


def spelled(value: object) -> str:
    """An option's value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value)


def searched(league: League, name: str) -> dict[str, Any]:
    """The cell with the least query loss on val tasks, and what every cell came to."""
    plan, place, found = PLANS[name], league.place(name), []
    for number, cell in enumerate(plan.grid):
        run = place / f"pilot-{number}"
        try:
            export = fit(league, plan, cell, run, PILOT, "--data.val_tasks", "24")
            found.append({"options": cell, "val": trained(export)["best_val"]})
        except RuntimeError as error:
            if not (run / "last-good.ckpt").is_file():  # anything but numbers that are not finite
                raise
            found.append({"options": cell, "val": None, "error": str(error).partition("; ")[0]})
    finite = [each for each in found if each["val"] is not None]
    if not finite:
        raise RuntimeError(f"{name}: no cell of its search stayed finite")
    return {"chosen": min(finite, key=lambda each: each["val"])["options"], "cells": found}


def trained(export: Path) -> dict[str, Any]:
    """What a model says of its meta-training."""
    training: dict[str, Any] = read_config(export)["info"]["training"]
    return training


def cost_of_training(league: League, plan: Plan, export: Path) -> dict[str, float]:
    """Processor seconds, the mean over a training's progress, and peak memory of the meta-gradient of 16 tasks.

    Measured once: a rerun trains for as many meta-steps.
    """
    place, weights = export.parent / "cost.json", read_config(export)["weights_sha256"]
    known = json.loads(place.read_text()) if place.is_file() else {}
    if known.get("of") == weights:
        return dict(known["cost"])
    learner = load_model(export)[0]
    learner.regulariser = regulariser_for(learner, terms) if (terms := plan.training.get("regularise")) else None
    tasks = EpisodeData(league.task_set, league.root, shots=5, queries=10).episodes.train(0, 16)
    batch = task_batch(learner, tasks.support, tasks.query, (0, "cost"), tasks.numbers)
    meta = {name: w.detach() for name, w in learner.named_parameters()}
    seconds, peaks = [], []
    for progress in PROGRESS:
        learner.anneal(progress)

        def step() -> object:
            return in_chunks(learner.meta_gradient, learner, meta, batch)

        peaks.append(peak_bytes(step, torch.device("cpu")) / 2**20)
        started = time.process_time()  # of the processor: fair beside other work
        for _ in range(3):
            step()
        seconds.append((time.process_time() - started) / 3)
    cost = {"step_seconds": sum(seconds) / len(seconds), "step_peak_mib": max(peaks)}
    write_atomically(place, json.dumps({"of": weights, "cost": cost}).encode())
    return cost


def evaluated(league: League, export: Path, shots: int, baselines: bool) -> Path:
    """The folder of a model's result on test tasks; with the row of what was never trained, where baselines are."""
    out = export.parent / f"evaluation-{shots}"
    words = [
        *("evaluate", "--model", export, "--out", out, *league.place_of_images, "--limit", TASKS),
        *("--data.shots", shots, "--data.queries", 14, "--baselines", str(baselines).lower(), "--overwrite"),
        *("--metrics", json.dumps([*FIGURES, "cost"])),
    ]
    return made(out / "result.json", words, read_config(export)["weights_sha256"]).parent


def kept(folder: Path) -> dict[str, Any]:
    """What a row's file keeps of a result: the adapted row with its values, and those without a model."""
    result, values = json.loads((folder / "result.json").read_text()), load_file(folder / "values.safetensors")
    of_row = {k: v for k, v in values.items() if k.startswith(OF_ROWS) and _is_kept(k.partition("/")[2])}
    rows = [{**row, "figures": {f: v for f, v in row["figures"].items() if _is_kept(f)}} for row in result["rows"]]
    return {
        "result": {**{key: result[key] for key in RESULT}, "rows": rows, "task_names": result["task_names"]},
        "values": {name: [float(f"{x:.6g}") for x in value.tolist()] for name, value in of_row.items()},
    }


def _is_kept(figure: str) -> bool:
    return figure.partition("[")[0] in ("query_loss", *FIGURES)


def row(league: League, name: str) -> None:
    """Search, train, measure; then the file of the row."""
    plan, place = PLANS[name], league.place(name)
    search = searched(league, name)
    pilot = place / f"pilot-{[each['options'] for each in search['cells']].index(search['chosen'])}" / "export"
    cost = cost_of_training(league, plan, pilot)
    episodes, seeds = max(3, int(league.seconds / cost["step_seconds"])), []
    for seed in range(league.seeds):
        more = ("--data.seed", str(seed), "--seed_everything", str(seed), "--data.val_tasks", "40")
        export = fit(league, plan, search["chosen"], place / f"seed-{seed}", episodes, *more)
        results = {str(shots): kept(evaluated(league, export, shots, name == "joint" and not seed)) for shots in SHOTS}
        seeds.append({"seed": seed, "training": trained(export), "shots": results})
    told = {"name": name, "learner": plan.learner, "options": {**plan.fixed, **search["chosen"]}, **plan.training}
    shared = {"base_sha256": read_config(Path(league.base))["weights_sha256"], "seconds": league.seconds}
    content = {**told, **shared, "revision": revision(), "search": search, "training_cost": cost, "seeds": seeds}
    league.rows.mkdir(parents=True, exist_ok=True)
    write_atomically(league.rows / f"{place.name}.json", (json.dumps(content) + "\n").encode())


def work(league: League, names: list[str]) -> list[str]:
    """Rows one after the other, in this process; those that failed."""
    torch.set_num_threads(1)
    failed = []
    for name in names:
        try:
            row(league, name)
            print(f"league: {name} is there", flush=True)
        except (Exception, SystemExit):
            print(f"league: {name} failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            failed.append(name)
    return failed


def main() -> None:
    """Share the rows by processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task_set", default="omniglot")
    parser.add_argument("--root", help="the folder that holds its images")
    parser.add_argument("--base", help="the jointly trained model to begin from; runs/TASK_SET-vae-joint/export")
    parser.add_argument("--runs", type=Path, help="runs/league, and -TASK_SET where that is not omniglot")
    parser.add_argument("--rows", type=Path, help="docs/league/TASK_SET")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", default=list(PLANS), choices=list(PLANS))
    options = parser.parse_args()
    own = "" if options.task_set == "omniglot" else f"-{options.task_set}"
    league = League(
        task_set=options.task_set,
        root=options.root,
        base=options.base or f"runs/{options.task_set}-vae-joint/export",
        runs=options.runs or Path(f"runs/league{own}"),
        rows=options.rows or Path("docs/league", options.task_set),
        seconds=options.seconds,
        seeds=options.seeds,
    )
    with multiprocessing.get_context("spawn").Pool(options.workers, maxtasksperchild=1) as pool:
        failed = pool.starmap(work, [(league, [name]) for name in options.only], chunksize=1)
    if any(failed):
        raise SystemExit(f"failed: {', '.join(itertools.chain(*failed))}")


if __name__ == "__main__":
    main()
