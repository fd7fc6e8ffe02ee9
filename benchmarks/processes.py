"""Meta-steps a second of one process and of two, each with one thread: the tasks of a meta-step are shared.

    python -m benchmarks.processes --out DIR [--tasks 16] [--steps 5] [--repeats 20] [--turns 5]

A meta-step is MAML of a VAE at 28 px on 5 support and 15 query images a task, the mean of all processes' gradients, and
an Adam step. One and two take turns, and the ratio is the median of the turns. DIR gets processes.json.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.distributed
from torch.multiprocessing.spawn import spawn

from experiments.runs import parser
from metagen.adaptation import Recorded, in_chunks, task_batch
from metagen.distributed.environment import environment
from metagen.generators import VAE
from metagen.learners import MAML
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page, read_json


def work(rank: int, world: int, meeting: str, tasks: int, steps: int, repeats: int) -> None:
    """One process: its share of the tasks. The first one writes the median seconds of a meta-step."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=rank, world_size=world)
    torch.manual_seed(0)
    learner = MAML(VAE(latent=32), steps=steps, rate=1e-4)
    images = (torch.rand(tasks, 20, 1, 28, 28) > 0.8).float()
    own = range(rank * tasks // world, (rank + 1) * tasks // world)
    mine = images[own.start : own.stop]
    batch = task_batch(learner, mine[:, :5], mine[:, 5:], (0, "bench"), own)
    gradient, optimiser = Recorded(learner.meta_gradient, after=0), torch.optim.Adam(learner.parameters())
    each = []
    for _ in range(repeats + 2):
        torch.distributed.barrier()
        started = time.perf_counter()
        meta = {name: w.detach() for name, w in learner.named_parameters()}
        found = in_chunks(gradient, learner, meta, batch).gradients
        flat = torch.cat([found[name].flatten() for name in meta]) / world
        torch.distributed.all_reduce(flat)
        for weight, g in zip(learner.parameters(), flat.split([w.numel() for w in meta.values()]), strict=True):
            weight.grad = g.view_as(weight)
        optimiser.step()
        each.append(time.perf_counter() - started)
    if rank == 0:
        numbers = {"seconds": statistics.median(each[2:])}
        write_atomically(Path(f"{meeting}.json"), page(numbers))
    torch.distributed.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure one process, then two."""
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--tasks", type=int, default=16)
    arguments.add_argument("--steps", type=int, default=5)
    arguments.add_argument("--repeats", type=int, default=20)
    arguments.add_argument("--turns", type=int, default=5)
    options = arguments.parse_args(argv)
    turns = []
    for _ in range(options.turns):
        one, two = (seconds_of(world, options) for world in (1, 2))
        turns.append({"one": one, "two": two, "ratio": one / two})
        print(f"{one:.3f} s and {two:.3f} s a meta-step: two processes are {one / two:.2f} times one", flush=True)
    median = sorted(turns, key=lambda turn: turn["ratio"])[len(turns) // 2]
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"environment": environment(torch.device("cpu")), "turns": turns, **median}
    write_atomically(options.out / "processes.json", page(found))


def seconds_of(world: int, options: argparse.Namespace) -> float:
    """The median seconds of a meta-step of so many processes."""
    with TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        spawn(work, (world, meeting, options.tasks, options.steps, options.repeats), world)
        return float(read_json(Path(f"{meeting}.json"))["seconds"])


if __name__ == "__main__":
    main()
