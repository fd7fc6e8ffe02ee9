"""Meta-gradients by metagen and by other packages, in one run: tasks a second as ratios to the best peer, and memory.

    python benchmarks/meta_gradients.py [--tasks 16] [--steps 1 5 10] [--repeats 7] [--device cpu] [--out DIR]

The network is a convolutional VAE at 28 px, all of whose weights move; 5 support and 15 query images a task. The
implementations take turns, so that a drift of the machine meets them all, and their gradients are compared before
anything is timed. For the peers see `benchmarks/peers.py`. Memory is the most that tensors held above what was there
before (`peak_bytes` of the study of cost), without threads. DIR gets meta_gradients.json.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers import PEERS, Loss, Problem
from benchmarks.timing import seconds
from experiments.runs import parser
from metagen.adaptation import Adjoint, MetaGradient, Recorded, TaskBatch, in_chunks, task_batch
from metagen.core.functional import Execution, Weights
from metagen.distributed.environment import environment
from metagen.evaluation.studies.cost import MIB, peak_bytes
from metagen.generators import VAE
from metagen.learners import FOMAML, MAML, FixedRate, Reptile
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page

RATE = 1e-4
PREFIX = "generator."
Run = Callable[[], Weights]


def ours(learner: FixedRate, batch: TaskBatch) -> dict[str, Run]:
    """The ways of metagen to run one meta-gradient."""
    meta = {name: w.detach() for name, w in learner.named_parameters()}

    def way(gradient: MetaGradient, chunk: int | None = None, execution: Execution = "vmap") -> Run:
        def run() -> Weights:
            step = in_chunks(gradient, learner, meta, batch, chunk, execution)
            return {name.removeprefix(PREFIX): g for name, g in step.gradients.items()}

        return run

    exact = learner.meta_gradient
    ways = {
        "metagen": way(Recorded(exact, after=0)),
        "metagen, not recorded": way(exact),
        "metagen, chunks of 4": way(exact, 4),
        "metagen, loop": way(exact, 1, "loop"),
    }
    if isinstance(learner, MAML):
        segment = math.ceil(learner.steps**0.5)
        ways |= {"metagen, adjoint": way(Adjoint()), "metagen, adjoint, chunks of 4": way(Adjoint(), 4)}
        ways |= {"metagen, adjoint, loop": way(Adjoint(segment), 1, "loop")}
    return ways


def theirs(learner: FixedRate, vae: VAE, batch: TaskBatch) -> dict[str, Run]:
    """The same by each peer that is installed."""
    found: dict[str, Run] = {}
    for name, peer in PEERS.items():
        problem = Problem(type(learner).__name__.lower(), Loss(vae), batch, learner.steps, RATE)
        try:
            step = peer(problem)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        found[name] = step
    return found


def check(kind: str, runs: dict[str, Run]) -> None:
    """Stop if a gradient differs from that of the plain loop."""
    expected = runs["plain loop"]()
    for label, run in runs.items():
        found = run()
        error = max(float((found[n] - g).abs().max() / g.abs().max().clamp(min=1e-3)) for n, g in expected.items())
        if error > 1e-3:
            raise SystemExit(f"{kind}, {label}: differs from the plain loop by {error:.1e}")


def measured(learner: FixedRate, vae: VAE, batch: TaskBatch, repeats: int, device: str) -> list[dict[str, Any]]:
    """A row for each implementation: tasks a second (median, least, most), the ratio to the best peer, MiB."""
    kind, tasks, peers = type(learner).__name__, len(batch.support), theirs(learner, vae, batch)
    runs = {**peers, **ours(learner, batch)}
    check(kind, runs)
    times: dict[str, list[float]] = {label: [] for label in runs}
    for _ in range(repeats):
        for label, run in runs.items():
            times[label].append(tasks / seconds(run, device))
    rates = {label: statistics.median(each) for label, each in times.items()}
    best = max(rates[label] for label in peers if label != "vmap by hand")  # which is no package
    shape = {"kind": kind, "tasks": tasks, "steps": learner.steps}
    return [
        {
            **shape,
            "way": label,
            "rate": rates[label],
            "least": min(times[label]),
            "most": max(times[label]),
            "ratio": rates[label] / best,
            "mib": peak_bytes(run, torch.device(device)) / MIB,
        }
        for label, run in runs.items()
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, then time."""
    arguments = parser(__doc__)
    arguments.add_argument("--tasks", type=int, default=16)
    arguments.add_argument("--steps", type=int, nargs="+", default=[1, 5, 10])
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--out", type=Path)
    options = arguments.parse_args(argv)
    place = environment(torch.device(options.device))
    print(f"{place['hardware']}, {torch.get_num_threads()} threads; torch {torch.__version__}")
    torch.manual_seed(0)
    images = (torch.rand(options.tasks, 20, 1, 28, 28) > 0.8).float().to(options.device)
    rows: list[dict[str, Any]] = []
    for kind in (MAML, FOMAML, Reptile):
        for steps in options.steps:
            vae = VAE(latent=32).to(options.device)
            learner = kind(vae, steps=steps, rate=RATE).to(options.device)
            batch = task_batch(learner, images[:, :5], images[:, 5:], (0, "bench"), range(options.tasks))
            for row in measured(learner, vae, batch, options.repeats, options.device):
                rows.append(row)
                speed = f"{row['rate']:8.1f} tasks/s   x{row['ratio']:.2f} {row['mib']:9.1f} MiB"
                print(f"{row['kind']:8} {row['steps']:3} steps  {row['way']:30} {speed}", flush=True)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        written = {"environment": place, "threads": torch.get_num_threads(), "repeats": options.repeats, "rows": rows}
        write_atomically(options.out / "meta_gradients.json", page(written))


if __name__ == "__main__":
    main()
