"""Tasks a second and memory of one meta-gradient, the former as ratios to a plain autograd loop of the same run.

    python benchmarks/meta_gradients.py [--tasks 16] [--steps 5] [--repeats 5] [--device cpu]

The network is a convolutional VAE at 28 px; 5 support and 15 query images a task; the implementations take turns,
so that a drift of the machine meets them all. The gradients are compared before anything is timed. Memory is the most
that tensors held above what was there before (`peak_bytes` of the study of cost), of all tasks at once but for chunks.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from experiments.runs import parser
from metagen.adaptation import Adjoint, TaskBatch, in_chunks, task_batch
from metagen.core.functional import Weights, with_weights
from metagen.evaluation.studies.cost import MIB, peak_bytes
from metagen.generators import VAE
from metagen.learners import FOMAML, MAML, FixedRate, Reptile

RATE = 1e-4


def plain_loop(learner: FixedRate, meta: Weights, batch: TaskBatch) -> Weights:
    """The same as written by hand: torch.autograd.grad, one task after the other."""
    generator, second = learner.generator, isinstance(learner, MAML)
    leaves = {n.removeprefix("generator."): w.requires_grad_() for n, w in meta.items()}
    total = {n: torch.zeros_like(w) for n, w in leaves.items()}
    tasks = len(batch.support)
    for t in range(tasks):
        fast = leaves if second else {n: w.detach().requires_grad_() for n, w in leaves.items()}
        for step in range(learner.steps):
            noise = {"latent": batch.support_noise["vae"]["latent"][t, step, 0]}  # one visit a step
            loss = with_weights(generator, fast).loss("vae", batch.support[t], noise, None)
            gradients = torch.autograd.grad(loss, list(fast.values()), create_graph=second)
            fast = {n: w - RATE * g for (n, w), g in zip(fast.items(), gradients, strict=True)}
            if not second:
                fast = {n: w.detach().requires_grad_() for n, w in fast.items()}
        if isinstance(learner, Reptile):
            each = [leaves[n].detach() - w.detach() for n, w in fast.items()]
        else:
            noise = {"latent": batch.query_noise["vae"]["latent"][t]}
            loss = with_weights(generator, fast).loss("vae", batch.query[t], noise, None)
            each = list(torch.autograd.grad(loss, list((leaves if second else fast).values())))
        total = {n: total[n] + g / tasks for n, g in zip(total, each, strict=True)}
    return {f"generator.{n}": g for n, g in total.items()}


def implementations(learner: FixedRate, meta: Weights, batch: TaskBatch) -> dict[str, Callable[[], Weights]]:
    """The ways to run the same meta-gradient."""
    gradient = learner.meta_gradient
    adjoints = {"adjoint, stored": Adjoint(), "adjoint, sqrt(N) segments": Adjoint(math.ceil(learner.steps**0.5))}
    chosen = adjoints if isinstance(learner, MAML) else {}
    return {
        "plain loop": lambda: plain_loop(learner, {n: w.detach() for n, w in meta.items()}, batch),
        "metagen, loop": lambda: in_chunks(gradient, learner, meta, batch, 1, "loop")[0],
        "metagen, vmap": lambda: in_chunks(gradient, learner, meta, batch)[0],
        "metagen, vmap in chunks of 4": lambda: in_chunks(gradient, learner, meta, batch, 4)[0],
        **{label: partial(_by, adjoint, learner, meta, batch) for label, adjoint in chosen.items()},
    }


def _by(gradient: Adjoint, learner: FixedRate, meta: Weights, batch: TaskBatch) -> Weights:
    return in_chunks(gradient, learner, meta, batch)[0]


def seconds(run: Callable[[], Weights], device: str) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main(argv: Sequence[str] | None = None) -> None:
    """Compare, then time."""
    arguments = parser(__doc__)
    arguments.add_argument("--tasks", type=int, default=16)
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args(argv)
    device = options.device
    name = torch.cuda.get_device_name() if device != "cpu" else f"CPU, {torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {name}; {options.tasks} tasks x {options.steps} inner steps")
    torch.manual_seed(0)
    images = (torch.rand(options.tasks, 20, 1, 28, 28) > 0.8).float().to(device)
    for kind in (MAML, FOMAML, Reptile):
        learner = kind(VAE(latent=32), steps=options.steps, rate=RATE).to(device)
        meta = {n: w.detach() for n, w in learner.named_parameters()}
        tasks = range(options.tasks)
        batch = task_batch(learner, images[:, :5], images[:, 5:], (0, "bench"), tasks)
        runs = implementations(learner, meta, batch)
        expected, memory = runs["plain loop"](), {}
        for label, run in runs.items():
            found = run()
            memory[label] = peak_bytes(run, torch.device(device)) / MIB
            error = max(float((found[n] - g).abs().max() / g.abs().max().clamp(min=1e-3)) for n, g in expected.items())
            if error > 1e-3:
                raise SystemExit(f"{kind.__name__}, {label}: differs from the plain loop by {error:.1e}")
        times: dict[str, list[float]] = {label: [] for label in runs}
        for _ in range(options.repeats):
            for label, run in runs.items():
                times[label].append(seconds(run, device))
        reference = statistics.median(times["plain loop"])
        for label, each in times.items():
            median = statistics.median(each)
            speed = f"{options.tasks / median:8.1f} tasks/s   x{reference / median:.2f}"
            print(f"{kind.__name__:8} {label:30} {speed} {memory[label]:9.1f} MiB")


if __name__ == "__main__":
    main()
