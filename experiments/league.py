"""The league: every learner from one jointly trained generator, on the same tasks, for the same seconds.

    python scripts/league.py --root DIR          # DIR holds Omniglot; about an hour on two cores
    python scripts/make_league.py                # docs/league.md, from the files of the rows

For each learner a small search on val tasks (six cells or more of what moves and how fast, 60 meta-steps each) chooses
its options; then it is trained from the shared generator for as many meta-steps as have meta-gradients of so many
processor seconds, from each seed, and measured on test tasks by `metagen evaluate`. What was made by the same options
is not made again; the file of a row, docs/league/omniglot/LEARNER.json, is written when all of it is there. More seeds
append (`--seeds 3`); other tasks and more seconds make another league (`--task_set glyphs`; `--seconds 600 --runs
runs/league-600s --rows docs/league/omniglot-600s`), and so does another generator, a GAN too (`--base
runs/omniglot-r3-joint/export --runs runs/league-omniglot-gan --rows docs/league/omniglot-gan`).
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from league_beside import plain
from league_plans import GAN, Plan, kind_of, plans
from making import made, revision
from safetensors.torch import load_file

from metagen.adaptation import in_chunks, task_batch
from metagen.evaluation.studies.cost import peak_bytes
from metagen.generators import generators
from metagen.learners import learners
from metagen.learners.model_files import load_model
from metagen.report.result import read_result
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import regulariser_for

PILOT, PILOT_TASKS = 60, 24  # meta-steps of a cell of the search, and val tasks it is judged on
PROGRESS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of meta-training, at which a meta-step is timed: some learners change
SUPPORT = 5  # shots of meta-training
FIGURES = ("fd", "energy", "is", "recognisability", "diversity_relative", "copy_ratio", "coverage")
WITH_ANOTHER = "adapted - another task's "  # support, or what else is read
OF_ROWS = ("adapted/", "scratch/", "scale/")
RESULT = (
    *("model", "extractors", "data", "criterion", "unit", "split", "split_sha256", "images_crc32", "shots", "queries"),
    *("tasks", "real", "made", "seed", "environment", "curve", "studies"),
)


@dataclass(frozen=True)
class League:
    """All that the rows share.

    Attributes:
        task_set: of the tasks.
        base: the export of the generator that all begin from.
        runs: the folder of what is trained.
        rows: the folder of the rows.
        seconds: of the processor, for the meta-gradients of a training.
        seeds: how many trainings a row is the mean of.
        tasks: of a meta-step.
        pilot: meta-steps of a cell of a search.
        pilot_tasks: val tasks that a cell is judged on.
        val_tasks: those that choose the best weights of a training.
        shots: at which the trained models are measured.
        test_tasks: on which they are.
        curve: the numbers of inner steps at which they are.
        root: the folder that holds the images, if any are needed.
        command_line: all of this but the root, as it was typed.
    """

    task_set: str
    base: str
    runs: Path
    rows: Path
    seconds: float
    seeds: int
    tasks: int
    pilot: int
    pilot_tasks: int
    val_tasks: int
    shots: list[int]
    test_tasks: int
    curve: list[int]
    root: str | None
    command_line: str

    @property
    def generator(self) -> dict[str, Any]:
        """The shared generator: its name and options."""
        generator: dict[str, Any] = read_config(Path(self.base))["generator"]
        return generator

    @property
    def plans(self) -> dict[str, Plan]:
        """Those of its rows."""
        return plans(kind_of(self.generator["name"]))

    @property
    def place_of_images(self) -> list[str]:
        """The option that says where the images lie, of a task set that has some."""
        return ["--data.root", self.root] if self.root else []

    @property
    def data(self) -> list[str]:
        """Options of the tasks to train on."""
        return [
            *("--data.task_set", self.task_set, *self.place_of_images, "--data.size", "28"),
            *("--data.shots", str(SUPPORT), "--data.queries", "10", "--data.tasks", str(self.tasks)),
        ]

    def place(self, name: str) -> Path:
        """The folder of a learner's runs."""
        return self.runs / name.replace(" ", "-").replace(",", "").replace("+", "p")


class Diverged(RuntimeError):
    """Numbers that are not finite ended a training."""


def fit(league: League, plan: Plan, options: dict[str, Any], run: Path, episodes: int, *more: str) -> Path:
    """A model that was trained for so many meta-steps: the folder of its export.

    Raises:
        Diverged: numbers were not finite before there was any.
    """
    generator = league.generator
    own = {key: value for key, value in generator.items() if key not in ("name", "size", "channels")}
    words = [f"--model.generator.{key}={spelled(value)}" for key, value in own.items()]
    words += [f"--model.learner.{key}={spelled(value)}" for key, value in {**plan.fixed, **options}.items()]
    words += [f"--model.{key}={spelled(value)}" for key, value in plan.training.items()]
    command = [
        *("fit", *league.data, "--data.episodes", episodes, "--run_dir", run, "--overwrite"),
        *("--model.initial", league.base, "--model.generator", generators[generator["name"]].__name__),
        *("--model.learner", learners[plan.learner].__name__, *words, "--model.warmup", 20),
        *("--trainer.val_check_interval", max(1, episodes // 3), "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--samples.tasks", 1, *more),
    ]
    try:
        export = made(run / "export", command, read_config(Path(league.base))["weights_sha256"])
    except RuntimeError as error:
        if (run / "last-good.ckpt").is_file():
            raise Diverged(str(error).partition("; ")[0]) from error
        raise
    if not export.is_dir():
        raise Diverged("no validation was finite")
    return export


def spelled(value: object) -> str:
    """An option's value as it is typed to metagen."""
    return value if isinstance(value, str) else to_json(value)


def searched(league: League, name: str) -> dict[str, Any]:
    """The cell that is best on val tasks, and what every cell came to."""
    plan, place, cells = league.plans[name], league.place(name), []
    for number, cell in enumerate(plan.grid):
        run = place / f"pilot-{number}"
        try:
            export = fit(league, plan, cell, run, league.pilot, "--data.val_tasks", str(league.pilot_tasks))
            cells.append({"options": cell, "val": trained(export)["best_val"]})
        except Diverged as error:
            cells.append({"options": cell, "val": None, "error": str(error)})
    finite = [each for each in cells if each["val"] is not None]
    if not finite:
        raise Diverged(f"{name}: no cell of its search stayed finite")
    chosen = min(finite, key=lambda each: each["val"])["options"]
    return {"steps": league.pilot, "val_tasks": league.pilot_tasks, "chosen": chosen, "cells": cells}


def trained(export: Path) -> dict[str, Any]:
    """The meta-training of a model, as its config tells it."""
    training: dict[str, Any] = read_config(export)["info"]["training"]
    return training


def cost_of_training(league: League, plan: Plan, export: Path) -> dict[str, float]:
    """Processor seconds, the mean over a training's progress, and peak memory of a meta-gradient.

    Measured once: a rerun trains for as many meta-steps.
    """
    place, weights = export.parent / "cost.json", read_config(export)["weights_sha256"]
    known = read_json(place) if place.is_file() else {}
    if known.get("of") == weights:
        return dict(known["cost"])
    learner = load_model(export)[0]
    learner.regulariser = regulariser_for(learner, terms) if (terms := plan.training.get("regularise")) else None
    tasks = EpisodeData(league.task_set, league.root, shots=SUPPORT, queries=10).episodes.train(0, league.tasks)
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
    write_atomically(place, to_json({"of": weights, "cost": cost}).encode())
    return cost


def evaluated(league: League, export: Path, shots: int, baselines: bool) -> Path:
    """The folder of a model's result on test tasks; with the row of what was never trained, where baselines are."""
    out = export.parent / f"evaluation-{shots}"
    words = [
        *("evaluate", "--model", export, "--out", out, *league.place_of_images, "--limit", league.test_tasks),
        *("--data.shots", shots, "--data.queries", 14, "--baselines", str(baselines).lower(), "--overwrite"),
        *("--metrics", to_json([*FIGURES, "cost"]), "--curve", to_json(league.curve)),
    ]
    return made(out / "result.json", words, read_config(export)["weights_sha256"]).parent


def kept(folder: Path) -> dict[str, Any]:
    """The part of a result that a row's file keeps: the adapted row with its values, and those without a model."""
    result, values = read_result(folder / "result.json"), load_file(folder / "values.safetensors")
    of_row = {k: v for k, v in values.items() if k.startswith(OF_ROWS) and _is_kept(k.partition("/")[2])}
    rows = [{**row, "figures": {f: v for f, v in row["figures"].items() if _is_kept(f)}} for row in result["rows"]]
    fields = {**{key: result[key] for key in RESULT}, "rows": rows, "task_names": result["task_names"]}
    lost = [each for each in result["differences"] if each["row"].startswith(WITH_ANOTHER)]
    return {
        "result": {**fields, "differences": lost},
        "values": {name: [float(f"{x:.6g}") for x in value.tolist()] for name, value in of_row.items()},
    }


def _is_kept(figure: str) -> bool:
    return figure.partition("[")[0] in ("query_loss", *FIGURES)


def row(league: League, name: str) -> None:
    """Search, train, measure; then the file of the row."""
    plan, place = league.plans[name], league.place(name)
    search = searched(league, name)
    pilot = place / f"pilot-{[each['options'] for each in search['cells']].index(search['chosen'])}" / "export"
    cost = cost_of_training(league, plan, pilot)
    episodes, seeds = max(3, int(league.seconds / cost["step_seconds"])), []
    for seed in range(league.seeds):
        more = ("--data.seed", str(seed), "--seed_everything", str(seed), "--data.val_tasks", str(league.val_tasks))
        export = fit(league, plan, search["chosen"], place / f"seed-{seed}", episodes, *more)
        baselines = name == "joint" and not seed
        results = {str(shots): kept(evaluated(league, export, shots, baselines)) for shots in league.shots}
        seeds.append({"seed": seed, "training": trained(export), "shots": results})
    about = {"name": name, "learner": plan.learner, "options": {**plan.fixed, **search["chosen"]}, **plan.training}
    shared = {
        "asked": league.command_line,
        "base": Path(league.base).parent.name,
        "base_sha256": read_config(Path(league.base))["weights_sha256"],
        "generator": league.generator["name"],
        "seconds": league.seconds,
    }
    content = {**about, **shared, "revision": revision(), "search": search, "training_cost": cost, "seeds": seeds}
    league.rows.mkdir(parents=True, exist_ok=True)
    write_atomically(league.rows / f"{place.name}.json", (to_json(content) + "\n").encode())


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


def main(argv: Sequence[str] | None = None) -> None:
    """Share the rows by processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task_set", default="omniglot")
    parser.add_argument("--base", help="the jointly trained model to begin from; runs/TASK_SET-vae-joint/export")
    parser.add_argument("--runs", type=Path, help="runs/league, and -TASK_SET where that is not omniglot")
    parser.add_argument("--rows", type=Path, help="docs/league/TASK_SET")
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--tasks", type=int, default=16, help="of a meta-step")
    parser.add_argument("--pilot", type=int, default=PILOT, help="meta-steps of each cell of a search")
    parser.add_argument("--pilot_tasks", type=int, default=PILOT_TASKS, help="val tasks that a cell is judged on")
    parser.add_argument("--val_tasks", type=int, default=40, help="those that choose the best weights of a training")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, SUPPORT])
    parser.add_argument("--test_tasks", type=int, default=100)
    parser.add_argument("--curve", type=int, nargs="+", default=[0, 1, 2, 5, 10, 20, 50], help="numbers of inner steps")
    parser.add_argument("--root", help="the folder that holds its images")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="*", choices=list(plans(GAN)), help="rows; all of them")
    options = vars(parser.parse_args(argv))
    workers, only, task_set = options.pop("workers"), options.pop("only"), options["task_set"]
    typed = {name: value for name, value in options.items() if value != parser.get_default(name) and name != "root"}
    own = "" if task_set == "omniglot" else f"-{task_set}"
    if "rows" in typed:
        typed["rows"] = Path("docs/league", typed["rows"].name)  # where they belong, wherever this machine has them
    options["base"] = options["base"] or f"runs/{task_set}-vae-joint/export"
    options["runs"] = options["runs"] or Path(f"runs/league{own}")
    options["rows"] = options["rows"] or Path("docs/league", task_set)
    league = League(**options, command_line=" ".join(f"--{name} {plain(value)}" for name, value in typed.items()))
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=1) as pool:
        failed = pool.starmap(work, [(league, [name]) for name in only or league.plans], chunksize=1)
    if any(failed):
        raise SystemExit(f"failed: {', '.join(itertools.chain(*failed))}")


if __name__ == "__main__":
    main()
