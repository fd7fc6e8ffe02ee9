"""Intervals: the bootstrap over tasks, of means and of ratios, and over groups, and the jackknife of pooled figures."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from metagen.errors import MetagenError
from metagen.metrics.intervals import (
    Interval,
    jackknife_interval,
    over_groups_interval,
    over_tasks_interval,
    replicates,
)

# the bootstrap of a mean


@pytest.mark.parametrize("count", [12, 100])
def test_the_interval_is_scipys_percentile_bootstrap(count):
    values = np.random.default_rng(0).gamma(2.0, 10.0, count)
    found = over_tasks_interval(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    error = values.std() / count**0.5
    assert found.mean == pytest.approx(values.mean())
    assert found.tasks == count
    assert abs(found.low - theirs.low) < 0.15 * error  # two draws of 10,000 resamples each
    assert abs(found.high - theirs.high) < 0.15 * error
    assert found == over_tasks_interval(torch.from_numpy(values))  # seeded
    assert found != over_tasks_interval(values, seed=1)


def test_the_interval_of_known_values():
    assert over_tasks_interval([3.0]) == Interval(3.0, 3.0, 3.0, 1)
    constant = over_tasks_interval([0.5] * 7)
    assert (constant.low, constant.high) == (0.5, 0.5)
    assert str(Interval(1.234, -1, 2.5, 3)) == "1.23 [-1.00, 2.50]"
    two = over_tasks_interval([0.0, 1.0])
    assert (two.low, two.mean, two.high) == (0.0, 0.5, 1.0)
    with pytest.raises(MetagenError, match="no task was measured"):
        over_tasks_interval([])


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [over_tasks_interval(rng.normal(5, 2, 40)) for _ in range(60)]
    covered = sum(interval.low <= 5 <= interval.high for interval in intervals)
    assert 48 <= covered <= 60
    assert covered < 60 or max(interval.high - interval.low for interval in intervals) < 3


# the bootstrap of a ratio


def correlated(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tasks whose sizes differ far more than their ratios, which lie about 0.7."""
    rng = np.random.default_rng(3)
    below = rng.gamma(3.0, 2.0, count)
    return below * rng.normal(0.7, 0.05, count), below


def test_a_ratio_is_of_the_two_means_of_the_same_resampled_tasks():
    above, below = correlated(50)
    found = over_tasks_interval(above, below)
    rng = np.random.default_rng(4)
    plain = []
    for _ in range(4000):
        tasks = rng.integers(0, 50, 50)
        plain.append(above[tasks].sum() / below[tasks].sum())
    error = np.std(plain)
    low, high = np.percentile(plain, [2.5, 97.5])
    assert found.mean == pytest.approx(above.mean() / below.mean())
    assert found.tasks == 50
    assert abs(found.low - low) < 0.2 * error
    assert abs(found.high - high) < 0.2 * error
    unpaired = over_tasks_interval(above / below.mean())
    assert found.high - found.low < 0.2 * (unpaired.high - unpaired.low)


def test_a_ratio_is_not_the_mean_of_ratios():
    found = over_tasks_interval([1.0, 30.0], [1.0, 10.0])
    assert found.mean == pytest.approx(31 / 11)
    assert (found.low, found.high) == pytest.approx((1.0, 3.0))  # the one task twice, or the other


def test_a_ratio_to_ones_is_the_mean_and_one_to_itself_is_one():
    values, below = correlated(12)
    assert over_tasks_interval(values, np.ones(12)) == over_tasks_interval(values)
    same = over_tasks_interval(torch.from_numpy(below), torch.from_numpy(below))
    assert (same.low, same.mean, same.high) == (1.0, 1.0, 1.0)


# the bootstrap of whole groups


def clustered(rng: np.random.Generator, groups: int = 30) -> tuple[np.ndarray, list[str]]:
    """Values about 5 that differ between groups far more than within, of groups of 2 to 9 tasks, and their groups."""
    sizes = rng.integers(2, 10, groups)
    names = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return np.repeat(rng.normal(5, 2, groups), sizes) + rng.normal(0, 0.3, sizes.sum()), names


def test_whole_groups_are_resampled_as_a_plain_loop_does():
    rng = np.random.default_rng(9)
    values, names = clustered(rng)
    order = rng.permutation(len(values))  # members need not stand together
    found = over_groups_interval(values[order], [names[place] for place in order])
    members = [values[[name == group for name in names]] for group in sorted(set(names))]
    plain = [np.concatenate([members[each] for each in rng.integers(0, 30, 30)]).mean() for _ in range(4000)]
    low, high = np.percentile(plain, [2.5, 97.5])
    assert found.mean == pytest.approx(values.mean())
    assert found.tasks == len(values)
    assert abs(found.low - low) < 0.2 * np.std(plain)
    assert abs(found.high - high) < 0.2 * np.std(plain)


def test_of_clustered_values_only_the_interval_by_groups_covers_as_often_as_it_says():
    rng, covered = np.random.default_rng(10), {"groups": 0, "tasks": 0}
    for _ in range(40):
        values, names = clustered(rng)
        for kind, found in (("groups", over_groups_interval(values, names)), ("tasks", over_tasks_interval(values))):
            covered[kind] += found.low <= 5 <= found.high
    assert covered["groups"] >= 0.85 * 40  # less three standard errors, and 30 groups are few
    assert covered["tasks"] < 0.75 * 40


def test_groups_of_one_task_are_the_bootstrap_of_tasks():
    values, _ = correlated(12)
    assert over_groups_interval(values, [f"task-{number:02d}" for number in range(12)]) == over_tasks_interval(values)
    with pytest.raises(MetagenError, match="no task was measured"):
        over_groups_interval([], [])


# the jackknife of a pooled figure


def pooled_interval(figure, tasks, seed=0):
    return jackknife_interval(replicates(figure, tasks, seed), tasks)


def mean_of(values: np.ndarray):
    return lambda tasks: float(values[tasks.numpy()].mean())


@pytest.mark.parametrize("count", [3, 7, 20])
def test_of_few_tasks_the_pooled_interval_of_a_mean_is_students(count):
    values = np.random.default_rng(5).gamma(2.0, 10.0, count)
    found = pooled_interval(mean_of(values), count)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(theirs))
    assert found.tasks == count


def test_of_many_tasks_the_pooled_interval_of_a_mean_is_students_of_twenty_group_means():
    values, asked = np.random.default_rng(6).normal(3, 2, 60), []

    def figure(tasks):
        asked.append(tasks.tolist())
        return float(values[tasks.numpy()].mean())

    found = pooled_interval(figure, 60)
    groups = [sorted(set(range(60)) - set(kept)) for kept in asked[1:]]
    assert asked[0] == list(range(60))
    assert all(kept == sorted(set(kept)) for kept in asked)
    assert [len(group) for group in groups] == [3] * 20
    assert sorted(task for group in groups for task in group) == list(range(60))  # each task is left out once
    assert any(group != list(range(group[0], group[0] + 3)) for group in groups)  # neighbours are not dealt together
    theirs = stats.ttest_1samp([values[group].mean() for group in groups], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx(tuple(theirs))


def test_groups_of_unequal_sizes_leave_every_task_out_once():
    asked = []

    def figure(tasks):
        asked.append(set(tasks.tolist()))
        return float(len(tasks))

    pooled_interval(figure, 47)
    left_out = [set(range(47)) - kept for kept in asked[1:]]
    assert sorted(len(group) for group in left_out) == [2] * 13 + [3] * 7
    assert set.union(*left_out) == set(range(47))


def spread(values, tasks):
    return float(values[tasks.numpy()].std(ddof=1))


def test_the_pooled_interval_covers_as_often_as_it_says():
    """Of a figure that is no mean: the standard deviation of all tasks together."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(300):
        values = rng.normal(0, 2, 50)
        found = pooled_interval(partial(spread, values), 50)
        covered += found.low <= 2 <= found.high
    assert 0.90 * 300 <= covered <= 0.985 * 300  # 95 % less or plus three standard errors, and the figure is skewed


def test_the_dealing_depends_on_the_seed_alone():
    values = np.random.default_rng(8).normal(0, 1, 45)
    assert pooled_interval(mean_of(values), 45, seed=3) == pooled_interval(mean_of(values), 45, seed=3)
    assert pooled_interval(mean_of(values), 45, seed=3) != pooled_interval(mean_of(values), 45, seed=4)


def test_a_pooled_figure_that_never_changes_is_certain():
    assert pooled_interval(lambda tasks: 0.25, 30) == Interval(0.25, 0.25, 0.25, 30)


@pytest.mark.parametrize("tasks", [0, 1, 2])
def test_too_few_tasks_for_a_pooled_figure_are_refused(tasks):
    with pytest.raises(MetagenError, match=f"3 tasks or more, got {tasks}"):
        pooled_interval(lambda tasks: 0.0, tasks)
