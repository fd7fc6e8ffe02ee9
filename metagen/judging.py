"""`metagen evaluate`: which model may be judged on which tasks, through what, and what is written of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import metagen
from metagen.artifacts import load_extractor
from metagen.errors import MetagenError
from metagen.evaluation import check_options, measure
from metagen.files import check_free, fresh_folder, write_atomically
from metagen.images import save_png
from metagen.metrics import Extractor
from metagen.model import Model, expect, load
from metagen.pictures import curve_png
from metagen.processes import Processes, rank
from metagen.quiet import quieten
from metagen.resources import travelling
from metagen.spread import Spread
from metagen.tasks.data import EpisodeData
from metagen.tasks.splits import Split, read_split
from metagen.views import picture, table


def judge(
    model: str,
    out: Path,
    tasks: EpisodeData,
    options: Mapping[str, Any],
    extractor: str | None,
    joint: str | None,
    processes: Processes,
    batch: int,
    overwrite: bool,
) -> None:
    """Measure a model, and write result.json, samples.png and curve.png; `options` are those of `measure`.

    Raises:
        MetagenError: something is missing or does not fit together, or `out` is taken.
    """
    quieten()
    check_free(out, overwrite)
    held_out = check_options(tasks.episodes, options["split"], options["limit"], options["curve"], extractor != "none")
    tasks.check_counts([tasks.task_set.split[options["split"]][number] for number in held_out])
    base = _judged(model, tasks, options["split"])
    other = _judged(joint, tasks, options["split"]) if joint else None
    look, seen = _look_through(extractor, tasks, options["split"])
    about = {
        "model": {"weights_sha256": base.weights_hash, **base.info},
        "extractor": seen,
        "data": tasks.description,
    }
    unfinished = out.with_name(f"{out.name}.unfinished")
    spread = Spread(unfinished, {**_all_of(about, tasks, options, other), "batch": batch}, batch, overwrite)
    with processes.launched() as device:
        if spread.kept and not rank():
            print(f"going on: {spread.kept} batches of tasks were measured before")
        through = look.to(device) if look else None
        joined = other.learner.to(device) if other else None
        mine = base.learner.to(device)
        try:
            found = measure(mine, tasks.episodes, **options, extractor=through, joint=joined, spread=spread)
        except KeyboardInterrupt:
            if rank():
                raise SystemExit(130) from None  # rank 0 says it for all
            raise KeyboardInterrupt("before the end; the same command goes on from here") from None
        if not rank():
            _write(out, about | found, picture(mine, tasks.episodes.first(options["split"], 12), 10), overwrite)
            shutil.rmtree(unfinished)


def _all_of(
    about: Mapping[str, Any], tasks: EpisodeData, options: Mapping[str, Any], joint: Model | None
) -> dict[str, Any]:
    """All that figures depend on, so that unfinished work is gone on with by the same command alone."""
    held_out = {"split_sha256": tasks.task_set.split.hash, "shots": tasks.shots, "queries": tasks.queries}
    return {**about, **options, **held_out, "joint": joint and joint.weights_hash, "metagen": metagen.__version__}


def _write(out: Path, result: Mapping[str, Any], samples: torch.Tensor, overwrite: bool) -> None:
    with fresh_folder(out, overwrite) as folder:
        write_atomically(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())
        save_png(samples, folder / "samples.png")
        write_atomically(folder / "curve.png", curve_png(result))
    print(table(result))
    print(f"wrote result.json, samples.png and curve.png to {out}")


def _judged(name: str, tasks: EpisodeData, split: str) -> Model:
    """A model that may be judged on these tasks: of their size, and never trained on them."""
    base = expect(load(name), Model, name, "name its base")
    generator = base.learner.generator
    if (tasks.task_set.size, tasks.task_set.channels) != (generator.size, generator.channels):
        raise MetagenError(
            f"{name}: makes images of {generator.size} px and {generator.channels} channels; "
            "leave out --data.size and --data.channels"
        )
    if base.info.get("data", {}).get("task_set") == tasks.name:
        _refuse_trained_on(name, base.split, tasks, split)
    return base


def _refuse_trained_on(name: str, trained: Split | None, tasks: EpisodeData, split: str) -> None:
    if trained is None:
        raise MetagenError(f"{name}: has no split.json, so nobody knows which tasks it was trained on; export it again")
    used = {*trained.train, *(trained.val if split == "test" else ())}
    seen = sorted(used & set(tasks.task_set.split[split]))
    if seen:
        raise MetagenError(
            f"{name}: was trained or chosen on {len(seen)} of these {split} tasks, {seen[0]!r} first; give the "
            "split.json of its folder as --data.split_file"
        )


def _look_through(name: str | None, tasks: EpisodeData, split: str) -> tuple[Extractor | None, dict[str, Any] | None]:
    """The extractor and what is told of it; by default the reporting one of the task set."""
    if name == "none":
        return None, None
    try:
        path = travelling("extractors", name or f"{tasks.name}-report")
    except MetagenError as error:
        if name:
            raise
        raise MetagenError(
            f"no extractor of {tasks.name} travels with metagen: name one as --extractor (metagen train-extractor "
            "makes one), or --extractor none to measure the query loss alone"
        ) from error
    extractor, info, weights = load_extractor(path)
    if info.get("data", {}).get("task_set") == tasks.name:
        _refuse_trained_on(str(path), read_split(path / "split.json"), tasks, split)
    return extractor, {"name": path.name, "weights_sha256": weights, **info}
