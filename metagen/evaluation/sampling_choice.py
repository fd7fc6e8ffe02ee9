"""Sampling options chosen on val tasks: those of a small grid whose samples are nearest to what people make."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.progress import track

from metagen.core.registry import options_of
from metagen.distributed.processes import Processes
from metagen.errors import MetagenError, check_at_least
from metagen.evaluation.contenders import Contender
from metagen.evaluation.criterion import FeatureFunction
from metagen.evaluation.evaluator import load_for_tasks
from metagen.evaluation.extractor_choice import features_through
from metagen.evaluation.trial import grey_where_diverged, real_rows
from metagen.generators import with_sampling
from metagen.learners import Adapted, Learner
from metagen.metrics import RealFeatures, metrics
from metagen.metrics.extractors.extractor_files import bundled_for
from metagen.model import Model
from metagen.report.next_steps import evaluation, next_steps, sibling
from metagen.storage.artifacts import FULL, read_config
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free
from metagen.tasks.episodes import Episode, Episodes
from metagen.tasks.seen import SeenTasks
from metagen.tasks.task_data import TaskData

SHOTS = (1, 5)
TASKS = 100  # val tasks, at most
QUERIES = 15  # images of a task beside its support, where it has as many: half of them people's row, half the reference
AT_ONCE = 8  # tasks
PEOPLE, AFFINE = "human", "affine x1"
RECOGNISED, SPREAD = 2.0, 10.0  # points that count as much as all of the distance of affine x1
FIGURES = ("fd", "recognisability", "diversity_relative", "near_copies")
CRITERION = (
    "fd / fd of affine x1 + recognised % below people's / 2 + |diversity % of human - 100| / 10 + near copies above "
    "people's / people's; the less the better; mean over the shots"
)
Settings = dict[str, float]
Figures = dict[str, float]


class Choice(NamedTuple):
    """The chosen sampling options, and how they were chosen.

    Attributes:
        settings: a value of every sampling option in the grid.
        info: JSON-ready: chosen, criterion, through which extractor, on how many val tasks, the figures of people and
            of affine copies by shots, and of everything that was tried.
    """

    settings: Settings
    info: dict[str, Any]


def distance_to_people(made: Figures, people: Figures, affine: Figures) -> float:
    """J, which says how far samples are from what people make, the less the better; see `CRITERION`.

    J = FD / FD(affine x1) + max(0, R(people) - R) / 2 points + |D - 100 %| / 10 points
    + max(0, C - C(people)) / C(people), with FD the Frechet distance of all tasks together, R recognisability in %, D
    diversity in % of people's and C the share of near copies in %. To be recognised more often than people's drawings
    is no fault in itself: samples that are too alike, or too near to the support, are counted apart.

    Args:
        made: FIGURES of samples.
        people: of real images that were never shown.
        affine: of random affine maps of the support, at strength 1.

    Returns:
        0 or more; infinite where some figure is no number.
    """
    distance = (
        _over(made["fd"], affine["fd"])
        + max(0.0, people["recognisability"] - made["recognisability"]) / RECOGNISED
        + abs(made["diversity_relative"] - 100) / SPREAD
        + _over(max(0.0, made["near_copies"] - people["near_copies"]), people["near_copies"])
    )
    return distance if math.isfinite(distance) else math.inf


def _over(part: float, whole: float) -> float:
    """Their ratio; of nothing, infinite unless the part is nothing, too."""
    return part / whole if whole else math.copysign(math.inf, part) if part else 0.0


class Bench:
    """Val tasks at one number of shots, and the figures there of whatever a model makes.

    It adapts once, and keeps what that changed of the weights of every task.

    Args:
        contender: the model, and after how many inner steps.
        episodes: its tasks.
        tasks: the numbers of the val tasks.
        features: of images, through an extractor.
        seed: of the noise, which is the same at all settings.

    Attributes:
        people: FIGURES of real images.
        affine: of random affine maps of the support.
    """

    def __init__(
        self, contender: Contender, episodes: Episodes, tasks: Sequence[int], features: FeatureFunction, seed: int
    ) -> None:
        self.contender, self.features = contender, features
        self.key, self.half = (seed, "val"), episodes.queries // 2
        parts = [tasks[start : start + AT_ONCE] for start in range(0, len(tasks), AT_ONCE)]
        self.episodes = [episodes.of("val", part).to_like(contender.learner) for part in parts]
        self._adapted = [contender.adapted(each, each.support, self.key) for each in self.episodes]
        images = [dict(real_rows(episode, self.half, self.key)) for episode in self.episodes]
        real = {name: torch.cat([features(each[name]).cpu() for each in images]) for name in images[0]}
        self.real = RealFeatures(real["support"], real["reference"], real["human"])
        self.people, self.affine = self._figures(real[PEOPLE]), self._figures(real[AFFINE])

    def of(self, settings: Settings) -> Figures:
        """FIGURES of what the model makes with these sampling options."""
        label = ", ".join(f"{name} {value:g}" for name, value in settings.items())
        silent = not sys.stderr.isatty()
        pairs = [*zip(self.episodes, self._adapted, strict=True)]
        batches = track(pairs, label, console=Console(stderr=True), transient=True, disable=silent)
        return self._figures(torch.cat([self._made(*pair, settings) for pair in batches]))

    def score(self, settings: Settings) -> tuple[float, Figures]:
        """The distance of these settings from people, and the figures that say so."""
        figures = self.of(settings)
        return distance_to_people(figures, self.people, self.affine), figures

    def _made(self, episode: Episode, adapted: Adapted, settings: Settings) -> torch.Tensor:
        """Features [T, n, d] of samples."""
        changed = adapted.over(with_sampling(adapted.generator, settings))
        samples = changed.sample(self.half, (*self.key, "sample"), episode.numbers)
        return self.features(grey_where_diverged(samples)[0]).cpu()

    def _figures(self, features: torch.Tensor) -> Figures:
        columns = {name: metrics[name] for name in FIGURES}
        values = {name: column.values(features, self.real) for name, column in columns.items()}
        scales = {name: column.scale(self.real) for name, column in columns.items()}
        tasks = len(features)
        return {name: columns[name].interval(values[name], tasks, scales[name]).mean for name in FIGURES}


class Search:
    """A search by coordinates, in which nothing is judged twice.

    Args:
        benches: where settings are judged, by shots.
    """

    def __init__(self, benches: Mapping[int, Bench]) -> None:
        self.benches = benches
        self.tried: list[dict[str, Any]] = []
        self._known: dict[tuple[float, ...], float] = {}

    def distance(self, settings: Settings) -> float:
        """The mean over shots of `distance_to_people`."""
        place = tuple(settings.values())
        if place not in self._known:
            scores = {shots: bench.score(settings) for shots, bench in self.benches.items()}
            self._known[place] = sum(distance for distance, _ in scores.values()) / len(scores)
            figures = {str(shots): each for shots, (_, each) in scores.items()}
            self.tried.append({"settings": dict(settings), "distance": self._known[place], "shots": figures})
        return self._known[place]

    def over(self, grid: Mapping[str, tuple[float, ...]]) -> Settings:
        """The best settings: option after option in their order, then the first once more among its neighbours.

        It begins with the first value of each option; of equal ones the first is taken.
        """
        best = {name: values[0] for name, values in grid.items()}
        for name, values in grid.items():
            best = self._best(best, name, values)
        first, values = next(iter(grid.items()))
        at = values.index(best[first])
        return self._best(best, first, (best[first], *values[max(0, at - 1) : at + 2]))

    def _best(self, settings: Settings, name: str, values: Sequence[float]) -> Settings:
        return min(({**settings, name: value} for value in values), key=self.distance)


def choose_sampling(
    learner: Learner,
    data: TaskData,
    shots: Sequence[int] = SHOTS,
    extractor: str | None = None,
    limit: int | None = TASKS,
    seed: int = 0,
    steps: int | None = None,
) -> Choice:
    """Choose a trained model's sampling options from its generator's grid, by `distance_to_people` on val tasks.

    Everything is measured where the learner lies, as `metagen evaluate` measures it.

    Args:
        learner: the model; it stays as it is.
        data: its tasks.
        shots: numbers of support images; those for which val tasks hold too few images are left out.
        extractor: what is looked through; None for TASK_SET-select, which is bundled with metagen.
        limit: how many val tasks; None for all.
        seed: of the noise.
        steps: inner steps; the learner's test_steps if None.

    Raises:
        MetagenError: there is nothing to choose, no extractor to choose through, or too few tasks or images.
    """
    grid = learner.generator.grid
    if not grid:
        raise MetagenError(f"{type(learner.generator).__name__} has no sampling options to choose")
    if limit is not None:
        check_at_least("limit", limit, 1)
    name, features = features_through(extractor or _bundled_name(data), data, next(learner.parameters()).device)
    tasks = Episodes(data.task_set, 1, 1).held_out_numbers("val", limit)
    contender = Contender(learner, learner.test_steps if steps is None else steps)
    benches = {
        each.shots: Bench(contender, each, tasks, features, seed) for each in _episodes(data, tasks, sorted(set(shots)))
    }
    search = Search(benches)
    chosen = search.over(grid)
    info = {
        "chosen": chosen,
        "distance": search.distance(chosen),
        "criterion": CRITERION,
        "extractor": name,
        "val_tasks": len(tasks),
        "seed": seed,
        "steps": contender.steps,
        "people": {str(shots): bench.people for shots, bench in benches.items()},
        AFFINE: {str(shots): bench.affine for shots, bench in benches.items()},
        "tried": search.tried,
    }
    return Choice(chosen, info)


def _bundled_name(data: TaskData) -> str:
    if name := bundled_for(data, "select"):
        return name
    size, channels = data.task_set.size, data.task_set.channels
    raise MetagenError(
        f"no extractor of {data.name} at {size} px and {channels} channel{'s' * (channels > 1)} to choose by is "
        "bundled with metagen; make one with metagen train-extractor, then name it: metagen tune --extractor"
    )


def _episodes(data: TaskData, tasks: Sequence[int], shots: Sequence[int]) -> list[Episodes]:
    """Those of each number of shots that leaves every val task enough images to judge by."""
    least = min((data.task_set.image_count(data.task_set.split.val[task]) for task in tasks), default=0)
    fitting = [k for k in shots if k >= 1 and least - k >= 4]
    if len(tasks) < 3 or not fitting:
        raise MetagenError(
            "sampling is chosen on 3 val tasks or more, with 4 images or more beside the "
            f"{' or '.join(map(str, shots))} shots; got {len(tasks)} tasks, with {least} images or more each"
        )
    return [Episodes(data.task_set, k, min(QUERIES, least - k)) for k in fitting]


def take_sampling(settings: Settings, learner: Learner) -> None:
    """Let a model sample with these settings, also after it is saved."""
    for name, value in settings.items():
        setattr(learner.generator, name, value)


def _check_after_steps(base: Model, steps: int) -> None:
    """Refuse to choose options of samples after steps where no step is taken, or nothing would keep them."""
    generator = base.learner.generator
    if "after_steps" not in options_of(type(generator)):
        raise MetagenError(f"steps: {type(generator).__name__} samples alike before and after steps; leave --steps out")
    check_at_least("steps", steps, 1)
    base.check_steps(steps)


def _keep(choice: Choice, base: Model, steps: int | None) -> None:
    """Let a model sample as was chosen, as it is or after steps, and say in its card how that came."""
    learner = base.learner.cpu()
    if steps is None:
        take_sampling(choice.settings, learner)
        base.info = {**base.info, "sampling": choice.info}
    else:
        learner.generator.after_steps = choice.settings
        base.info = {**base.info, "sampling_after_steps": choice.info}


def describe_choice(choice: Choice) -> str:
    """A choice in one line."""
    first, chosen = choice.info["tried"][0], choice.info["distance"]
    words = ", ".join(f"{name} {value:g}" for name, value in choice.settings.items())
    return (
        f"sampling with {words}: distance from people {chosen:.2f} by {choice.info['val_tasks']} val tasks, "
        f"{first['distance']:.2f} of plain sampling; {len(choice.info['tried'])} settings tried"
    )


def tune(
    model: str,
    out: Path,
    data: TaskData,
    shots: Sequence[int],
    extractor: str | None,
    limit: int | None,
    seed: int,
    steps: int | None,
    processes: Processes,
    overwrite: bool,
) -> None:
    """Write a copy of a model whose sampling options are chosen on val tasks; see `choose_sampling`.

    Raises:
        MetagenError: see `choose_sampling`; or the model cannot be judged on these tasks, or `out` is taken, or its
            generator has no options for samples after steps.
    """
    check_free(out, overwrite, [bundled("models", model), extractor, *data.inputs])
    base = load_for_tasks(model, data, "val")
    if steps is not None:
        _check_after_steps(base, steps)
    stored_as = read_config(bundled("models", model)).get("stored_as", FULL)
    with processes.launched() as device:
        choice = choose_sampling(base.learner.to(device), data, shots, extractor, limit, seed, steps)
    _keep(choice, base, steps)
    base.seen = (base.seen or SeenTasks()) | data.seen_of("val")
    base.save(out, overwrite, stored_as)
    print(f"{describe_choice(choice)}; wrote {out}")
    if commands := evaluation(out, sibling(out, "evaluation"), data, base.learner.generator.comparable):
        print(next_steps(*commands))
