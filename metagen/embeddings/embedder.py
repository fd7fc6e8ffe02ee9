"""`metagen embed`: a few numbers for each task by each method, and how well neighbours in them belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from safetensors.torch import save as save_tensors

from metagen.core.energy_distance import energy_distance
from metagen.core.registry import options_of
from metagen.distributed.environment import environment
from metagen.embeddings import Embedding, EmbeddingGAN, Pixels, Through, embeddings
from metagen.embeddings.prior import gaussian
from metagen.embeddings.scores import group_chance, group_precision, identity, nearest
from metagen.errors import MetagenError, check_at_least
from metagen.evaluation.evaluation_options import HeldOutSplit
from metagen.evaluation.evaluator import load_for_tasks, set_test_steps
from metagen.evaluation.extractor_choice import extractor_of
from metagen.metrics.intervals import over_groups_interval, over_tasks_interval
from metagen.model import Model
from metagen.report.next_steps import evaluation, next_steps, sibling
from metagen.report.plots import map_png
from metagen.report.result import TaskEstimate, estimate
from metagen.report.tables import ABSENT, as_text, noted, short
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free, fresh_folder, write_atomically
from metagen.storage.strict_json import finite, page
from metagen.tasks.base import group_of
from metagen.tasks.episodes import Episode
from metagen.tasks.splits import HELD_OUT
from metagen.tasks.task_data import TaskData

NEIGHBOURS = 5
SAMPLES = 1000  # of each prior
SEEDS = 3  # of each prior: one game ends twice as far from the held-out tasks as another
HEADINGS = {"group": "same group %", "identity": "itself %"}
PRIORS = {"gan": "GAN", "gaussian": "Gaussian", "train_tasks": "train tasks"}
Values = dict[str, torch.Tensor]  # of each task [T], by figure


@dataclass(frozen=True)
class Places:
    """The places of the tasks in one embedding.

    Attributes:
        train: the train tasks but the embedding's own [M, d]: the last M that it was fitted on.
        tasks: the held-out tasks by their support, [T, d].
        again: by as many other images of them, [T, d].
    """

    train: torch.Tensor
    tasks: torch.Tensor
    again: torch.Tensor

    @classmethod
    def of(cls, embedding: Embedding, train: torch.Tensor, held_out: Episode) -> Places:
        """Fit on supports [M, k, C, H, W] and embed held-out tasks by two disjoint supports."""
        embedding.fit(train)
        halves = held_out.support, held_out.query[:, : train.shape[1]]
        return cls(embedding.embed(train[embedding.own :]), *(embedding.embed(half) for half in halves))

    def values(self, groups: Sequence[str]) -> Values:
        """The scores of each task; that by group only where a group has two tasks."""
        own = {"identity": identity(self.tasks, self.again)}
        neighbours = min(NEIGHBOURS, len(groups) - 1)
        return ({"group": group_precision(self.tasks, groups, neighbours)} if grouped(groups) else {}) | own

    def priors(self, seed: int) -> dict[str, dict[str, float]]:
        """Energy distance from the held-out embeddings to each prior's samples, and to the train tasks."""
        seeds = range(seed, seed + SEEDS)
        made = {
            "gan": [EmbeddingGAN(seed=each).fit(self.train).sample(SAMPLES, each) for each in seeds],
            "gaussian": [gaussian(self.train, SAMPLES, each) for each in seeds],
            "train_tasks": [self.train],
        }
        return {name: _over_seeds([float(energy_distance(x, self.tasks)) for x in each]) for name, each in made.items()}


def _over_seeds(distances: Sequence[float]) -> dict[str, float]:
    """The mean, from the lowest to the highest."""
    count = len(distances)
    return {"mean": sum(distances) / count, "low": min(distances), "high": max(distances), "seeds": count}


def grouped(groups: Sequence[str]) -> bool:
    """Whether any two tasks share a group."""
    return len(set(groups)) < len(groups)


@dataclass(frozen=True)
class EmbeddingOptions:
    """Which tasks are embedded, and how.

    Attributes:
        dims: numbers a task, at most.
        params: the weights by which gradient and fisher are taken, globs or names of parts; by default those that move
            where the model adapts.
        steps: inner steps in which the model adapts, in place of its own number.
        split: "test" or "val".
        limit: take only this many held-out tasks, chosen once and for all; null for all.
        fitted_on: take only this many train tasks to fit the embeddings on; null for all.
        extractor: what the reference looks through: a folder, or the name of one bundled with metagen; by default
            the one of the task set; "none" to leave it out.
        seed: of the noise.
    """

    dims: int = 16
    params: list[str] | None = None
    steps: int | None = None
    split: HeldOutSplit = "test"
    limit: int | None = None
    fitted_on: int | None = 300
    extractor: str | None = None
    seed: int = 0


def embed(
    model: str, methods: Sequence[str], out: Path, tasks: TaskData, options: EmbeddingOptions, overwrite: bool
) -> None:
    """Write embeddings.safetensors, embeddings.json and embedding.png, and print the scores.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        methods: names of embeddings; the first is drawn.
        out: the folder to write to.
        tasks: to fit on and to embed.
        options: see there.
        overwrite: replace what stands at `out`.

    Raises:
        MetagenError: something is missing or does not fit together, or `out` is taken.
    """
    tasks.check_outside(out)
    check_free(out, overwrite, [bundled("models", model), options.extractor, *tasks.inputs])
    numbers = _numbers(options, tasks)
    base = load_for_tasks(model, tasks, options.split)
    if options.steps is not None:
        set_test_steps(base, options.steps)
    by_row, extractor_info = _embeddings(methods, options, base, tasks)
    train, held_out = (tasks.episodes.of(split, each).to_like(base.learner) for split, each in numbers.items())
    groups = [group_of(name) for name in held_out.tasks]
    places = {name: Places.of(embedding, train.support, held_out) for name, embedding in by_row.items()}
    result = finite(
        {
            "model": {"weights_sha256": base.weights_hash, **base.info},
            "extractor": extractor_info,
            "data": tasks.description,
            "split": options.split,
            "shots": tasks.held_out_shots,
            "train_tasks": len(train.tasks),
            "tasks": len(groups),
            "neighbours": min(NEIGHBOURS, len(groups) - 1),
            "prior_samples": SAMPLES,
            "seed": options.seed,
            "environment": environment(next(base.learner.parameters()).device),
            **_scored(places, groups, options.seed),
            "names": {"train": train.tasks, options.split: held_out.tasks},
            "groups": groups,
            "nearest": {name: _named(place, held_out.tasks) for name, place in places.items()},
        }
    )
    tensors = {f"{name}/{part}": x for name, place in places.items() for part, x in vars(place).items()}
    tensors |= {f"{name}/pca/{part}": x for name, each in by_row.items() for part, x in vars(each.pca).items()}
    drawn = map_png(methods[0], places[methods[0]].tasks, groups, held_out.support[:, 0])
    with fresh_folder(out, overwrite) as folder:
        write_atomically(
            folder / "embeddings.safetensors", save_tensors({n: x.contiguous() for n, x in tensors.items()})
        )
        write_atomically(folder / "embeddings.json", page(result))
        write_atomically(folder / "embedding.png", drawn)
    print(table(result))
    print(f"wrote embeddings.safetensors, embeddings.json and embedding.png to {out}")
    print(f"look at {out / 'embedding.png'}: each held-out task by one of its images, like beside like")
    if commands := evaluation(model, sibling(out, "evaluation"), tasks, base.learner.generator.comparable):
        print(next_steps(*commands))


def _numbers(options: EmbeddingOptions, tasks: TaskData) -> dict[str, list[int]]:
    """The tasks to fit on and those to judge, by number in their splits."""
    if options.split not in HELD_OUT:
        raise MetagenError(f"split: expected one of {', '.join(HELD_OUT)}, got {options.split!r}")
    shots = tasks.held_out_shots
    if tasks.queries < shots:
        raise MetagenError(
            f"data.queries: a task is embedded twice, by {shots} shots and as many others; got {tasks.queries}, "
            f"give --data.queries {shots} or more"
        )
    counts = {"train": options.fitted_on, options.split: options.limit}
    for option, (split, count), least in zip(("fitted_on", "limit"), counts.items(), (4, 3), strict=True):
        check_at_least(option, min(least if count is None else count, len(tasks.task_set.split[split])), least)
    numbers = {split: tasks.episodes.held_out_numbers(split, count) for split, count in counts.items()}
    for split, each in numbers.items():
        tasks.check_counts([tasks.task_set.split[split][number] for number in each])
    return numbers


def _embeddings(
    methods: Sequence[str], options: EmbeddingOptions, base: Model, tasks: TaskData
) -> tuple[dict[str, Embedding], dict[str, Any] | None]:
    """By the names of their rows, the references last; and what embeddings.json tells of the extractor."""
    by_row: dict[str, Embedding] = {}
    for name in methods:
        own = {"params": options.params} if "params" in options_of(embeddings[name]) else {}
        by_row[name] = embeddings[name](base.learner, dims=options.dims, seed=options.seed, **own)
    by_row["pixels"], info = Pixels(options.dims), None
    if options.extractor != "none":
        extractor, info = extractor_of(options.extractor, tasks, options.split)
        by_row["extractor"] = Through(extractor, options.dims)
    return by_row, info


def _scored(places: Mapping[str, Places], groups: Sequence[str], seed: int) -> dict[str, Any]:
    """The rows, the differences of each method from each reference, and what chance would score."""
    values = {name: place.values(groups) for name, place in places.items()}
    references = [name for name in places if name not in embeddings]
    rows = [
        {
            "row": name,
            "dims": place.tasks.shape[1],
            "train_tasks": len(place.train),
            "figures": _figures(values[name], groups),
            "priors": place.priors(seed),
        }
        for name, place in places.items()
    ]
    pairs = [(name, other) for name in places if name in embeddings for other in references]
    differences = [
        {"row": f"{a} - {b}", "figures": _figures({f: x - values[b][f] for f, x in values[a].items()}, groups)}
        for a, b in pairs
    ]
    chance = {"group": float(group_chance(groups).mean())} if grouped(groups) else {}
    return {"rows": rows, "differences": differences, "chance": {**chance, "identity": 100 / len(groups)}}


def _figures(values: Values, groups: Sequence[str]) -> dict[str, TaskEstimate]:
    """With their intervals: whole groups are resampled for the score by group, which is alike within a group."""
    intervals = {name: over_tasks_interval(each) for name, each in values.items()}
    if "group" in values:
        intervals["group"] = over_groups_interval(values["group"], groups)
    return {name: estimate(each) for name, each in intervals.items()}


def _named(place: Places, names: Sequence[str]) -> dict[str, list[str]]:
    """The nearest held-out tasks of each."""
    neighbours = nearest(place.tasks, min(NEIGHBOURS, len(names) - 1)).tolist()
    return {name: [names[other] for other in others] for name, others in zip(names, neighbours, strict=True)}


def distances(priors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The energy distances of a row as texts, each with half the range of its seeds if there are several."""
    return [_distance(priors[name]) for name in PRIORS]


def _distance(prior: Mapping[str, Any]) -> str:
    if None in prior.values():
        return ABSENT
    half = f" ±{(prior['high'] - prior['low']) / 2:.3f}" if prior["seeds"] > 1 else ""
    return f"{prior['mean']:.3f}{half}"


def table(result: Mapping[str, Any]) -> str:
    """The scores as text."""
    headings = {name: HEADINGS[name] for name in HEADINGS if name in result["chance"]}
    about = f"{result['tasks']} {result['split']} tasks, {result['shots']} shots, {result['neighbours']} neighbours"
    about = f"{about}; ± half the 95 % interval, of GAN and Gaussian half the range of {SEEDS} seeds"
    lines = Table("", "d", *headings.values(), *PRIORS.values(), title=about)
    for row in [*result["rows"], *result["differences"]]:
        figures = [short(row["figures"][name]) for name in headings]
        lines.add_row(
            row["row"], str(row.get("dims", "")), *figures, *(distances(row["priors"]) if "priors" in row else ())
        )
    lines.add_row("chance", "", *(f"{result['chance'][name]:.2f}" for name in headings))
    return "\n".join([as_text(lines), *noted(result)]).rstrip()
