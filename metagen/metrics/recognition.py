"""Whether new images are recognised as what they should be (Boutin 2022, arXiv:2205.10370, section 3.2)."""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import RealFeatures, TaskColumn

WAYS = 20


def recognisability(samples: torch.Tensor, exemplars: torch.Tensor, ways: int = WAYS) -> torch.Tensor:
    """The share of each task's samples that lie nearer to its own exemplar than to those of `ways` - 1 random others.

    The expectation over the choice of the others is taken exactly: with r of the T - 1 others nearer than its own, a
    sample is recognised with probability C(T - 1 - r, w) / C(T - 1, w), w = ways - 1. Chance is 1 / ways.

    Args:
        samples: features [T, n, d].
        exemplars: one feature a task [T, d]: the mean over its support.
        ways: the tasks to choose from, its own included.

    Returns:
        [T] in [0, 1].

    Raises:
        MetagenError: fewer tasks than ways.

    Example:
        >>> exemplars = torch.tensor([[0.0], [10.0]])
        >>> samples = torch.tensor([[[1.0], [9.0]], [[9.0], [11.0]]])  # one of the first task is like the second
        >>> recognisability(samples, exemplars, ways=2).tolist()
        [0.5, 1.0]
    """
    tasks = len(exemplars)
    if not 2 <= ways <= tasks:
        raise MetagenError(f"recognisability: choosing among {ways} needs as many tasks, got {tasks}; raise --limit")
    distance = torch.cdist(samples.double(), exemplars.double())  # [T, n, T]
    own = distance.diagonal(dim1=0, dim2=2).T.unsqueeze(-1)
    nearer = (distance <= own).sum(-1) - 1  # itself is not nearer; a tie counts as a mistake
    left = (tasks - 1 - nearer).double()
    drawn = torch.arange(ways - 1, dtype=torch.float64)
    return ((left.unsqueeze(-1) - drawn).clamp(min=0) / (tasks - 1 - drawn)).prod(-1).mean(-1)


class Recognisability(TaskColumn):
    """20-way recognition by the support, in per cent; of fewer ways only where there are fewer tasks."""

    best = "high"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `recognisability`."""
        return 100 * recognisability(samples, real.support.mean(1), min(WAYS, len(samples)))
