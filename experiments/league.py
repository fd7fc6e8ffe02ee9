"""The league: every learner from one jointly trained generator, on the same tasks, for the same seconds.

    python experiments/league.py --root DIR      # DIR holds Omniglot; about an hour on two cores
    python experiments/league_page.py            # results/league/README.md, from the files of the rows

For each learner a small search on val tasks (six cells or more of what moves and how fast, 60 meta-steps each) chooses
its options; then it is trained from the shared generator for as many meta-steps as have meta-gradients of so many
processor seconds, from each seed, and measured on test tasks by `metagen evaluate`. Runs of the same options are
reused. The file of a row, results/league/rows/LEARNER.json, is written when the row is complete. More seeds append
(`--seeds 3`); more seconds make another league (`--seconds 600 --runs runs/league-600s --out results/league-600s`), and
so does another generator, a GAN too (`--base runs/omniglot-r3-joint/export --runs runs/league-omniglot-gan --out
results/league-gan`).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.league_plans import GAN, Plan, kind_of, plans
from experiments.pages import RESULTS, rounded
from experiments.runs import evaluated, fitted, parser, revision, weights
from metagen.adaptation import in_chunks, task_batch
from metagen.evaluation.studies.cost import MIB, peak_bytes
from metagen.generators import generators
from metagen.learners import learners
from metagen.learners.model_files import load_model
from metagen.report.result import read_result
from metagen.storage.artifacts import read_config
from metagen.storage.bundled import bundled
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import regulariser_for

PILOT, PILOT_TASKS = 60, 24  # meta-steps of a cell of the search, and the val tasks that score it
PROGRESS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of meta-training, at which a meta-step is timed: some learners change
SUPPORT = 5  # shots of meta-training
FIGURES = ("fd", "energy", "is", "recognisability", "diversity_relative", "copy_ratio", "coverage")
WITH_ANOTHER = "adapted - another task's "  # support, or what else is read
OF_ROWS = ("adapted/", "scratch/", "scale/")
RESULT = (
    *("model", "extractors", "data", "criterion", "unit", "split", "split_sha256", "images_crc32", "shots", "queries"),
    *("tasks", "real", "made", "seed", "environment", "curve", "studies"),
)


Options = argparse.Namespace  # those of `main`, which all rows share


class Diverged(RuntimeError):
    """Numbers that are not finite ended a training."""


def generator_of(league: Options) -> dict[str, Any]:
    """The shared generator: its name and options."""
    generator: dict[str, Any] = read_config(bundled("models", league.base))["generator"]
    return generator


def plans_of(league: Options) -> dict[str, Plan]:
    """The plans of the rows."""
    return plans(kind_of(generator_of(league)["name"]))


def place_of(league: Options, name: str) -> Path:
    """The folder of a learner's runs."""
    return Path(league.runs) / name.replace(" ", "-").replace(",", "").replace("+", "p")


def fit(league: Options, plan: Plan, options: dict[str, Any], run: Path, episodes: int, *more: object) -> Path:
    """Train a learner for so many meta-steps; the folder of the export.

    Raises:
        Diverged: the loss was not finite before any export was made.
    """
    generator = generator_of(league)
    own = {key: value for key, value in generator.items() if key not in ("name", "size", "channels")}
    words = [f"--model.generator.{key}={spelled(value)}" for key, value in own.items()]
    words += [f"--model.learner.{key}={spelled(value)}" for key, value in {**plan.fixed, **options}.items()]
    words += [f"--model.{key}={spelled(value)}" for key, value in plan.training.items()]
    command = [
        *("--data.task_set", "omniglot", "--data.root", league.root, "--data.size", 28, "--data.shots", SUPPORT),
        *("--data.queries", 10, "--data.tasks", league.tasks, "--data.episodes", episodes),
        *("--model.initial", league.base, "--model.generator", generators[generator["name"]].__name__),
        *("--model.learner", learners[plan.learner].__name__, *words, "--model.warmup", 20),
        *("--trainer.val_check_interval", max(1, episodes // 3), "--trainer.accelerator", "cpu"),
        *("--samples.tasks", 1, *more),
    ]
    try:
        export = fitted(run, *command, of=weights(league.base))
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


def searched(league: Options, name: str) -> dict[str, Any]:
    """The cell that is best on val tasks, and the score of every cell."""
    plan, place, cells = plans_of(league)[name], place_of(league, name), []
    for number, cell in enumerate(plan.grid):
        run = place / f"pilot-{number}"
        try:
            export = fit(league, plan, cell, run, league.pilot, "--data.val_tasks", league.pilot_tasks)
            cells.append({"options": cell, "val": training_of(export)["best_val"]})
        except Diverged as error:
            cells.append({"options": cell, "val": None, "error": str(error)})
    finite = [each for each in cells if each["val"] is not None]
    if not finite:
        raise Diverged(f"{name}: no cell of its search stayed finite")
    chosen = min(finite, key=lambda each: float(each["val"]))["options"]
    return {"steps": league.pilot, "val_tasks": league.pilot_tasks, "chosen": chosen, "cells": cells}


def training_of(export: Path) -> dict[str, Any]:
    """The meta-training of a model, from its config."""
    training: dict[str, Any] = read_config(export)["info"]["training"]
    return training


def cost_of_training(league: Options, plan: Plan, export: Path) -> dict[str, float]:
    """Processor seconds, the mean over a training's progress, and peak memory of a meta-gradient.

    Measured once: a rerun trains for as many meta-steps.
    """
    place, of = export.parent / "cost.json", weights(export)
    known = read_json(place) if place.is_file() else {}
    if known.get("of") == of:
        return dict(known["cost"])
    learner = load_model(export)[0]
    learner.regulariser = regulariser_for(learner, terms) if (terms := plan.training.get("regularise")) else None
    tasks = EpisodeData("omniglot", league.root, shots=SUPPORT, queries=10).episodes.train(0, league.tasks)
    batch = task_batch(learner, tasks.support, tasks.query, (0, "cost"), tasks.numbers)
    meta = {name: w.detach() for name, w in learner.named_parameters()}
    seconds, peaks = [], []
    for progress in PROGRESS:
        learner.anneal(progress)

        def step() -> object:
            return in_chunks(learner.meta_gradient, learner, meta, batch)

        peaks.append(peak_bytes(step, torch.device("cpu")) / MIB)
        started = time.process_time()  # of the processor: fair beside other work
        for _ in range(3):
            step()
        seconds.append((time.process_time() - started) / 3)
    cost = {"step_seconds": sum(seconds) / len(seconds), "step_peak_mib": max(peaks)}
    write_atomically(place, to_json({"of": of, "cost": cost}).encode())
    return cost


def measured(league: Options, export: Path, shots: int, baselines: bool) -> dict[str, Any]:
    """A model's stored result on test tasks; with the row *scratch*, where baselines are."""
    words = [
        *("--data.root", league.root, "--limit", league.test_tasks, "--data.shots", shots, "--data.queries", 14),
        *("--baselines", str(baselines).lower(), "--metrics", to_json([*FIGURES, "cost"])),
        *("--curve", to_json(league.curve)),
    ]
    return kept(evaluated(export, export.parent / f"evaluation-{shots}", *words))


def kept(place: Path) -> dict[str, Any]:
    """The part of a result that a row's file keeps: the adapted row with its values, and those without a model."""
    result, values = read_result(place), load_file(place.with_name("values.safetensors"))
    of_row = {k: v for k, v in values.items() if k.startswith(OF_ROWS) and _is_kept(k.partition("/")[2])}
    rows = [{**row, "figures": {f: v for f, v in row["figures"].items() if _is_kept(f)}} for row in result["rows"]]
    by_key: dict[str, Any] = {**result}
    fields = {**{key: by_key[key] for key in RESULT}, "rows": rows, "task_names": result["task_names"]}
    lost = [each for each in result["differences"] if each["row"].startswith(WITH_ANOTHER)]
    return {"result": {**fields, "differences": lost}, "values": rounded(of_row)}


def _is_kept(figure: str) -> bool:
    return figure.partition("[")[0] in ("query_loss", *FIGURES)


def row(league: Options, name: str) -> None:
    """Search, train, measure; then the file of the row."""
    plan, place = plans_of(league)[name], place_of(league, name)
    search = searched(league, name)
    pilot = place / f"pilot-{[each['options'] for each in search['cells']].index(search['chosen'])}" / "export"
    cost = cost_of_training(league, plan, pilot)
    episodes, seeds = max(3, int(league.seconds / cost["step_seconds"])), []
    for seed in range(league.seeds):
        more = ("--data.seed", seed, "--seed_everything", seed, "--data.val_tasks", league.val_tasks)
        export = fit(league, plan, search["chosen"], place / f"seed-{seed}", episodes, *more)
        baselines = name == "joint" and not seed
        results = {str(shots): measured(league, export, shots, baselines) for shots in league.shots}
        seeds.append({"seed": seed, "training": training_of(export), "shots": results})
    about = {"name": name, "learner": plan.learner, "options": {**plan.fixed, **search["chosen"]}, **plan.training}
    shared = {
        "asked": league.command_line,
        "base": league.base.parent.name,
        "base_sha256": weights(league.base),
        "generator": generator_of(league)["name"],
        "seconds": league.seconds,
    }
    content = {**about, **shared, "revision": revision(), "search": search, "training_cost": cost, "seeds": seeds}
    (league.out / "rows").mkdir(parents=True, exist_ok=True)
    write_atomically(league.out / "rows" / f"{place.name}.json", (to_json(content) + "\n").encode())


def share(make: Callable[[Options, str], None], league: Options, names: Iterable[str]) -> None:
    """Make rows by `league.workers` processes of one thread each, a row at a time.

    Raises:
        SystemExit: naming those that failed.
    """
    given = [(make, league, name) for name in names]
    with multiprocessing.get_context("spawn").Pool(league.workers, maxtasksperchild=1) as pool:
        there = pool.starmap(_is_made, given, chunksize=1)
    if failed := [name for (*_, name), done in zip(given, there, strict=True) if not done]:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _is_made(make: Callable[[Options, str], None], league: Options, name: str) -> bool:
    """Make a row in this process; whether that went well."""
    torch.set_num_threads(1)
    try:
        make(league, name)
    except (Exception, SystemExit):
        print(f"{name} failed\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        return False
    print(f"{name} is there", flush=True)
    return True


def main(argv: Sequence[str] | None = None) -> None:
    """Share the rows by processes."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--base", type=Path, default=Path("runs/omniglot-vae-joint/export"), help="trained jointly")
    options.add_argument("--runs", type=Path, default=Path("runs/league"))
    options.add_argument("--out", type=Path, default=RESULTS / "league", help="folder of the result")
    options.add_argument("--seconds", type=float, default=90.0)
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--tasks", type=int, default=16, help="of a meta-step")
    options.add_argument("--pilot", type=int, default=PILOT, help="meta-steps of each cell of a search")
    options.add_argument("--pilot_tasks", type=int, default=PILOT_TASKS, help="val tasks that score a cell")
    options.add_argument("--val_tasks", type=int, default=40, help="those that choose the best weights of a training")
    options.add_argument("--shots", type=int, nargs="+", default=[1, SUPPORT])
    options.add_argument("--test_tasks", type=int, default=100)
    options.add_argument(
        "--curve", type=int, nargs="+", default=[0, 1, 2, 5, 10, 20, 50], help="numbers of inner steps"
    )
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--only", nargs="*", choices=list(plans(GAN)), help="rows; all of them")
    league = options.parse_args(argv)
    settings = {name: value for name, value in vars(league).items() if name not in ("root", "workers", "only")}
    typed = {name: value for name, value in settings.items() if value != options.get_default(name)}
    if "out" in typed:
        typed["out"] = RESULTS / league.out.name  # not where this machine has it
    league.command_line = " ".join(f"--{name} {plain(value)}" for name, value in typed.items())
    share(row, league, league.only or plans_of(league))


def plain(value: object) -> str:
    """A value as it is typed, a list by its words."""
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"


if __name__ == "__main__":
    main()
