"""The held-out protocol: adapt, generate, measure, compare; every figure with its interval over tasks."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from metagen.adaptation import draw_noise
from metagen.artifacts import build, describe
from metagen.errors import MetagenError
from metagen.images import grid
from metagen.learners import Joint, Learner, adapt_tasks
from metagen.pictures import labelled
from metagen.seeding import numpy_rng, torch_rng
from metagen.tasks.episodes import Episode, Episodes

RESAMPLES = 10_000
HELD_OUT = ("val", "test")
# On val tasks of glyphs a wider grid (rates from 3e-4 to 1e-2, up to 400 steps) gained 1 %.
SCRATCH_GRID = tuple((rate, steps) for rate in (1e-3, 3e-3) for steps in (50, 150))


@dataclass(frozen=True)
class Interval:
    """A mean over tasks with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def over_tasks_interval(values: Sequence[float] | torch.Tensor, seed: int = 0) -> Interval:
    """The mean of one value a task and its percentile bootstrap interval (Efron 1979), tasks resampled.

    Raises:
        MetagenError: no value.
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise MetagenError("interval: no task was measured")
    rng = numpy_rng(seed, "bootstrap")
    means = np.concatenate(
        [array[rng.integers(0, array.size, (500, array.size))].mean(1) for _ in range(RESAMPLES // 500)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(array.mean()), float(low), float(high), int(array.size))


def query_losses(learner: Learner, episodes: Sequence[Episode], key: tuple[int | str, ...], steps: int) -> torch.Tensor:
    """The query loss after N steps, of each task [T], summed over players, in the generator's units."""
    losses = []
    for episode in episodes:
        noise = draw_noise(learner.generator, (*key, "query"), episode.numbers, episode.query.shape[1])
        adapted = adapt_tasks(learner, episode.support, key, episode.numbers, steps)
        losses.append(torch.stack(list(adapted.query_loss(episode.query, noise).values())).sum(0))
    return torch.cat(losses)


def tuned_scratch(learner: Learner, episodes: Sequence[Episode], seed: int = 0) -> Joint:
    """The same networks without meta-training: rate and number of steps chosen on val tasks by query loss."""
    candidates = []
    for rate, steps in SCRATCH_GRID:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = build(describe(learner)).generator
        scratch = Joint(fresh, rate=rate, test_steps=steps).requires_grad_(False)
        candidates.append((float(query_losses(scratch, episodes, (0, "val"), steps).mean()), rate, scratch))
    return min(candidates, key=lambda candidate: candidate[:2])[2]


def measure(
    learner: Learner, episodes: Episodes, split: str, limit: int | None, curve: Sequence[int], seed: int = 0
) -> dict[str, Any]:
    """Query losses on held-out tasks: unadapted, scratch and adapted, their differences, and the curve over N.

    Returns:
        JSON-ready data: `rows`, `differences` (a negative one favours the adapted model) and `curve`, each figure a
        mean over tasks with its interval.

    Raises:
        MetagenError: an option is out of range.
    """
    if split not in HELD_OUT:
        raise MetagenError(f"split: expected one of {', '.join(HELD_OUT)}, got {split!r}")
    if (limit is not None and limit < 1) or min(curve, default=0) < 0:
        raise MetagenError(
            f"expected a limit of 1 or more and a curve of 0 or more steps, got {limit} and {list(curve)}"
        )
    key = (seed, split)
    held_out = list(episodes.held_out(split, 16, limit))
    scratch = tuned_scratch(learner, list(episodes.held_out("val", 16, 16)), seed)
    contenders = {
        "unadapted": (learner, 0),
        "scratch": (scratch, scratch.test_steps),
        "adapted": (learner, learner.test_steps),
    }
    losses, rows = {}, []
    for name, (contender, steps) in contenders.items():
        started = time.perf_counter()
        losses[name] = query_losses(contender, held_out, key, steps)
        seconds = time.perf_counter() - started
        rows.append({"row": name, "steps": steps, **asdict(over_tasks_interval(losses[name])), "seconds": seconds})
    differences = [
        {"row": f"adapted - {name}", **asdict(over_tasks_interval(losses["adapted"] - losses[name]))}
        for name in ("unadapted", "scratch")
    ]
    points = [{"steps": n, **asdict(over_tasks_interval(query_losses(learner, held_out, key, n)))} for n in curve]
    return {
        "metric": "query_loss",
        "unit": "nats per image",
        "split": split,
        "split_sha256": episodes.task_set.split.hash,
        "shots": episodes.shots,
        "queries": episodes.queries,
        "seed": seed,
        "environment": environment(),
        "scratch": {"rate": scratch.rate, "steps": scratch.test_steps, "chosen_on": "val"},
        "rows": rows,
        "differences": differences,
        "curve": points,
    }


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


def table(result: dict[str, Any]) -> str:
    """The rows and differences of a result as text."""
    title = f"query loss, {result['unit']}, {result['shots']} shots, {result['split']} tasks: mean [95 % interval]"
    lines = Table("", "inner steps", "query loss", "tasks", title=title)
    for row in result["rows"] + result["differences"]:
        interval = Interval(*(row[key] for key in ("mean", "low", "high", "tasks")))
        lines.add_row(row["row"], str(row.get("steps", "")), str(interval), str(interval.tasks))
    console = Console(width=100)
    with console.capture() as captured:
        console.print(lines)
    return captured.get()


def picture(
    learner: Learner, episode: Episode, generated: int, steps: int | None = None, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """One row a task: its support | as many real images, never seen | generated ones; [3, H, W] in [0, 1]."""
    shots = episode.support.shape[1]
    adapted = adapt_tasks(learner, episode.support.to(device), (0, "picture"), episode.numbers, steps)
    noise = learner.generator.noise(generated, torch_rng(0, "picture", "sample"))
    noise = {name: x.to(device).expand(len(adapted), *x.shape) for name, x in noise.items()}
    blocks = {"support": episode.support, "real, not shown to it": episode.query[:, :shots]}
    blocks["generated"] = adapted.generate(noise).cpu()
    return labelled({heading: grid(block, pad=1) for heading, block in blocks.items()}, cell=learner.generator.size)
