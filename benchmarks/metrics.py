"""The Frechet distance of each of many tasks: metagen's, all at once, beside torchmetrics' of one task after the other.

    python benchmarks/metrics.py [--tasks 423] [--images 15] [--features 2048] [--theirs 3] [--repeats 3]

Torchmetrics takes the eigenvalues of the product of two covariances, seconds a task, so it is timed on a few tasks and
scaled to all. How far each is off is measured where the truth is known: X beside X moved by v is |v|^2, and X beside
s X is (1 - s)^2 (|mean|^2 + tr S).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
import torchmetrics
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from benchmarks.timing import seconds
from experiments.runs import parser
from metagen.distributed.environment import environment
from metagen.metrics import frechet_distance

Pair = tuple[torch.Tensor, torch.Tensor]


class AsTheyAre(nn.Module):
    """Gives torchmetrics features in place of images."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.num_features = features

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features as they are."""
        return x


def torchmetrics_distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The same of features [T, n, d], as torchmetrics has it."""
    metric, found = FrechetInceptionDistance(AsTheyAre(a.shape[-1])), []
    for one, other in zip(a, b, strict=True):
        metric.reset()
        metric.update(one, real=True)
        metric.update(other, real=False)
        found.append(metric.compute())
    return torch.stack(found)


def cases(real: torch.Tensor, seed: int) -> dict[str, tuple[Pair, torch.Tensor]]:
    """Pairs of features [T, n, d] whose distances [T] are known."""
    shift = torch.randn(real.shape[-1], generator=torch.Generator().manual_seed(seed + 1), dtype=real.dtype)
    size = real.mean(1).square().sum(-1) + real.var(1).sum(-1)
    return {
        "X, X moved": ((real, real + shift), shift.square().sum().expand(len(real))),
        "X, 1.5 X": ((real, 1.5 * real), 0.25 * size),
        "X, X": ((real, real), torch.zeros(len(real), dtype=real.dtype)),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Compare with the truth, then time."""
    arguments = parser(__doc__)
    arguments.add_argument("--tasks", type=int, default=423)
    arguments.add_argument("--images", type=int, default=15)
    arguments.add_argument("--features", type=int, default=2048)
    arguments.add_argument("--theirs", type=int, default=3, help="tasks that torchmetrics is timed on")
    arguments.add_argument("--repeats", type=int, default=3, help="of ours; the median counts")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args(argv)
    print(f"{environment(torch.device('cpu'))['hardware']}; torch {torch.__version__}, ", end="")
    print(f"torchmetrics {torchmetrics.__version__}; seed {options.seed}")
    print(f"{options.tasks} tasks, {options.images} real and {options.images} made images each, ", end="")
    print(f"{options.features} features, float64")
    rng, shape = torch.Generator().manual_seed(options.seed), (options.tasks, options.images, options.features)
    centres = torch.randn(options.tasks, 1, options.features, generator=rng, dtype=torch.float64)
    real, made = (centres + torch.randn(shape, generator=rng, dtype=torch.float64) for _ in range(2))
    few = slice(options.theirs)
    ways = {"metagen": frechet_distance, "torchmetrics": torchmetrics_distance}
    for case, ((a, b), truth) in cases(real[few], options.seed).items():
        off = {name: float((way(a, b) - truth).abs().max()) for name, way in ways.items()}
        errors = ", ".join(f"{name} {error:.1e}" for name, error in off.items())
        print(f"{case:11} truth {truth.mean():8.1f}; furthest from it, of {options.theirs} tasks: {errors}")
    apart = float((frechet_distance(real[few], made[few]) - torchmetrics_distance(real[few], made[few])).abs().max())
    print(f"real, made  the two differ by {apart:.1e} at most")
    ours = statistics.median(seconds(lambda: frechet_distance(real, made)) for _ in range(options.repeats))
    theirs = seconds(lambda: torchmetrics_distance(real[few], made[few])) / options.theirs * options.tasks
    print(f"metagen      {ours:8.2f} s for {options.tasks} tasks (median of {options.repeats})")
    print(f"torchmetrics {theirs:8.0f} s for {options.tasks} tasks, scaled from {options.theirs}")
    print(f"metagen is {theirs / ours:.0f} times as fast (required: 100)")


if __name__ == "__main__":
    main()
