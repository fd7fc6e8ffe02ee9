"""How the time of a meta-step grows with tasks, inner steps, image size and parameters.

    python -m benchmarks.growth --out DIR [--repeats 3] [--device cpu]

A VAE and a GAN (R3) are adapted by MAML, a token VAE by looking at the support. From a middle shape one size is varied
at a time; the slope is that of log seconds by log size, by least squares. DIR gets growth.json and growth.png.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.timing import seconds
from experiments.runs import parser
from metagen.adaptation import in_chunks, task_batch
from metagen.distributed.environment import environment
from metagen.generators import GAN, VAE, Generator, TokenVAE
from metagen.learners import MAML, Amortised, Learner
from metagen.report.plots import png
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page

MIDDLE = {"tasks": 8, "steps": 4, "size": 32, "width": 16}
VARIED = {"tasks": (2, 4, 8, 16), "steps": (1, 2, 4, 8), "size": (16, 32, 64), "width": (8, 16, 32)}
RATE = 1e-4


def vae(size: int, width: int) -> Generator:
    """A VAE with two halvings."""
    return VAE(size=size, widths=(width, 2 * width))


def r3(size: int, width: int) -> Generator:
    """A GAN of the preset R3 with two halvings."""
    return GAN(preset="r3", size=size, widths=(width, 2 * width), depth=1)


def token_vae(size: int, width: int) -> Generator:
    """A token VAE with a code for each 4 x 4 pixels."""
    return TokenVAE(size=size, width=4 * width, tokenizer_width=width, halvings=2, heads=4)


NETWORKS: dict[str, Callable[[int, int], Generator]] = {"VAE": vae, "R3": r3, "TokenVAE": token_vae}


def measured(name: str, shape: dict[str, int], repeats: int, device: str) -> dict[str, Any]:
    """The median seconds of one meta-step, and the number of parameters."""
    generator = NETWORKS[name](shape["size"], shape["width"])
    looks = name == "TokenVAE"
    learner: Learner = Amortised(generator) if looks else MAML(generator, steps=shape["steps"], rate=RATE)
    learner = learner.to(device)
    meta = {n: w.detach() for n, w in learner.meta_parameters().items()}
    images = (torch.rand(shape["tasks"], 10, 1, shape["size"], shape["size"]) > 0.8).float().to(device)
    batch = task_batch(learner, images[:, :5], images[:, 5:], (0, "growth"), range(shape["tasks"]))
    run = partial(in_chunks, learner.meta_gradient, learner, meta, batch)
    each = [seconds(run, device) for _ in range(repeats + 1)]
    parameters = sum(w.numel() for w in generator.parameters())
    return {"network": name, **shape, "parameters": parameters, "seconds": statistics.median(each[1:])}


def drawn(lines: list[dict[str, Any]]) -> bytes:
    """Seconds by each size, on logarithmic axes, a line a network."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    for axes, varied in zip(figure.subplots(1, len(VARIED), sharey=True), VARIED, strict=True):
        for line in (each for each in lines if each["varied"] == varied):
            axes.loglog(line["sizes"], line["seconds"], "o-", label=f"{line['network']} ({line['slope']:.2f})")
        if varied != "width":
            axes.set_xticks(VARIED[varied], [str(value) for value in VARIED[varied]])
            axes.xaxis.minorticks_off()
        axes.set_xlabel("parameters" if varied == "width" else varied)
        axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("seconds of a meta-step")
    return png(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure each line, then draw."""
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--networks", nargs="+", default=list(NETWORKS))
    options = arguments.parse_args(argv)
    torch.manual_seed(0)
    lines: list[dict[str, Any]] = []
    for name in options.networks:
        for varied, values in VARIED.items():
            if name == "TokenVAE" and varied == "steps":
                continue  # it takes none
            rows = [measured(name, {**MIDDLE, varied: v}, options.repeats, options.device) for v in values]
            sizes = [row["parameters" if varied == "width" else varied] for row in rows]
            seconds = [row["seconds"] for row in rows]
            slope = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
            line = {"network": name, "varied": varied, "sizes": sizes, "seconds": seconds, "slope": slope}
            lines.append(line)
            print(f"{name:9} {varied:6} {sizes}: seconds ~ size^{slope:.2f}", flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    written = {"environment": environment(torch.device(options.device)), "middle": MIDDLE, "lines": lines}
    write_atomically(options.out / "growth.json", page(written))
    write_atomically(options.out / "growth.png", drawn(lines))


if __name__ == "__main__":
    main()
