"""Figures over tasks with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import t as student

from metagen.errors import MetagenError
from metagen.seeding import numpy_rng

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
    """
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise MetagenError("interval: no task was measured")
    below = np.ones_like(array) if over is None else np.asarray(over, dtype=np.float64)
    rng = numpy_rng(seed, "bootstrap")
    draws = (rng.integers(0, array.size, (500, array.size)) for _ in range(RESAMPLES // 500))
    means = np.concatenate([array[tasks].mean(1) / below[tasks].mean(1) for tasks in draws])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(array.mean() / below.mean()), float(low), float(high), int(array.size))


def pooled_interval(figure: Callable[[torch.Tensor], float], tasks: int, seed: int = 0) -> Interval:
    """A figure of all tasks together, with the interval of the delete-a-group jackknife (Quenouille 1956; Kott 2001).

    The bootstrap will not do here: a task drawn twice makes any distance between two distributions larger.

    Args:
        figure: of the tasks whose numbers [n] it is given.
        tasks: T; they are dealt at random to 20 groups (T groups of one, if fewer), each left out in turn.
        seed: of the dealing.

    Raises:
        MetagenError: fewer than three tasks.
    """
    if tasks < 3:
        raise MetagenError(f"interval: a pooled figure needs 3 tasks or more, got {tasks}")
    order = torch.from_numpy(numpy_rng(seed, "jackknife").permutation(tasks))
    groups = order.tensor_split(min(GROUPS, tasks))
    whole = figure(torch.arange(tasks))
    without = np.array([figure(torch.cat([*groups[:i], *groups[i + 1 :]]).sort().values) for i in range(len(groups))])
    error = ((len(groups) - 1) / len(groups) * ((without - without.mean()) ** 2).sum()) ** 0.5
    reach = float(student.ppf(0.975, len(groups) - 1) * error)
    return Interval(whole, whole - reach, whole + reach, tasks)
