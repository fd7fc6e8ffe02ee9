"""Rates of the processor, and of a network and a meta-gradient on it, in GFLOP/s.

    python -m benchmarks.roofline --out DIR [--repeats 7] [--device cpu]

Work is counted at torch's dispatcher: convolutions, matrix products and their derivatives; of a meta-gradient, in the
plain loop, which does nothing that is not needed. DIR gets roofline.json.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import Loss, Problem
from benchmarks.peers import plain as by_hand
from benchmarks.timing import seconds
from experiments.runs import parser
from metagen.adaptation import Recorded, in_chunks, task_batch
from metagen.core.philox import Draws
from metagen.distributed.environment import environment
from metagen.generators import VAE, Noise
from metagen.learners import FOMAML, MAML
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page

GIGA = 1e9
Run = Callable[[], object]


def median(run: Run, repeats: int, device: str) -> float:
    """Seconds, the median of so many calls, after two that are not measured."""
    return statistics.median([seconds(run, device) for _ in range(repeats + 2)][2:])


def counted(run: Run) -> int:
    """FLOP of a call."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def workloads(device: str) -> dict[str, tuple[Run, Run]]:
    """By name, what is timed and what is counted: products, the plain passes of a VAE by batch, and meta-gradients."""
    matrix = torch.randn(2048, 2048, device=device)
    images, kernel = torch.randn(32, 64, 56, 56, device=device), torch.randn(64, 64, 3, 3, device=device)
    plain: dict[str, Run] = {
        "matrix product, 2048 x 2048": lambda: matrix @ matrix,
        "convolution, 64 to 64 channels, 3 x 3, 32 images of 56 x 56": lambda: F.conv2d(images, kernel, padding=1),
    }
    vae = VAE(latent=32).to(device)
    for n in (5, 20, 320):
        x, noise = (torch.rand(n, 1, 28, 28, device=device) > 0.8).float(), vae.noise(n, Draws((0,), None, device))
        plain[f"VAE, forward and backward, {n} images"] = partial(_passes, vae, x, noise)
    found = {name: (run, run) for name, run in plain.items()}
    episodes = (torch.rand(16, 20, 1, 28, 28, device=device) > 0.8).float()
    for kind in (MAML, FOMAML):
        learner = kind(vae, steps=5, rate=1e-4).to(device)
        meta = {name: w.detach() for name, w in learner.named_parameters()}
        batch = task_batch(learner, episodes[:, :5], episodes[:, 5:], (0, "roofline"), range(16))
        gradient = Recorded(learner.meta_gradient, after=0)
        needed = by_hand(Problem(kind.__name__.lower(), Loss(vae), batch, 5, 1e-4))
        found[f"{kind.__name__}, 16 tasks, 5 steps"] = (partial(in_chunks, gradient, learner, meta, batch), needed)
    return found


def _passes(vae: VAE, images: torch.Tensor, noise: Noise) -> None:
    vae.loss("vae", images, noise, None).backward()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure."""
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--repeats", type=int, default=7)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args(argv)
    device = options.device
    block = torch.randn(2**25, device=device)  # 128 MiB, more than any cache
    other = torch.empty_like(block)
    bandwidth = 2 * block.nbytes / median(lambda: torch.mul(block, 2, out=other), options.repeats, device) / GIGA
    rows = []
    for name, (run, needed) in workloads(device).items():
        work, took = counted(needed), median(run, options.repeats, device)
        rows.append({"what": name, "gflop": work / GIGA, "seconds": took, "gflops": work / took / GIGA})
        print(f"{name:60} {rows[-1]['gflop']:8.2f} GFLOP {rows[-1]['gflops']:8.0f} GFLOP/s", flush=True)
    print(f"memory {bandwidth:.0f} GB/s")
    options.out.mkdir(parents=True, exist_ok=True)
    place = environment(torch.device(device))
    written = {"environment": place, "threads": torch.get_num_threads(), "gb_s": bandwidth, "rows": rows}
    write_atomically(options.out / "roofline.json", page(written))


if __name__ == "__main__":
    main()
