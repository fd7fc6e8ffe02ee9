"""What people look at: the table of a result, and a picture of support, real and generated images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from metagen.images import grid
from metagen.learners import Learner, adapt_tasks
from metagen.pictures import labelled
from metagen.seeding import torch_rng
from metagen.tasks.episodes import Episode

# What a table shows of a result's figures, each with its heading; the others stand in result.json.
COLUMNS = {
    "query_loss": "query loss",
    "fd": "Frechet",
    "kid": "kernel",
    "recognisability": "recognised %",
    "diversity_relative": "diversity %",
    "copy_ratio": "copy ratio",
}


def short(figure: Mapping[str, float]) -> str:
    """A figure to three or four digits, and half the width of its interval."""
    mean, half = figure["mean"], (figure["high"] - figure["low"]) / 2
    digits = 1 if abs(mean) >= 20 else 2
    return f"{mean:.{digits}f} ±{half:.{digits}f}"


def table(result: Mapping[str, Any]) -> str:
    """The rows and differences of a result as text."""
    measured = {name for row in result["rows"] for name in row["figures"]}
    columns = {name: heading for name, heading in COLUMNS.items() if name in measured}
    extractor = result.get("extractor")
    seen = f"through {extractor['name']}" if extractor else "no extractor"
    about = f"{result['tasks']} {result['split']} tasks, {result['shots']} shots, {seen}"
    lines = Table("", "N", *columns.values(), title=f"{about}; ± half the 95 % interval")
    for row in [*result["rows"], *result["differences"]]:
        steps = row.get("steps")
        cells = [short(row["figures"][name]) if name in row["figures"] else "" for name in columns]
        lines.add_row(row["row"], "" if steps is None else str(steps), *cells)
    console = Console(width=130)
    with console.capture() as captured:
        console.print(lines)
    return captured.get()


def picture(learner: Learner, episode: Episode, generated: int, steps: int | None = None) -> torch.Tensor:
    """One row a task: its support | as many real images, never seen | generated ones; [3, H, W] in [0, 1]."""
    shots = episode.support.shape[1]
    like = next(learner.parameters())  # its device and precision
    adapted = adapt_tasks(learner, episode.support.to(like), (0, "picture"), episode.numbers, steps)
    draws = [
        learner.generator.noise(generated, torch_rng(0, "picture", number, "sample")) for number in episode.numbers
    ]
    noise = {name: torch.stack([draw[name] for draw in draws]).to(like) for name in draws[0]}
    blocks = {"support": episode.support, "real, not shown to it": episode.query[:, : max(shots, 3)]}
    blocks["generated"] = adapted.generate(noise).to(episode.support)
    return labelled({heading: grid(block, pad=1) for heading, block in blocks.items()}, cell=learner.generator.size)
