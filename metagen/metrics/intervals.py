"""Figures over tasks with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import special

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError

RESAMPLES = 10_000
GROUPS = 20


@dataclass(frozen=True)
class Interval:
    """A figure over tasks with its 95 % interval."""

    mean: float
    low: float
    high: float
    tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} [{self.low:.2f}, {self.high:.2f}]"


def over_tasks_interval(
    values: Sequence[float] | torch.Tensor, over: Sequence[float] | torch.Tensor | None = None, seed: int = 0
) -> Interval:
    """The mean of one value a task and its percentile bootstrap interval (Efron 1979), tasks resampled.

    over: one value a task too; then the figure is the ratio of the two means, both of the same resampled tasks.

    Raises:
        MetagenError: no value.

    Example:
        >>> print(over_tasks_interval([1.0, 2.0, 3.0, 4.0]))
        2.50 [1.50, 3.50]
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise MetagenError("interval: no task was measured")
    below = np.ones_like(array) if over is None else np.asarray(over, dtype=np.float64)
    rng = numpy_rng(seed, "bootstrap")
    draws = (rng.integers(0, array.size, (500, array.size)) for _ in range(RESAMPLES // 500))
    with np.errstate(divide="ignore", invalid="ignore"):  # over a mean of 0 it is not finite, as the figure then tells
        means = np.concatenate([array[tasks].mean(1) / below[tasks].mean(1) for tasks in draws])
        low, high = np.quantile(means, [0.025, 0.975])
        return Interval(float(array.mean() / below.mean()), float(low), float(high), int(array.size))


def over_groups_interval(values: Sequence[float] | torch.Tensor, groups: Sequence[str], seed: int = 0) -> Interval:
    """The same mean of one value a task, whole groups resampled: the cluster bootstrap (Field & Welsh 2007).

    For values that are alike within a group: tasks drawn one by one would make the interval too narrow. The figure is
    a ratio, since resampled groups do not have the same number of tasks in all; doi:10.1111/j.1467-9868.2007.00593.x.

    Args:
        values: [T].
        groups: of each task, T.
        seed: of the resampling.

    Raises:
        MetagenError: no value.
    """
    numbers = np.unique(np.asarray(groups), return_inverse=True)[1]
    sums, counts = np.bincount(numbers, np.asarray(values, dtype=np.float64)), np.bincount(numbers)
    return replace(over_tasks_interval(sums.tolist(), counts.tolist(), seed), tasks=len(groups))


def replicates(figure: Callable[[torch.Tensor], float], tasks: int, seed: int = 0) -> torch.Tensor:
    """A figure of all tasks together, and without each of up to 20 groups of them in turn: [1 + groups], float64.

    Replicates of two figures over the same tasks can be subtracted: the difference is paired.

    Args:
        figure: of the tasks whose numbers [n] it is given.
        tasks: T; they are dealt at random to 20 groups (T groups of one, if fewer).
        seed: of the dealing.

    Raises:
        MetagenError: fewer than three tasks.
    """
    if tasks < 3:
        raise MetagenError(f"interval: a pooled figure needs 3 tasks or more, got {tasks}")
    order = torch.from_numpy(numpy_rng(seed, "jackknife").permutation(tasks))
    groups = order.tensor_split(min(GROUPS, tasks))
    kept = [torch.cat([*groups[:i], *groups[i + 1 :]]).sort().values for i in range(len(groups))]
    return torch.tensor([figure(each) for each in (torch.arange(tasks), *kept)], dtype=torch.float64)


def jackknife_interval(values: torch.Tensor, tasks: int) -> Interval:
    """The interval of the delete-a-group jackknife (Quenouille 1956; Kott 2001) of `replicates` over T tasks.

    The bootstrap will not do here: a task drawn twice makes any distance between two distributions larger.
    """
    whole, without = float(values[0]), values[1:].numpy()
    groups = len(without)
    error = ((groups - 1) / groups * ((without - without.mean()) ** 2).sum()) ** 0.5
    reach = float(special.stdtrit(groups - 1, 0.975) * error)
    return Interval(whole, whole - reach, whole + reach, tasks)
