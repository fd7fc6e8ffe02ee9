"""The held-out protocol: adapt, generate, measure, compare; every figure with its interval over tasks."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from metagen.adaptation import draw_noise
from metagen.artifacts import build, describe
from metagen.errors import MetagenError
from metagen.generators import Generator
from metagen.intervals import Interval, over_tasks_interval
from metagen.learners import Joint, Learner, adapt_tasks
from metagen.metrics import Extractor, Seen, metrics
from metagen.seeding import torch_rng
from metagen.tasks.episodes import Episode, Episodes
from metagen.warps import DRAWS, random_affine

HELD_OUT = ("val", "test")
BATCH = 16
TUNING_TASKS = 8  # val tasks on which a baseline's rate and steps are chosen
# 150 steps at lower rates gained nothing over these on val tasks of Omniglot, at 1 and 5 shots.
SCRATCH_GRID = tuple((rate, steps) for rate in (3e-3, 1e-2) for steps in (20, 60))
JOINT_GRID = tuple((rate, steps) for rate in (1e-4, 1e-3) for steps in (5, 20, 50))


@dataclass(frozen=True)
class Contender:
    """A model as one row of the table.

    Attributes:
        learner: the model.
        steps: N.
        sees: whose support it is to be given: each task's "own", another task's ("other"), or "none".
    """

    learner: Learner
    steps: int
    sees: str = "own"

    def supports(self, episodes: Sequence[Episode]) -> list[Episode]:
        """The episodes with the support that it is to see in place of their own."""
        support = torch.cat([episode.support for episode in episodes])
        seen = {"own": support, "other": support.roll(1, 0), "none": support[:, :0]}[self.sees]
        parts = seen.split([len(episode.support) for episode in episodes])
        return [episode._replace(support=part) for episode, part in zip(episodes, parts, strict=True)]

    def meet(self, episode: Episode, key: tuple[int | str, ...], made: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The query loss of each task [T] after adaptation, summed over players, and new images [T, made, C, H, W]."""
        adapted = adapt_tasks(self.learner, episode.support, key, episode.numbers, self.steps)
        noise = draw_noise(self.learner.generator, (*key, "query"), episode.numbers, episode.query.shape[1])
        loss = torch.stack(list(adapted.query_loss(episode.query, noise).values())).sum(0)
        if not made:
            return loss, episode.query[:, :0]
        draws = [self.learner.generator.noise(made, torch_rng(*key, number, "sample")) for number in episode.numbers]
        return loss, adapted.generate({name: torch.stack([draw[name] for draw in draws]) for name in draws[0]})


def query_losses(learner: Learner, episodes: Sequence[Episode], key: tuple[int | str, ...], steps: int) -> torch.Tensor:
    """The query loss after N steps, of each task [T], summed over players, in the generator's units."""
    return torch.cat([Contender(learner, steps).meet(episode, key, 0)[0] for episode in episodes])


def tuned(generator: Generator, grid: Sequence[tuple[float, int]], episodes: Sequence[Episode], seed: int = 0) -> Joint:
    """Fine-tuning of a generator with Adam: rate and number of steps chosen from a grid on val tasks by query loss."""
    candidates = [Joint(generator, rate=rate, test_steps=steps).requires_grad_(False).eval() for rate, steps in grid]
    losses = [float(query_losses(each, episodes, (seed, "val"), each.test_steps).mean()) for each in candidates]
    return candidates[losses.index(min(losses))]


def untrained(learner: Learner, seed: int = 0) -> Generator:
    """The same networks without meta-training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(describe(learner)).generator


def contenders(learner: Learner, fine_tuned: Mapping[str, Joint]) -> dict[str, Contender]:
    """The rows that a model makes, beside those of `fine_tuned` baselines; the adapted one last."""
    looks, steps = learner.generator.uses_support, learner.test_steps
    rows = {"unadapted": Contender(learner, 0, "none")}
    rows |= {name: Contender(each, each.test_steps) for name, each in fine_tuned.items()}
    rows["another task's support"] = Contender(learner, steps, "other")
    if looks and steps:
        rows["context only"] = Contender(learner, 0)
    return {**rows, "adapted": Contender(learner, steps)}


def measure(
    learner: Learner,
    episodes: Episodes,
    split: str,
    limit: int | None,
    curve: Sequence[int],
    seed: int = 0,
    extractor: Extractor | None = None,
    joint: Learner | None = None,
) -> dict[str, Any]:
    """The scorecard on held-out tasks: rows, differences of the adapted row from the others, and the curve over N.

    The query is cut in two: the reference that distances are from, and the human half; every row makes as many images
    as that half holds.

    Args:
        learner: the model.
        episodes: its tasks.
        split: "val" or "test".
        limit: how many tasks; None for all.
        curve: the numbers of inner steps at which the query loss is measured.
        seed: of the noise.
        extractor: what the metrics look through; None for the query loss alone.
        joint: a model trained jointly on the same train tasks, to be fine-tuned for its row; None for no such row, but
            of a model that was trained without steps.

    Returns:
        JSON-ready data; each row and difference has `figures`: by metric, a mean or pooled figure with its interval.

    Raises:
        MetagenError: an option is out of range, or there are too few tasks or queries for a metric.
    """
    check_options(split, limit, curve)
    if extractor and episodes.queries < 4:
        raise MetagenError(f"data.queries: a scorecard needs 4 or more images a task, got {episodes.queries}")
    key = (seed, split)
    held_out = list(episodes.held_out(split, BATCH, limit))
    val = list(episodes.held_out("val", BATCH, TUNING_TASKS))
    fine_tuned = {"scratch": tuned(untrained(learner, seed), SCRATCH_GRID, val, seed)}
    if joint is None and not learner.steps:
        joint = learner  # trained without steps is trained jointly
    if joint is not None:
        fine_tuned["joint + fine-tune"] = tuned(joint.generator, JOINT_GRID, val, seed)
    half = episodes.queries // 2 if extractor else 0
    card = Scorecard(held_out, half, extractor)
    for name, images in card.baselines(key):
        card.add(name, None, images, None)
    for name, contender in contenders(learner, fine_tuned).items():
        started = time.perf_counter()
        met = [contender.meet(episode, key, half) for episode in contender.supports(held_out)]
        losses, images = (torch.cat(parts) for parts in zip(*met, strict=True))
        card.add(name, losses, images, contender.steps, time.perf_counter() - started)
    points = [{"steps": n, **asdict(over_tasks_interval(query_losses(learner, held_out, key, n)))} for n in curve]
    return {
        "unit": "nats per image",
        "split": split,
        "split_sha256": episodes.task_set.split.hash,
        "shots": episodes.shots,
        "queries": episodes.queries,
        "tasks": len(card.human),
        "task_names": [name for episode in held_out for name in episode.tasks],
        "real": half * len(card.human),
        "made": half * len(card.human),
        "seed": seed,
        "environment": environment(),
        "fine_tuned": {
            name: {"rate": each.rate, "steps": each.test_steps, "chosen_on": "val"} for name, each in fine_tuned.items()
        },
        "rows": card.rows,
        "differences": card.differences(),
        "curve": points,
    }


def check_options(split: str, limit: int | None, curve: Sequence[int]) -> None:
    """Refuse options of `measure` that are out of range.

    Raises:
        MetagenError: naming them.
    """
    if split not in HELD_OUT:
        raise MetagenError(f"split: expected one of {', '.join(HELD_OUT)}, got {split!r}")
    if (limit is not None and limit < 1) or min(curve, default=0) < 0:
        raise MetagenError(
            f"expected a limit of 1 or more and a curve of 0 or more steps, got {limit} and {list(curve)}"
        )


class Scorecard:
    """The rows of one table, all judged by the same real images through the same extractor."""

    def __init__(self, episodes: Sequence[Episode], half: int, extractor: Extractor | None) -> None:
        self.support = torch.cat([episode.support for episode in episodes])
        query = torch.cat([episode.query for episode in episodes])
        self.numbers = [number for episode in episodes for number in episode.numbers]
        self.human, self.extractor = query[:, half : 2 * half], extractor
        self.rows: list[dict[str, Any]] = []
        self.losses: dict[str, torch.Tensor] = {}
        self.features: dict[str, torch.Tensor] = {}
        if extractor:
            self.seen = Seen(*map(extractor.of, (self.support, query[:, :half], self.human)))

    def baselines(self, key: tuple[int | str, ...]) -> Iterator[tuple[str, torch.Tensor]]:
        """Rows that need no model: real images, the support itself, random affine maps of it."""
        if not self.extractor:
            return
        tasks, made = self.human.shape[:2]
        copies = self.support[:, torch.arange(made) % self.support.shape[1]]
        draws = torch.stack([torch.rand(made, DRAWS, generator=torch_rng(*key, n, "affine")) for n in self.numbers])
        yield "human", self.human
        yield "copy", copies
        for strength in (1.0, 1.5):
            moved = random_affine(copies.flatten(0, 1), draws.flatten(0, 1), strength)
            yield f"affine x{strength:g}", moved.unflatten(0, (tasks, made))

    def add(
        self,
        name: str,
        losses: torch.Tensor | None,
        images: torch.Tensor,
        steps: int | None,
        seconds: float | None = None,
    ) -> None:
        """Measure a row: query losses [T] if it has any, images [T, m, C, H, W]."""
        if losses is not None:
            self.losses[name] = losses
        if self.extractor:
            self.features[name] = self.extractor.of(images)
        self.rows.append({"row": name, "steps": steps, "seconds": seconds, "figures": self._figures(name)})

    def differences(self) -> list[dict[str, Any]]:
        """The adapted row less each other one, paired by task."""
        others = [row["row"] for row in self.rows if row["row"] not in ("adapted", "human")]
        return [{"row": f"adapted - {name}", "figures": self._figures("adapted", name)} for name in others]

    def _figures(self, name: str, against: str | None = None) -> dict[str, Any]:
        found: dict[str, Interval] = {}
        if name in self.losses and (against is None or against in self.losses):
            found["query_loss"] = over_tasks_interval(self.losses[name] - (self.losses[against] if against else 0))
        if self.extractor:
            other = self.features[against] if against else None
            for metric, column in metrics.items():
                found[metric] = column.interval(self.features[name], self.seen, other)
        return {metric: asdict(interval) for metric, interval in found.items()}


def environment() -> dict[str, str]:
    """What a figure was measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux
    hardware = f"{cpu}, {torch.get_num_threads()} threads"
    return {"hardware": hardware, "python": platform.python_version(), "torch": torch.__version__}
