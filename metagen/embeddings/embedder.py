"""`metagen embed`: a few numbers for each task by each way, and how well neighbours in them belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from safetensors.torch import save as save_tensors

from metagen.core.energy_distance import energy_distance
from metagen.core.quiet import quieten
from metagen.core.registry import options_of
from metagen.distributed.environment import environment
from metagen.embeddings import Embedding, EmbeddingGAN, Pixels, Through, embeddings
from metagen.embeddings.prior import gaussian
from metagen.embeddings.scores import group_chance, group_precision, identity, nearest
from metagen.errors import MetagenError, check_at_least
from metagen.evaluation.evaluator import load_for_tasks, take_steps
from metagen.evaluation.extractor_choice import extractor_of
from metagen.metrics.intervals import over_groups_interval, over_tasks_interval
from metagen.model import Model
from metagen.report.plots import map_png
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
    """Where one embedding puts the tasks.

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
        """Energy distance from the held-out tasks: of tasks made up after the train tasks, by whom, and of these."""
        seeds = range(seed, seed + SEEDS)
        made = {
            "gan": [EmbeddingGAN(seed=each).fit(self.train).sample(SAMPLES, each) for each in seeds],
            "gaussian": [gaussian(self.train, SAMPLES, each) for each in seeds],
            "train_tasks": [self.train],
        }
        return {name: _over_seeds([float(energy_distance(x, self.tasks)) for x in each]) for name, each in made.items()}


def _over_seeds(found: Sequence[float]) -> dict[str, float]:
    """The mean, from the lowest to the highest."""
    return {"mean": sum(found) / len(found), "low": min(found), "high": max(found), "seeds": len(found)}


def grouped(groups: Sequence[str]) -> bool:
    """Whether any two tasks share a group."""
    return len(set(groups)) < len(groups)


@dataclass(frozen=True)
class Wanted:
    """What is to be embedded, and how.

    Attributes:
        model: an exported model.
        ways: names of embeddings.
        dims: d, at most.
        params: the weights of ways that know of them; None for their own.
        steps: of the model where it adapts; None for its own.
        split: "test" or "val".
        limit: how many held-out tasks; None for all.
        fitted_on: how many train tasks; None for all.
        extractor: see `extractor_of`; "none" for no such row.
        seed: of the noise.
    """

    model: str
    ways: Sequence[str]
    dims: int
    params: Sequence[str] | None
    steps: int | None
    split: str
    limit: int | None
    fitted_on: int | None
    extractor: str | None
    seed: int


def embed(wanted: Wanted, out: Path, tasks: TaskData, overwrite: bool) -> None:
    """Write embeddings.safetensors, embeddings.json and embedding.png, and print the scores.

    Raises:
        MetagenError: something is missing or does not fit together, or `out` is taken.
    """
    quieten()
    tasks.check_outside(out)
    check_free(out, overwrite, [bundled("models", wanted.model), wanted.extractor, *tasks.inputs])
    numbers = _numbers(wanted, tasks)
    base = load_for_tasks(wanted.model, tasks, wanted.split)
    if wanted.steps is not None:
        take_steps(wanted.steps, base)
    made, seen = _embeddings(wanted, base, tasks)
    train, held_out = (tasks.episodes.of(split, each).to_like(base.learner) for split, each in numbers.items())
    groups = [group_of(name) for name in held_out.tasks]
    places = {name: Places.of(embedding, train.support, held_out) for name, embedding in made.items()}
    found = {
        "model": {"weights_sha256": base.weights_hash, **base.info},
        "extractor": seen,
        "data": tasks.description,
        "split": wanted.split,
        "shots": tasks.held_out_shots,
        "train_tasks": len(train.tasks),
        "tasks": len(groups),
        "neighbours": min(NEIGHBOURS, len(groups) - 1),
        "prior_samples": SAMPLES,
        "seed": wanted.seed,
        "environment": environment(base.learner),
        **_scored(places, groups, wanted.seed),
        "names": {"train": train.tasks, wanted.split: held_out.tasks},
        "groups": groups,
        "nearest": {name: _named(place, held_out.tasks) for name, place in places.items()},
    }
    result = finite(found)
    tensors = {f"{name}/{part}": x for name, place in places.items() for part, x in vars(place).items()}
    tensors |= {f"{name}/pca/{part}": x for name, each in made.items() for part, x in vars(each.pca).items()}
    with fresh_folder(out, overwrite) as folder:
        write_atomically(
            folder / "embeddings.safetensors", save_tensors({n: x.contiguous() for n, x in tensors.items()})
        )
        write_atomically(folder / "embeddings.json", page(result))
        first = places[wanted.ways[0]].tasks
        write_atomically(folder / "embedding.png", map_png(wanted.ways[0], first, groups, held_out.support[:, 0]))
    print(table(result))
    print(f"wrote embeddings.safetensors, embeddings.json and embedding.png to {out}")


def _numbers(wanted: Wanted, tasks: TaskData) -> dict[str, list[int]]:
    """The tasks to fit on and those to judge, by number in their splits."""
    if wanted.split not in HELD_OUT:
        raise MetagenError(f"split: expected one of {', '.join(HELD_OUT)}, got {wanted.split!r}")
    shots = tasks.held_out_shots
    if tasks.queries < shots:
        raise MetagenError(
            f"data.queries: a task is embedded twice, by {shots} shots and as many others; got {tasks.queries}, "
            f"give --data.queries {shots} or more"
        )
    counts = {"train": wanted.fitted_on, wanted.split: wanted.limit}
    for option, (split, count), least in zip(("fitted_on", "limit"), counts.items(), (4, 3), strict=True):
        check_at_least(option, min(least if count is None else count, len(tasks.task_set.split[split])), least)
    numbers = {split: tasks.episodes.held_out_numbers(split, count) for split, count in counts.items()}
    for split, each in numbers.items():
        tasks.check_counts([tasks.task_set.split[split][number] for number in each])
    return numbers


def _embeddings(wanted: Wanted, base: Model, tasks: TaskData) -> tuple[dict[str, Embedding], dict[str, Any] | None]:
    """By the names of their rows, the references last; and what is told of the extractor."""
    made: dict[str, Embedding] = {}
    for way in wanted.ways:
        known = {"params": wanted.params} if "params" in options_of(embeddings[way]) else {}
        made[way] = embeddings[way](base.learner, dims=wanted.dims, seed=wanted.seed, **known)
    made["pixels"], seen = Pixels(wanted.dims), None
    if wanted.extractor != "none":
        extractor, seen = extractor_of(wanted.extractor, tasks, wanted.split)
        made["extractor"] = Through(extractor, wanted.dims)
    return made, seen


def _scored(places: Mapping[str, Places], groups: Sequence[str], seed: int) -> dict[str, Any]:
    """The rows, the differences of each way from each reference, and what chance would score."""
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


def _figures(values: Values, groups: Sequence[str]) -> dict[str, Any]:
    """With their intervals: whole groups are resampled for the score by group, which is alike within a group."""
    found = {name: over_tasks_interval(each) for name, each in values.items()}
    by_group = {"group": over_groups_interval(values["group"], groups)} if "group" in values else {}
    return {name: asdict(each) for name, each in (found | by_group).items()}


def _named(place: Places, names: Sequence[str]) -> dict[str, list[str]]:
    """The nearest held-out tasks of each."""
    found = nearest(place.tasks, min(NEIGHBOURS, len(names) - 1)).tolist()
    return {name: [names[other] for other in others] for name, others in zip(names, found, strict=True)}


def distances(priors: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The energy distances of a row as texts, each with half the range of its seeds if there are several."""
    return [_distance(priors[name]) for name in PRIORS]


def _distance(found: Mapping[str, Any]) -> str:
    if None in found.values():
        return ABSENT
    half = f" ±{(found['high'] - found['low']) / 2:.3f}" if found["seeds"] > 1 else ""
    return f"{found['mean']:.3f}{half}"


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
