"""The Frechet distance of infinitely many images (FID-infinity: Chong & Forsyth 2020, arXiv:1911.07023)."""

from __future__ import annotations

import numpy as np
import torch

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError
from metagen.metrics.base import PooledColumn, RealFeatures
from metagen.metrics.frechet import frechet_distance

PARTS = (2, 3, 4)


def fd_infinity(samples: torch.Tensor, reference: torch.Tensor, seed: int = 0) -> torch.Tensor:
    """The intercept of the line through Frechet distances of subsets against 1 / their size.

    Subsets are of tasks, the same on both sides: the reference is as small as the samples, so its bias has to go too,
    and both sides share their tasks. They are all tasks, and all but each of 2, 3 and 4 random parts of them: in the
    paper subsets are as small as a tenth, but the bias is a line only where images are many more than d.

    Args:
        samples: features [T, n, d]; n = 1 where there are no tasks.
        reference: features of real images [T, r, d].
        seed: of the dealing to parts.

    Returns:
        A scalar in float64; below 0 by chance where the sides are alike.

    Raises:
        MetagenError: fewer than 4 tasks.

    Example:
        >>> real = torch.randn(40, 1, 2, generator=torch.Generator().manual_seed(0))
        >>> round(float(fd_infinity(real + 3, real)), 3)
        18.0
    """
    if len(samples) < max(PARTS):
        raise MetagenError(f"fd_infinity: expected {max(PARTS)} or more tasks, got {len(samples)}; raise --limit")
    order = torch.from_numpy(numpy_rng(seed, "fd_infinity").permutation(len(samples)))
    parts = [part for number in PARTS for part in order.tensor_split(number)]
    subsets = [order, *(order[~torch.isin(order, part)] for part in parts)]
    distances = [float(frechet_distance(samples[s].flatten(0, 1), reference[s].flatten(0, 1))) for s in subsets]
    line = np.polyfit([1 / len(s) for s in subsets], distances, 1)
    return torch.tensor(line[1], dtype=torch.float64)


class FrechetInfinity(PooledColumn):
    """The Frechet distance without the bias of few images; ten times the work, and an interval some twice too wide.

    Too wide, because each jackknife replicate deals its tasks anew.
    """

    best = "low"
    on_request = True

    def fits(self, real: RealFeatures) -> bool:
        """A replicate leaves a task out."""
        return len(real.reference) > max(PARTS)

    def figure(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `fd_infinity`."""
        return fd_infinity(samples.unflatten(0, (len(real.reference), -1)), real.reference)
