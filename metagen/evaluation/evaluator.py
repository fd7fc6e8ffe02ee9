"""`metagen evaluate`: which model may be judged on which tasks, through what, and what is written of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors

import metagen
from metagen.core.quiet import quieten
from metagen.distributed.processes import Processes, rank
from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation.extractor_choice import extractor_of
from metagen.evaluation.scorecard import TUNING_TASKS, check_options, measure
from metagen.evaluation.studies import HeldOut, studies
from metagen.learners.model_files import describe
from metagen.metrics import Extractor, chosen, metrics, naming
from metagen.metrics.extractors import LPIPS, Inception
from metagen.model import Model, load_base
from metagen.report.plots import curve_png
from metagen.report.tables import picture, study_lines, table
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free, fresh_folder, placed, write_atomically
from metagen.storage.images import save_png
from metagen.storage.strict_json import finite, page
from metagen.tasks.task_data import TaskData

SHOWN = 12  # tasks in the picture


@dataclass(frozen=True)
class Question:
    """What is to be judged, and through what.

    Attributes:
        model: an exported model.
        joint: one trained jointly on the same tasks, or None.
        extractor: see `looked_through`.
        inception: see `looked_through`.
        lpips: see `looked_through`.
        metrics: names of figures and studies; None for the usual figures.
        full: whether studies take all tasks and images.
        steps: of the model where it adapts; None for its own.
    """

    model: str
    joint: str | None
    extractor: str | None
    inception: str | None
    lpips: str | None
    metrics: Sequence[str] | None
    full: bool
    steps: int | None

    @property
    def inputs(self) -> list[str | Path | None]:
        """The files and folders that are read, and names of what is not given or is bundled with metagen."""
        models = [bundled("models", name) for name in (self.model, self.joint) if name]
        return [*models, self.extractor, self.inception, self.lpips]

    @property
    def columns(self) -> list[str] | None:
        """The figures among what is asked; None for the usual ones, also where studies alone are named."""
        return [name for name in self.metrics or () if name not in studies] or None

    @property
    def studies(self) -> list[str]:
        """The studies among what is asked."""
        return [name for name in self.metrics or () if name in studies]


def judge(
    question: Question,
    out: Path,
    tasks: TaskData,
    options: Mapping[str, Any],
    processes: Processes,
    batch: int,
    overwrite: bool,
) -> None:
    """Measure a model, and write result.json, values.safetensors, samples.png and curve.png.

    Args:
        question: what is to be judged.
        out: the folder to write to.
        tasks: what it is judged on.
        options: split, limit, curve and seed of `measure`.
        processes: what shares the work.
        batch: tasks at once.
        overwrite: replace what stands at `out`.

    Raises:
        MetagenError: something is missing or does not fit together, or `out` is taken.
    """
    quieten()
    tasks.check_outside(out)
    check_free(out, overwrite, [*question.inputs, *tasks.inputs])
    split, seen = options["split"], question.extractor != "none" or bool(question.inception or question.lpips)
    held_out = check_options(tasks.episodes, split, options["limit"], options["curve"], seen)
    val = tasks.episodes.held_out_numbers("val", TUNING_TASKS)
    for part, numbers in ((split, held_out), ("val", val)):
        tasks.check_counts([tasks.task_set.split[part][number] for number in numbers])
    base = load_for_tasks(question.model, tasks, split)
    if question.steps is not None:
        take_steps(question.steps, base)
    other = _joint(question.joint, tasks, split) if question.joint else None
    looks = looked_through(question, tasks, split)
    figures = chosen(question.columns, metrics, looks, studies)
    about = {
        "model": {"weights_sha256": base.weights_hash, **base.info},
        "extractors": [info for _, info in looks.values()],
        "data": tasks.description,
    }
    unfinished = out.with_name(f"{out.name}.unfinished")
    everything = {**about, **options, "batch": batch, "full": question.full, **_depended_on(tasks, base, other)}
    sharded = ShardedTasks(unfinished, everything, batch, overwrite)
    held = HeldOut(base.learner, tasks.episodes, split, held_out, options["seed"], sharded, question.full)
    for name in question.studies:
        studies[name].check(held)
    with processes.launched() as device, _told_how_to_go_on():
        if sharded.batches_found and not rank():
            print(f"going on: {sharded.batches_found} batches of tasks were measured before")
        through = {name: look.to(device) for name, (look, _) in looks.items()}
        joined, mine = other.learner.to(device) if other else None, base.learner.to(device)
        found = measure(
            mine, tasks.episodes, **options, extractors=through, figures=figures, joint=joined, sharded=sharded
        )
        studied = {name: studies[name].run(held) for name in question.studies}
        if not rank():
            samples = picture(mine, tasks.episodes.of(split, held_out[:SHOWN]), 10)
            result = finite({**about, **found.result, "studies": studied})
            _write(out, result, found.values, samples, overwrite)
            sharded.end()
            print(table(result, every=question.columns is not None))
            for name, study in result["studies"].items():
                print(study_lines(name, study))
            print(f"wrote result.json, values.safetensors, samples.png and curve.png to {out}")


@contextmanager
def _told_how_to_go_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if rank():
            raise SystemExit(130) from None  # rank 0 says it for all
        raise KeyboardInterrupt("before the end; the same command goes on from here") from None


def _depended_on(tasks: TaskData, base: Model, joint: Model | None) -> dict[str, Any]:
    """What figures depend on beside weights and options."""
    root = tasks.options["root"] and os.path.realpath(placed(tasks.options["root"]))
    return {
        "images": [root, tasks.options["on_bad_image"], tasks.task_set.split.hash, tasks.held_out_shots, tasks.queries],
        "learner": describe(base.learner),
        "joint": [joint.weights_hash, describe(joint.learner)] if joint else None,
        "metagen": metagen.__version__,
    }


def _write(
    out: Path,
    result: Mapping[str, Any],
    values: Mapping[str, torch.Tensor],
    samples: torch.Tensor,
    overwrite: bool,
) -> None:
    with fresh_folder(out, overwrite) as folder:
        write_atomically(folder / "result.json", page(result))
        write_atomically(folder / "values.safetensors", save_tensors(dict(values)))
        save_png(samples, folder / "samples.png")
        write_atomically(folder / "curve.png", curve_png(result))


def load_for_tasks(name: str, tasks: TaskData, split: str) -> Model:
    """A model that may be judged on these tasks: of their size, and never trained on them."""
    base = load_base(name)
    generator = base.learner.generator
    tasks.check_size(name, generator.size, generator.channels)
    tasks.check_unseen(name, base.info, base.seen, split)
    tasks.tell_ground(name, base.info)
    tasks.tell_blank(split)
    return base


def take_steps(steps: int, model: Model) -> None:
    """Let a model adapt in so many inner steps; what `Model.check_steps` raises."""
    model.check_steps(steps)
    model.learner.test_steps = steps


def _joint(name: str, tasks: TaskData, split: str) -> Model:
    """A model for the row "joint + fine-tune"."""
    model = load_for_tasks(name, tasks, split)
    if model.learner.steps or model.learner.conditioned:
        kind = type(model.learner).__name__
        raise MetagenError(f"{name}: expected a jointly trained model for --joint (learner Joint), got {kind}")
    return model


Looks = dict[str, tuple[Extractor, dict[str, Any]]]
# Those of the literature, by what they and their options are called.
LITERATURE: dict[str, type[Inception] | type[LPIPS]] = {naming.INCEPTION: Inception, naming.LPIPS: LPIPS}


def looked_through(question: Question, tasks: TaskData, split: str) -> Looks:
    """The extractors by name, each with what is told of it: that of the domain first, by default its reporting one.

    Raises:
        MetagenError: there is none, it is damaged, or it was trained on a task that is to be judged.
    """
    looks: Looks = {}
    if question.extractor != "none":
        extractor, info = extractor_of(question.extractor, tasks, split)
        looks[info["name"]] = extractor, info
    for name, kind in LITERATURE.items():
        if name in looks:
            raise MetagenError(f"{question.extractor}: only {kind.__name__} is called {name!r}; give it another name")
        if source := getattr(question, name):
            published = kind(source)
            looks[name] = published, {"name": name, "weights_sha256": published.weights_sha256, **published.about}
    return looks
