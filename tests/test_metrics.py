"""The metrics: each against another way to get the same number, and all of them as columns of a table."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from metagen.errors import MetagenError
from metagen.metrics import (
    RealFeatures,
    diversity,
    fd_infinity,
    frechet,
    frechet_distance,
    kernel_distance,
    metrics,
    nearest_support,
    recognisability,
    select_figures,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def interval(column, row, seen, against=None):
    """The figure of a row, or of its difference from another one."""
    values = column.values(row, seen)
    less = 0 if against is None else column.values(against, seen)
    return column.interval(values - less, len(row), column.scale(seen))


def skewed(n: int, d: int, seed: int) -> torch.Tensor:
    """Features whose axes are correlated and of different sizes, about a mean of their own."""
    return normal(n, d, seed=seed) @ (normal(d, d, seed=seed + 100) / d**0.5) + normal(d, seed=seed + 200)


# the Frechet distance


def by_square_root(a: torch.Tensor, b: torch.Tensor) -> float:
    """The published formula, by scipy's matrix square root of the product of two covariances."""
    x, y = a.numpy(), b.numpy()
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(first @ second)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * np.real(root)))


@pytest.mark.parametrize(("n", "m", "d"), [(60, 90, 5), (200, 50, 16), (9, 9, 8)])
def test_frechet_of_more_images_than_dimensions_is_the_published_formula(n, m, d):
    a, b = skewed(n, d, 1), skewed(m, d, 2)
    assert float(frechet_distance(a, b)) == pytest.approx(by_square_root(a, b), rel=1e-7)


@pytest.mark.filterwarnings("ignore:Matrix is singular")
@pytest.mark.parametrize(("n", "m", "d"), [(4, 6, 12), (3, 40, 10), (40, 2, 10), (8, 8, 8)])
def test_frechet_of_fewer_images_than_dimensions_is_the_published_formula(n, m, d):
    a, b = skewed(n, d, 3), skewed(m, d, 4)
    # The root of a singular matrix is only good to the root of machine precision.
    assert float(frechet_distance(a, b)) == pytest.approx(by_square_root(a, b), rel=1e-4)


def test_frechet_of_two_normals_in_one_dimension_is_the_closed_form():
    a, b = normal(50, 1, seed=5) * 3 + 1, normal(30, 1, seed=6)
    expected = (a.mean() - b.mean()) ** 2 + (a.std() - b.std()) ** 2
    assert float(frechet_distance(a, b)) == pytest.approx(float(expected))


def test_frechet_of_commuting_covariances_is_the_closed_form_in_many_dimensions():
    """Few images, so that no covariance is regular: b is a, stretched by 2 about its mean, and shifted."""
    a = normal(4, 30, seed=7)
    b = 2 * a + 1
    expected = (a.mean(0) + 1).square().sum() + a.var(0).sum()
    assert float(frechet_distance(a, b)) == pytest.approx(float(expected))


@pytest.mark.parametrize(("n", "d"), [(50, 6), (4, 12)])
def test_frechet_of_a_set_and_itself_is_zero_and_of_a_shifted_one_the_squared_shift(n, d):
    a, shift = skewed(n, d, 8), normal(d, seed=9)
    assert float(frechet_distance(a, a)) == pytest.approx(0, abs=1e-10)
    assert float(frechet_distance(a, a.flip(0))) == pytest.approx(0, abs=1e-10)
    assert float(frechet_distance(a, a + shift)) == pytest.approx(float(shift.square().sum()))


def whitened(n: int, d: int, seed: int) -> torch.Tensor:
    """Features of mean 0 and covariance 1 to the last bit, almost."""
    x = normal(n, d, seed=seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1))).T


@pytest.mark.parametrize(
    ("mean", "first", "second", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], [1.0] * 4, [1.0] * 4, 4.0),
        ([0.0] * 4, [1.0, 4.0, 9.0, 16.0], [4.0, 9.0, 16.0, 25.0], 4.0),
        ([3.0, 0.0], [0.0, 2.0], [0.0, 8.0], 9 + 2),  # one axis without any spread: good to a root of precision
    ],
)
def test_frechet_of_given_means_and_diagonal_covariances_is_the_closed_form(mean, first, second, expected):
    d = len(mean)
    a = whitened(20, d, 40) * torch.tensor(first).sqrt()
    b = whitened(30, d, 41) * torch.tensor(second).sqrt() + torch.tensor(mean)
    assert float(frechet_distance(a, b)) == pytest.approx(expected, rel=1e-7)


def golden() -> tuple[torch.Tensor, torch.Tensor]:
    """Two sets whose distances were found with torchmetrics and scipy."""
    rng = np.random.RandomState(0)
    first = rng.randn(500, 16)
    return torch.from_numpy(first), torch.from_numpy(rng.randn(400, 16) * 1.3 + 0.2)


def test_the_distances_are_what_other_libraries_found():
    a, b = golden()
    assert float(frechet_distance(a, b)) == pytest.approx(2.6140426250613, abs=1e-12)
    assert float(kernel_distance(a[:400], b)) == pytest.approx(0.2541134036, abs=1e-10)


def test_the_distances_agree_with_torchmetrics():
    a, b = skewed(70, 9, 42), skewed(70, 9, 43)
    theirs = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert float(frechet_distance(a, b)) == pytest.approx(float(theirs), rel=1e-9)
    assert float(kernel_distance(a, b)) == pytest.approx(float(poly_mmd(a, b)), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 16), (400, 400, 4)])
def test_frechet_of_two_sets_that_are_alike_is_the_bias_of_few_images(n, m, d):
    """To first order in 1/n, of normals with covariance 1: (1/n + 1/m) (d + d (d + 1) / 4)."""
    found = torch.stack([frechet_distance(normal(n, d, seed=s), normal(m, d, seed=s + 500)) for s in range(60)])
    expected = (1 / n + 1 / m) * (d + d * (d + 1) / 4)
    assert float(found.mean()) == pytest.approx(expected, abs=4 * float(found.std()) / 60**0.5)
    assert float(found.mean()) == pytest.approx(expected, rel=0.1)


def rotation(d: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=seed)).Q


@pytest.mark.parametrize(("n", "m", "d"), [(40, 30, 6), (5, 4, 12), (9, 30, 12)])
def test_frechet_is_of_the_shapes_alone_and_grows_with_the_square_of_the_scale(n, m, d):
    a, b, turn, shift = skewed(n, d, 44), skewed(m, d, 45), rotation(d, 46), 10 * normal(d, seed=47)
    found = float(frechet_distance(a, b))
    assert float(frechet_distance(a + shift, b + shift)) == pytest.approx(found)
    assert float(frechet_distance(a @ turn, b @ turn)) == pytest.approx(found)
    assert float(frechet_distance(3 * a, 3 * b)) == pytest.approx(9 * found)
    assert float(frechet_distance(a.flip(0), b.roll(2, 0))) == pytest.approx(found)


def test_frechet_infinity_has_no_bias_of_few_images():
    """Of N(0, 1) and N(0, 1.5^2) on 16 axes, 4 apart; raw distances are larger by far."""
    draws, tasks, d = 30, 200, 16
    pairs = [(normal(tasks, 1, d, seed=s), 1.5 * normal(tasks, 1, d, seed=s + 600)) for s in range(draws)]
    found = torch.stack([fd_infinity(a, b) for a, b in pairs])
    raw = torch.stack([frechet_distance(a[:, 0], b[:, 0]) for a, b in pairs])
    error = float(found.std()) / draws**0.5
    assert abs(float(found.mean()) - 4) < 3 * error
    assert float(raw.mean()) - 4 > 10 * error


def test_frechet_infinity_of_sides_that_share_their_tasks_is_that_of_what_differs():
    """The difference between tasks is the same on both sides, and no part of the distance."""
    draws, found, raw = 12, [], []
    for s in range(draws):
        centres = 3 * normal(60, 1, 8, seed=s + 700)
        a, b = (centres + normal(60, 10, 8, seed=s + seed) for seed in (800, 900))
        found.append(float(fd_infinity(a, b)))
        raw.append(float(frechet_distance(a.flatten(0, 1), b.flatten(0, 1))))
    assert abs(np.mean(found)) < 3 * np.std(found, ddof=1) / draws**0.5
    assert np.mean(raw) > 5 * abs(np.mean(found))


def test_frechet_infinity_draws_the_same_whatever_the_global_seed_and_refuses_too_few_tasks():
    a, b = normal(9, 3, 4, seed=48), normal(9, 3, 4, seed=49)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fd_infinity(a, b)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, fd_infinity(a, b))
    assert not torch.equal(first, fd_infinity(a, b, seed=1))
    with pytest.raises(MetagenError, match="fd_infinity: expected 4 or more tasks, got 3"):
        fd_infinity(a[:3], b[:3])


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(("n", "m", "d"), [(12, 9, 4), (3, 4, 10)])
def test_distances_are_symmetric_and_of_many_tasks_a_loop(distance, n, m, d):
    a, b = normal(2, 3, n, d, seed=10), normal(2, 3, m, d, seed=11) * 1.5
    together = distance(a, b)
    assert together.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        torch.testing.assert_close(together[i, j], distance(a[i, j], b[i, j]))
    torch.testing.assert_close(together, distance(b, a))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_distances_are_taken_in_double_precision(distance):
    a, b = skewed(40, 4, 12).float(), skewed(40, 4, 13).float()
    found = distance(a, b)
    assert found.dtype == torch.float64
    assert torch.equal(found, distance(a.double(), b.double()))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(("n", "m"), [(1, 5), (5, 1), (0, 2)])
def test_distances_of_single_images_are_refused(distance, n, m):
    with pytest.raises(MetagenError, match=rf"{distance.__name__}: expected 2 or more images a side, got {n} and {m}"):
        distance(normal(n, 3), normal(m, 3))


# the kernel distance


def by_loops(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x, y):
        return (sum(p * q for p, q in zip(x, y, strict=True)) / len(x) + 1) ** 3

    def mean(pairs):
        pairs = list(pairs)
        return sum(kernel(x, y) for x, y in pairs) / len(pairs)

    return (
        mean(itertools.permutations(a.tolist(), 2))
        + mean(itertools.permutations(b.tolist(), 2))
        - 2 * mean(itertools.product(a.tolist(), b.tolist()))
    )


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 5, 3), (4, 9, 12)])
def test_the_kernel_distance_is_a_loop_over_pairs(n, m, d):
    a, b = skewed(n, d, 14), skewed(m, d, 15)
    assert float(kernel_distance(a, b)) == pytest.approx(by_loops(a.numpy(), b.numpy()), rel=1e-9, abs=1e-12)


def test_the_kernel_distance_of_sets_that_are_alike_is_zero_on_average_at_any_number_of_images():
    draws, n, m, d = 4000, 3, 8, 4
    found = kernel_distance(normal(draws, n, d, seed=16), normal(draws, m, d, seed=17))
    error = float(found.std()) / draws**0.5
    assert abs(float(found.mean())) < 3 * error
    assert (found < 0).float().mean() > 0.3  # unbiased, so often below 0
    apart = kernel_distance(normal(draws, n, d, seed=18), normal(draws, m, d, seed=19) + 1)
    assert float(apart.mean()) > 10 * error


def test_the_kernel_distance_of_a_shift_is_the_closed_form():
    """Of N(0, 1) and N(u, 1) under (x y + 1)^3: squared differences of three moments, weighed by 3, 3 and 1."""
    draws, shift = 3000, 0.7
    found = kernel_distance(normal(draws, 20, 1, seed=50), normal(draws, 30, 1, seed=51) + shift)
    expected = 3 * shift**2 + 3 * shift**4 + (shift**3 + 3 * shift) ** 2
    error = float(found.std()) / draws**0.5
    assert float(found.mean()) == pytest.approx(expected, abs=3 * error)
    assert error < 0.03 * expected


def test_the_kernel_distance_is_the_same_turned_and_in_any_order_but_not_moved():
    a, b, turn = skewed(30, 6, 52), skewed(20, 6, 53), rotation(6, 54)
    found = float(kernel_distance(a, b))
    assert float(kernel_distance(a @ turn, b @ turn)) == pytest.approx(found)
    assert float(kernel_distance(a.flip(0), b.roll(3, 0))) == pytest.approx(found)
    assert float(kernel_distance(a + 1, b + 1)) != pytest.approx(found, rel=0.01)


# recognisability


def by_trials(samples: np.ndarray, exemplars: np.ndarray, ways: int, trials: int, seed: int) -> np.ndarray:
    """The share of right choices among random other tasks."""
    rng, tasks = np.random.default_rng(seed), len(exemplars)
    right = np.zeros(tasks)
    for own in range(tasks):
        others = [task for task in range(tasks) if task != own]
        for _ in range(trials):
            sample = samples[own, rng.integers(samples.shape[1])]
            shown = [own, *rng.choice(others, ways - 1, replace=False)]
            right[own] += int(np.argmin([((sample - exemplars[task]) ** 2).sum() for task in shown]) == 0)
    return right / trials


@pytest.mark.parametrize(("tasks", "ways"), [(24, 20), (9, 3)])
def test_recognisability_is_what_random_trials_come_to(tasks, ways):
    exemplars = normal(tasks, 3, seed=20)
    samples = exemplars[:, None] + normal(tasks, 4, 3, seed=21)
    found = recognisability(samples, exemplars, ways)
    trials = 400
    simulated = by_trials(samples.numpy(), exemplars.numpy(), ways, trials, seed=22)
    assert found.shape == (tasks,)
    assert 0.2 < found.mean() < 0.98  # neither chance nor certain
    assert np.abs(found.numpy() - simulated).max() < 4 * 0.5 / trials**0.5
    assert float(found.mean()) == pytest.approx(simulated.mean(), abs=4 * 0.5 / (trials * tasks) ** 0.5)


def test_with_all_tasks_to_choose_from_it_is_the_share_nearest_to_their_own():
    exemplars = normal(12, 4, seed=23)
    samples = exemplars[:, None] + normal(12, 5, 4, seed=24)
    distance = np.linalg.norm(samples[:, :, None].numpy() - exemplars.numpy(), axis=-1)
    expected = (distance.argmin(-1) == np.arange(12)[:, None]).mean(1)
    assert recognisability(samples, exemplars, ways=12).tolist() == pytest.approx(expected.tolist())


def test_recognisability_of_copies_is_one_of_the_furthest_zero_and_of_anything_chance():
    exemplars = torch.arange(30.0)[:, None]
    assert recognisability(exemplars[:, None].expand(30, 3, 1), exemplars).tolist() == [1.0] * 30
    worst = torch.where(exemplars < 15, 40.0, -10.0)[:, None]
    assert recognisability(worst, exemplars)[[0, 29]].tolist() == [0.0, 0.0]
    random = recognisability(normal(200, 40, 16, seed=25), 0.01 * normal(200, 16, seed=26), ways=20)
    assert float(random.mean()) == pytest.approx(1 / 20, abs=0.01)


def test_a_tie_between_exemplars_is_no_recognition():
    exemplars = torch.zeros(5, 2)
    assert recognisability(torch.ones(5, 3, 2), exemplars, ways=2).tolist() == [0.0] * 5


@pytest.mark.parametrize("ways", [1, 6])
def test_recognisability_among_too_many_or_one_is_refused(ways):
    with pytest.raises(MetagenError, match=rf"recognisability: choosing among {ways} needs as many tasks, got 5"):
        recognisability(normal(5, 2, 3), normal(5, 3), ways)


# diversity and copies


def test_diversity_is_numpys_unbiased_standard_deviation():
    samples = normal(6, 5, 7, seed=27) * torch.arange(1, 7).view(6, 1, 1)
    expected = samples.numpy().std(1, ddof=1).mean(1)
    assert diversity(samples).tolist() == pytest.approx(expected.tolist())
    assert diversity(samples[:, :1].expand(-1, 4, -1)).tolist() == pytest.approx([0.0] * 6)
    with pytest.raises(MetagenError, match="diversity: expected 2 or more images a task, got 1"):
        diversity(samples[:, :1])


def test_the_distance_to_the_support_is_to_the_nearest_of_it():
    images, support = normal(4, 6, 3, seed=28), normal(4, 5, 3, seed=29)
    expected = [
        np.mean([min(np.linalg.norm(x - s) for s in support[t].numpy()) for x in images[t].numpy()]) for t in range(4)
    ]
    assert nearest_support(images, support).tolist() == pytest.approx(expected)


# columns of a table

TASKS, SHOTS, MADE, DIMENSIONS = 40, 3, 8, 6
COUNTS = ("precision", "recall", "coverage", "near_copies")  # of images: a small difference moves few of them, by leaps


@pytest.fixture(scope="module")
def table():
    """Seen, and four rows: fresh real images, those shifted, nearly the same again, copies; tasks of unlike spreads."""
    centres, spread = normal(TASKS, 1, DIMENSIONS, seed=30), (0.4 * normal(TASKS, 1, 1, seed=31)).exp()

    def real(count: int, seed: int) -> torch.Tensor:
        return (centres + spread * normal(TASKS, count, DIMENSIONS, seed=seed)).float()

    classes = normal(DIMENSIONS, 7, seed=38)
    seen = RealFeatures(real(SHOTS, 32), real(MADE, 33), real(MADE, 34), lambda x: (x.double() @ classes).softmax(-1))
    fresh = real(MADE, 35)
    worse = fresh + (0.3 + 0.02 * normal(TASKS, MADE, DIMENSIONS, seed=36)).float()
    again = worse + (0.05 + 0.05 * normal(TASKS, MADE, DIMENSIONS, seed=37)).float()
    copies = seen.support[:, torch.arange(MADE) % SHOTS]
    return seen, {"fresh": fresh, "worse": worse, "nearly worse": again, "copies": copies}


@pytest.mark.parametrize("name", list(metrics))
def test_every_metric_gives_an_interval_about_its_figure(table, name):
    seen, rows = table
    for row in rows.values():
        found = interval(metrics[name], row, seen)
        assert all(np.isfinite([found.low, found.mean, found.high]))
        assert found.low <= found.mean <= found.high
        assert found.tasks == TASKS
        assert found == interval(metrics[name], row, seen)
    assert metrics[name].best in ("low", "high", "human")


@pytest.mark.parametrize("name", list(metrics))
def test_every_metric_differs_from_itself_by_exactly_zero(table, name):
    seen, rows = table
    found = interval(metrics[name], rows["worse"], seen, rows["worse"].clone())
    assert (found.low, found.mean, found.high) == (0, 0, 0)


@pytest.mark.parametrize("name", list(metrics))
def test_a_difference_is_that_of_the_figures_and_paired(table, name):
    seen, rows = table
    first, second = (interval(metrics[name], rows[row], seen) for row in ("nearly worse", "worse"))
    difference = interval(metrics[name], rows["nearly worse"], seen, rows["worse"])
    assert difference.mean == pytest.approx(first.mean - second.mean)
    width = min(first.high - first.low, second.high - second.low)
    assert 0 < difference.high - difference.low < (1 if name in COUNTS else 0.5) * width
    turned = interval(metrics[name], rows["worse"], seen, rows["nearly worse"])
    assert (turned.low, turned.mean, turned.high) == pytest.approx(
        (-difference.high, -difference.mean, -difference.low)
    )


@pytest.mark.parametrize("name", ["fd", "kid"])
def test_a_pooled_distance_is_of_all_tasks_together(table, name):
    seen, rows = table
    distance = {"fd": frechet_distance, "kid": kernel_distance}[name]
    pooled, reference = (x.reshape(-1, DIMENSIONS) for x in (rows["worse"], seen.reference))
    assert interval(metrics[name], rows["worse"], seen).mean == pytest.approx(float(distance(pooled, reference)))


@pytest.mark.parametrize("name", ["fd", "kid", "is", "precision", "recall", "density", "coverage"])
def test_a_pooled_figure_does_not_know_how_images_are_dealt_to_tasks(table, name):
    seen, rows = table
    halves = RealFeatures(
        *(x.unflatten(1, (2, -1)).flatten(0, 1) for x in (seen.human, *seen[1:3])), seen.probabilities
    )
    row = rows["worse"]
    apart = interval(metrics[name], row.unflatten(1, (2, -1)).flatten(0, 1), halves)
    assert apart.mean == pytest.approx(interval(metrics[name], row, seen).mean)


def test_the_task_frechet_distance_is_the_mean_of_distances_within_tasks(table):
    seen, rows = table
    each = [float(frechet_distance(*pair)) for pair in zip(rows["worse"], seen.reference, strict=True)]
    assert interval(metrics["fd_task"], rows["worse"], seen).mean == pytest.approx(np.mean(each))


def test_recognisability_is_in_per_cent_by_the_mean_of_the_support(table):
    seen, rows = table
    expected = 100 * recognisability(rows["fresh"], seen.support.mean(1), 20).mean()
    assert interval(metrics["recognisability"], rows["fresh"], seen).mean == pytest.approx(float(expected))
    few = RealFeatures(*(x[:5] for x in seen[:3]))
    expected = 100 * recognisability(rows["fresh"][:5], few.support.mean(1), 5).mean()
    assert interval(metrics["recognisability"], rows["fresh"][:5], few).mean == pytest.approx(float(expected))


def test_relative_diversity_is_100_per_cent_of_real_images_and_scales_with_the_spread(table):
    seen, rows = table
    metric = metrics["diversity_relative"]
    human = interval(metric, seen.human, seen)
    assert (human.low, human.mean, human.high) == pytest.approx((100, 100, 100))
    half = seen.human.mean(1, keepdim=True) * 0.5 + seen.human * 0.5
    assert interval(metric, half, seen).mean == pytest.approx(50, rel=1e-5)
    assert interval(metric, rows["fresh"], seen).mean == pytest.approx(100, abs=10)
    plain = metrics["diversity"]
    ratio = interval(plain, rows["fresh"], seen).mean / interval(plain, seen.human, seen).mean
    assert interval(metric, rows["fresh"], seen).mean == pytest.approx(100 * ratio)


def test_the_copy_ratio_is_0_for_copies_and_about_1_for_fresh_images(table):
    seen, rows = table
    copies = interval(metrics["copy_ratio"], rows["copies"], seen)
    assert (copies.low, copies.mean, copies.high) == pytest.approx((0, 0, 0), abs=1e-6)
    fresh = interval(metrics["copy_ratio"], rows["fresh"], seen)
    assert fresh.low <= 1 <= fresh.high
    assert fresh.mean == pytest.approx(1, abs=0.1)
    human = interval(metrics["copy_ratio"], seen.human, seen)
    assert (human.low, human.mean, human.high) == pytest.approx((1, 1, 1))


def test_the_distances_tell_what_is_worse(table):
    seen, rows = table
    for name in ("fd", "fd_task", "fd_infinity", "kid"):
        assert interval(metrics[name], rows["worse"], seen, rows["fresh"]).low > 0


def test_frechet_of_many_dimensions_is_that_of_few_to_the_root_of_machine_precision(monkeypatch):
    a, b = skewed(60, 20, 40), skewed(70, 20, 41)
    singular = torch.cat([a[:, :10], a[:, :10]], 1)
    expected = [float(frechet_distance(x, y)) for x, y in ((a, b), (singular, b), (a[:9], b[:8]))]
    monkeypatch.setattr(frechet, "LARGE", 1)
    found = [float(frechet_distance(x, y)) for x, y in ((a, b), (singular, b), (a[:9], b[:8]))]
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_bare_name_is_through_every_extractor():
    every = select_figures(["kid", "is"], metrics, ["mine", "inception"])
    assert list(every) == ["kid[mine]", "kid", "is[mine]", "is"]
    assert list(select_figures(["kid[mine]"], metrics, ["mine", "inception"])) == ["kid[mine]"]
