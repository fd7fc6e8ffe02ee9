"""`metagen evaluate`: load a model, extractors and a joint baseline, measure, and write what was measured."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors.torch import save as save_tensors

import metagen
from metagen.distributed.processes import Processes, rank
from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation.baselines import TUNING_TASKS
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.extractor_choice import extractor_of
from metagen.evaluation.scorecard import check_options, measure
from metagen.evaluation.studies import StudyContext, studies
from metagen.evaluation.task_results import LAYOUT
from metagen.learners.model_files import describe
from metagen.metrics import Extractor, metrics, naming, select_figures
from metagen.metrics.extractors import LPIPS, Inception
from metagen.model import Model, load_base
from metagen.report.next_steps import next_steps
from metagen.report.plots import curve_png
from metagen.report.result import Result
from metagen.report.tables import RESULT, headline, picture, study_lines, table
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free, fresh_folder, placed, write_atomically
from metagen.storage.images import save_png
from metagen.storage.strict_json import finite, page
from metagen.tasks.task_data import TaskData

SHOWN = 12  # tasks in the picture


def evaluate(
    model: str,
    out: Path,
    tasks: TaskData,
    options: EvaluationOptions,
    processes: Processes,
    overwrite: bool,
) -> None:
    """Measure a model, and write result.json, values.safetensors, samples.png and curve.png.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        tasks: whose held-out tasks it is measured on.
        options: what is measured.
        processes: what shares the work.
        overwrite: replace what stands at `out`.

    Raises:
        MetagenError: something is missing or does not fit together, or `out` is taken.
    """
    tasks.check_outside(out)
    check_free(out, overwrite, [*_inputs(model, options), *tasks.inputs])
    held_out = _check_tasks(options, tasks)
    base = load_for_tasks(model, tasks, options.split)
    if options.steps is not None:
        set_test_steps(base, options.steps)
    joint = _load_joint(options.joint, tasks, options.split, options.baselines) if options.joint else None
    extractors = load_extractors(options, tasks)
    named = options.metrics or ()
    columns = [name for name in named if name not in studies] or None  # the usual ones, also where studies are named
    figures = select_figures(columns, metrics, extractors, studies)
    description = _description(base, extractors, tasks)
    unfinished = out.with_name(f"{out.name}.unfinished")
    work = {**description, **_batch_options(options), **_dependencies(tasks, base, joint)}
    sharded = ShardedTasks(unfinished, work, options.batch, overwrite)
    context = StudyContext(base.learner, tasks.episodes, options.split, held_out, options.seed, sharded, options.full)
    chosen_studies = {name: studies[name] for name in named if name in studies}
    for study in chosen_studies.values():
        study.check(context)
    with processes.launched() as device, _how_to_go_on():
        if sharded.batches_found and not rank():
            print(f"going on: {sharded.batches_found} batches of tasks were measured before")
        by_name = {name: loaded.extractor.to(device) for name, loaded in extractors.items()}
        joint_learner, learner = joint.learner.to(device) if joint else None, base.learner.to(device)
        scores, values = measure(learner, tasks.episodes, options, by_name, figures, joint_learner, sharded)
        studied = {name: study.run(context) for name, study in chosen_studies.items()}
        if not rank():
            samples = picture({"generated": learner}, tasks.episodes.of(options.split, held_out[:SHOWN]), 10)
            result = cast(Result, finite({**description, **scores, "studies": studied}))
            _write(out, result, values, samples, overwrite)
            sharded.end()
            _print(result, out, every=columns is not None)


def _inputs(model: str, options: EvaluationOptions) -> list[str | Path | None]:
    """The files and folders that are read, and names of what is not given or is bundled with metagen."""
    models = [bundled("models", name) for name in (model, options.joint) if name]
    return [*models, options.extractor, options.inception, options.lpips]


def _check_tasks(options: EvaluationOptions, tasks: TaskData) -> list[int]:
    """The numbers of the held-out tasks; these, and those of val that baselines are tuned on, have images enough."""
    with_extractor = options.extractor != "none" or bool(options.inception or options.lpips)
    held_out = check_options(tasks.episodes, options, with_extractor)
    looked_at = [(options.split, held_out)]
    if options.baselines:
        looked_at.append(("val", tasks.episodes.held_out_numbers("val", TUNING_TASKS)))
    for part, numbers in looked_at:
        tasks.check_counts([tasks.task_set.split[part][number] for number in numbers])
    return held_out


def _description(base: Model, extractors: Mapping[str, LoadedExtractor], tasks: TaskData) -> dict[str, Any]:
    """The model, the extractors and the tasks, as result.json has them."""
    return {
        "model": {"weights_sha256": base.weights_hash, **base.info},
        "extractors": [loaded.info for loaded in extractors.values()],
        "data": tasks.description,
    }


def _print(result: Result, out: Path, every: bool) -> None:
    print(table(result, every, out / RESULT))
    for name, study in result["studies"].items():
        print(study_lines(name, cast(Mapping[str, Any], study)))
    if summary := headline(result):
        print(summary)
    print(f"wrote result.json, values.safetensors, samples.png and curve.png to {out}")
    print(f"look at {out / 'samples.png'}: support, real images and generated ones, a row a task")
    print(next_steps(["compare", out, "ANOTHER_EVALUATION/"]))


@contextmanager
def _how_to_go_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        if rank():
            raise SystemExit(130) from None  # rank 0 says it for all
        raise KeyboardInterrupt("before the end; the same command goes on from here") from None


def _batch_options(options: EvaluationOptions) -> dict[str, Any]:
    """The options on which kept batches of tasks depend."""
    names = ("split", "limit", "curve", "seed", "baselines", "auto", "batch", "full")
    return {"layout": LAYOUT, **{name: getattr(options, name) for name in names}}


def _dependencies(tasks: TaskData, base: Model, joint: Model | None) -> dict[str, Any]:
    """All else that they depend on, beside weights: images, learners and the version."""
    root = tasks.options["root"] and os.path.realpath(placed(tasks.options["root"]))
    return {
        "images": [root, tasks.options["on_bad_image"], tasks.task_set.split.hash, tasks.held_out_shots, tasks.queries],
        "learner": describe(base.learner),
        "joint": [joint.weights_hash, describe(joint.learner)] if joint else None,
        "metagen": metagen.__version__,
    }


def _write(
    out: Path,
    result: Result,
    values: Mapping[str, torch.Tensor],
    samples: torch.Tensor,
    overwrite: bool,
) -> None:
    with fresh_folder(out, overwrite) as folder:
        write_atomically(folder / RESULT, page(result))
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


def set_test_steps(model: Model, steps: int) -> None:
    """Let a model adapt in so many inner steps; raises what `Model.check_steps` raises."""
    model.check_steps(steps)
    model.learner.test_steps = steps


def _load_joint(name: str, tasks: TaskData, split: str, with_baselines: bool) -> Model:
    """A model for the row "joint + fine-tune"; `with_baselines` says whether that is measured."""
    if not with_baselines:
        raise MetagenError("joint: its row is one of the baselines, which are measured on request; add --baselines")
    model = load_for_tasks(name, tasks, split)
    if model.learner.steps or model.learner.conditioned:
        kind = type(model.learner).__name__
        raise MetagenError(f"{name}: expected a jointly trained model for --joint (learner Joint), got {kind}")
    return model


class LoadedExtractor(NamedTuple):
    """An extractor, and what result.json tells of it."""

    extractor: Extractor
    info: dict[str, Any]


# Those of the literature, by what they and their options are called.
LITERATURE: dict[str, type[Inception] | type[LPIPS]] = {naming.INCEPTION: Inception, naming.LPIPS: LPIPS}


def load_extractors(options: EvaluationOptions, tasks: TaskData) -> dict[str, LoadedExtractor]:
    """The extractors by name: that of the domain first, by default its reporting one.

    Raises:
        MetagenError: there is none, it is damaged, or it was trained on a task that is to be judged.
    """
    loaded: dict[str, LoadedExtractor] = {}
    if options.extractor != "none":
        extractor, info = extractor_of(options.extractor, tasks, options.split)
        loaded[info["name"]] = LoadedExtractor(extractor, info)
    for name, kind in LITERATURE.items():
        if name in loaded:
            raise MetagenError(f"{options.extractor}: only {kind.__name__} is called {name!r}; give it another name")
        if source := getattr(options, name):
            published = kind(source)
            info = {"name": name, "weights_sha256": published.weights_sha256, **published.about}
            loaded[name] = LoadedExtractor(published, info)
    return loaded
