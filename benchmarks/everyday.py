"""Everyday waits: a command's start, adapting and sampling, many tasks, the data of a training step.

    python -m benchmarks.everyday --out DIR --root ROOT [--tasks 473] [--repeats 5]

ROOT is where the folder omniglot/ lies. DIR gets everyday.json: seconds (median, least, most) and shares.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.timing import seconds
from experiments.runs import parser
from metagen.adaptation import in_chunks, task_batch
from metagen.distributed.environment import environment
from metagen.generators import VAE
from metagen.learners import MAML, Learner, adapt_tasks
from metagen.model import Model, load
from metagen.storage.files import write_atomically
from metagen.storage.images import save_pngs
from metagen.storage.strict_json import page
from metagen.tasks.episodes import Episode
from metagen.tasks.task_data import TaskData

SHOTS, IMAGES, MANY = 5, 64, 20


def timed(run: Callable[[], object], repeats: int, warm: bool = True) -> dict[str, float]:
    """Seconds of a call, if warm after one that is not measured: median, least, most."""
    if warm:
        run()
    each = [seconds(run) for _ in range(repeats)]
    return {"median": statistics.median(each), "least": min(each), "most": max(each)}


def supports_of(root: str, tasks: int) -> torch.Tensor:
    """The first images of so many test tasks of Omniglot, [T, 5, 1, 28, 28]."""
    episodes = TaskData(task_set="omniglot", root=root, shots=SHOTS, queries=1).episodes
    return episodes.first("test", tasks).to_like(VAE()).support


def adapting(learner: Learner, supports: torch.Tensor, steps: int | None, n: int) -> torch.Tensor:
    """Samples [T, n, C, H, W] of generators adapted to supports [T, 5, C, H, W]."""
    tasks = range(len(supports))
    adapted = adapt_tasks(learner, supports, (0, "everyday"), tasks, steps)
    return adapted.sample(n, (0, "everyday", "samples"), tasks)


def adaptation(root: str, tasks: int, repeats: int) -> dict[str, Any]:
    """One task and 64 samples, at five steps where there are steps; and many tasks with 20 samples each."""
    supports = supports_of(root, tasks)
    learners: dict[str, Learner] = {"VAE, MAML": MAML(VAE(), steps=5, rate=1e-3)}
    models = {name: load(name) for name in ("omniglot-redraw", "omniglot")}
    learners |= {name: model.learner for name, model in models.items() if isinstance(model, Model)}
    found: dict[str, Any] = {}
    for name, learner in learners.items():
        steps = None if learner.context_only else 5
        one, many = partial(adapting, learner, supports[:1], steps, IMAGES), partial(adapting, learner, supports, None)
        found[f"{name}: adapt to {SHOTS} images and sample {IMAGES}"] = timed(one, repeats)
        wait = timed(partial(many, MANY), 1, warm=False)
        found[f"{name}: adapt to {len(supports)} tasks and sample {MANY} of each"] = wait
    return found


def commands(repeats: int) -> dict[str, Any]:
    """Commands from the shell, each a new process."""
    with tempfile.TemporaryDirectory() as folder:
        images, adapted, samples = (Path(folder) / name for name in ("images", "adapted", "samples"))
        save_pngs((torch.rand(SHOTS, 1, 28, 28) > 0.8).mul(255).to(torch.uint8), images)
        metagen = [sys.executable, "-m", "metagen.cli"]
        adapt = [*metagen, "adapt", "--model", "omniglot", "--support", images, "--out", adapted, "--overwrite"]
        lines: dict[str, list[Any]] = {
            "import metagen": [sys.executable, "-c", "import metagen"],
            "import torch": [sys.executable, "-c", "import torch"],
            "metagen --help": [*metagen, "--help"],
            "metagen adapt": adapt,
            "metagen sample": [*metagen, "sample", "--model", adapted, "--n", IMAGES, "--out", samples, "--overwrite"],
        }

        def run(line: list[Any]) -> None:
            subprocess.run([str(word) for word in line], check=True, capture_output=True)

        return {name: timed(partial(run, line), repeats) for name, line in lines.items()}


def pipeline(root: str, tasks: int, repeats: int) -> dict[str, Any]:
    """The share of a training step that is data: tasks of Omniglot, and MAML of a VAE by five steps on them."""
    learner = MAML(VAE(), steps=5, rate=1e-3)
    meta = {name: w.detach() for name, w in learner.named_parameters()}
    data = TaskData(task_set="omniglot", root=root, shots=SHOTS, queries=15)
    episodes = data.episodes
    numbers = iter(range(10_000))

    def draw(number: int) -> Episode:
        return episodes.train(number, tasks).to_like(learner)

    new = timed(lambda: draw(next(numbers)), 4 * repeats)
    known = timed(lambda: draw(0), 4 * repeats)
    episode = draw(0)

    def step() -> None:
        batch = task_batch(learner, episode.support, episode.query, (0, "step"), episode.numbers)
        in_chunks(learner.meta_gradient, learner, meta, batch)

    whole = timed(step, repeats)
    shares = {"share": known["median"] / whole["median"], "share of new images": new["median"] / whole["median"]}
    return {"episode": known, "episode of new images": new, "meta-step": whole, **shares}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all of it."""
    arguments = parser(__doc__, root="the folder with omniglot/")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--tasks", type=int, default=473)
    arguments.add_argument("--repeats", type=int, default=5)
    options = arguments.parse_args(argv)
    found = {
        "environment": environment(torch.device("cpu")),
        "commands": commands(options.repeats),
        "adaptation": adaptation(options.root, options.tasks, options.repeats),
        "pipeline": pipeline(options.root, min(16, options.tasks), options.repeats),
    }
    for part in ("commands", "adaptation", "pipeline"):
        for name, value in found[part].items():
            print(f"{name}: {value if isinstance(value, float) else round(value['median'], 3)}")
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "everyday.json", page(found))


if __name__ == "__main__":
    main()
