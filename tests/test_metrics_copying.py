"""Copies, originality, distances within a task and within clusters; and which columns expose which cheat."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.image.mifid import _mifid_compute

from metagen.errors import MetagenError
from metagen.metrics import (
    RealFeatures,
    cluster_distance,
    frechet_distance,
    metrics,
    mifid,
    near_copies,
    originality,
    pairwise_distance,
)
from tests.test_metrics import interval, normal, skewed

TASKS, SHOTS, MADE, DIMENSIONS = 60, 3, 10, 8


@pytest.fixture(scope="module")
def real():
    """What is real, and fresh images of it; tasks of unlike places and spreads."""
    centres, spread = 3 * normal(TASKS, 1, DIMENSIONS, seed=1), (0.5 * normal(TASKS, 1, 1, seed=2)).exp()

    def draw(count: int, seed: int) -> torch.Tensor:
        return centres + spread * normal(TASKS, count, DIMENSIONS, seed=seed)

    return RealFeatures(draw(SHOTS, 3), draw(MADE, 4), draw(MADE, 5)), draw(MADE, 6)


# near copies


def test_one_real_image_in_twenty_is_a_near_copy_and_of_fresh_ones_about_as_many(real):
    seen, fresh = real
    assert float(near_copies(seen.human, *seen[:3]).mean()) == pytest.approx(0.05, abs=1 / (TASKS * MADE))
    draws = torch.stack([near_copies(fresh.roll(s, 1), *seen[:3]) for s in range(3)])
    assert float(draws.mean()) == pytest.approx(0.05, abs=4 * (0.05 / (TASKS * MADE)) ** 0.5)


def test_near_copies_are_counted_by_a_loop_over_images(real):
    seen, fresh = real
    support, reference, human = (x.numpy() for x in seen[:3])

    def nearest(image, task):
        return min(np.linalg.norm(image - shown) for shown in support[task])

    unit = [np.mean([nearest(image, t) for image in reference[t]]) for t in range(TASKS)]
    limit = np.quantile([nearest(image, t) / unit[t] for t in range(TASKS) for image in human[t]], 0.05)
    row = 0.5 * fresh.numpy() + 0.5 * support[:, :1]
    expected = [np.mean([nearest(image, t) / unit[t] <= limit for image in row[t]]) for t in range(TASKS)]
    assert 0.1 < np.mean(expected) < 0.9
    assert near_copies(torch.from_numpy(row), *seen[:3]).tolist() == pytest.approx(expected)


def test_copies_are_near_copies_and_half_of_them_half_also_where_they_are_slightly_moved(real):
    seen, fresh = real
    copies = seen.support[:, torch.arange(MADE) % SHOTS]
    assert near_copies(copies, *seen[:3]).tolist() == [1.0] * TASKS
    moved = copies + 0.01 * normal(*copies.shape, seed=7)
    assert near_copies(moved, *seen[:3]).tolist() == [1.0] * TASKS
    few = near_copies(fresh[:, : MADE // 2], *seen[:3])
    half = near_copies(torch.cat([copies[:, : MADE // 2], fresh[:, : MADE // 2]], 1), *seen[:3])
    assert half.tolist() == pytest.approx((0.5 + few / 2).tolist())


def test_near_copies_do_not_depend_on_the_scale_of_a_task_and_work_with_two_real_images_a_task(real):
    seen, fresh = real
    scale = torch.linspace(0.1, 10, TASKS).double().view(-1, 1, 1)
    assert torch.equal(near_copies(fresh * scale, *(x * scale for x in seen[:3])), near_copies(fresh, *seen[:3]))
    few = [seen.support, seen.reference[:, :2], seen.human[:, :2]]
    assert float(near_copies(fresh, *few).mean()) < 0.15
    assert float(near_copies(seen.support, *few).mean()) == 1


def test_where_real_images_repeat_the_support_copies_are_still_counted(real):
    seen, fresh = real
    human = torch.cat([seen.support[:, :1], seen.human[:, 1:]], 1)  # more than one in twenty
    assert near_copies(seen.support, seen.support, seen.reference, human).tolist() == [1.0] * TASKS
    assert near_copies(fresh, seen.support, seen.reference, human).tolist() == [0.0] * TASKS
    same = seen.support[:, [0, 0]]  # nothing differs, so everything is a copy
    assert near_copies(same, seen.support, same, same).tolist() == [1.0] * TASKS


def test_a_blurred_mean_is_taken_for_a_near_copy_as_the_docstring_warns(real):
    seen, fresh = real
    mean = fresh.mean(1, keepdim=True).expand_as(fresh)
    assert interval(metrics["near_copies"], mean, seen).low > 10
    assert interval(metrics["copy_ratio"], mean, seen).high < 0.95


# the memorisation-informed distance


@pytest.mark.parametrize("noise", [0.05, 3.0])
def test_mifid_is_that_of_torchmetrics_on_either_side_of_the_threshold(noise):
    reference = skewed(80, 6, 8)
    samples = reference[:60] + noise * normal(60, 6, seed=9)
    theirs = _mifid_compute(samples.mean(0), samples.T.cov(), samples, reference.mean(0), reference.T.cov(), reference)
    found = mifid(samples[None], reference[None], reference[None])
    assert float(found) == pytest.approx(float(theirs), rel=1e-8)
    raw = float(frechet_distance(samples, reference))
    assert (float(found) > 10 * raw) == (noise < 1)
    assert noise < 1 or float(found) == pytest.approx(raw)


def test_mifid_goes_by_the_support_of_each_images_own_task(real):
    seen, _ = real
    copies = seen.support[:, torch.arange(MADE) % SHOTS]
    raw = float(frechet_distance(copies.flatten(0, 1), seen.reference.flatten(0, 1)))
    assert float(mifid(copies, seen.reference, seen.support)) > 1e6 * raw
    other = copies.roll(1, 0)  # copies of what another task was shown
    assert float(mifid(other, seen.reference, seen.support)) == pytest.approx(raw)
    assert float(mifid(other, seen.reference, seen.support, threshold=1.0)) > raw


def test_columns_on_request_are_their_functions(real):
    seen, fresh = real
    on_request = {name for name, column in metrics.items() if column.on_request}
    assert on_request == {"fd_infinity", "mifid", "lpips", "lpips_cluster"}
    expected = float(mifid(fresh, seen.reference, seen.support))
    assert interval(metrics["mifid"], fresh, seen).mean == pytest.approx(expected)


# originality


def test_originality_is_the_mean_distance_from_the_mean_of_the_support(real):
    seen, fresh = real
    expected = [
        np.mean([np.linalg.norm(image - seen.support[t].numpy().mean(0)) for image in fresh[t].numpy()])
        for t in range(TASKS)
    ]
    assert originality(fresh, seen.support.mean(1)).tolist() == pytest.approx(expected)
    assert interval(metrics["originality"], fresh, seen).mean == pytest.approx(np.mean(expected))


def test_relative_originality_is_100_per_cent_of_real_images_and_0_of_the_exemplar(real):
    seen, fresh = real
    human = interval(metrics["originality_relative"], seen.human, seen)
    assert (human.low, human.mean, human.high) == pytest.approx((100, 100, 100))
    exemplar = seen.support.mean(1, keepdim=True)
    assert interval(metrics["originality_relative"], exemplar.expand_as(fresh), seen).mean == pytest.approx(0)
    half = 0.5 * exemplar + 0.5 * seen.human
    assert interval(metrics["originality_relative"], half, seen).mean == pytest.approx(50)


# distances within a task


def test_the_pairwise_distance_is_a_loop_over_pairs():
    samples = normal(4, 5, 3, seed=10)
    expected = [
        np.mean([np.linalg.norm(a - b) for a, b in itertools.combinations(each.numpy(), 2)]) for each in samples
    ]
    assert pairwise_distance(samples).tolist() == pytest.approx(expected)
    assert pairwise_distance(3 * samples + 1).tolist() == pytest.approx([3 * x for x in expected])
    with pytest.raises(MetagenError, match="pairwise_distance: expected 2 or more images a task, got 1"):
        pairwise_distance(samples[:, :1])


def test_the_pairwise_distance_of_normals_is_the_closed_form():
    """The distance between two draws of N(0, 1) on the line is 2 / sqrt(pi) on average."""
    found = pairwise_distance(normal(2000, 10, 1, seed=11))
    assert float(found.mean()) == pytest.approx(2 / np.pi**0.5, abs=4 * float(found.std()) / 2000**0.5)


def by_clusters(samples: np.ndarray, support: np.ndarray, power: int = 1) -> float:
    clusters: dict[int, list] = {}
    for image in samples:
        clusters.setdefault(int(np.argmin([np.linalg.norm(image - s) for s in support])), []).append(image)
    means = [
        np.mean([np.linalg.norm(a - b) ** power for a, b in itertools.combinations(cluster, 2)])
        for cluster in clusters.values()
        if len(cluster) > 1
    ]
    return float(np.mean(means)) if means else 0.0


@pytest.mark.parametrize(("n", "k"), [(12, 3), (4, 6), (5, 1)])
def test_the_cluster_distance_is_a_loop_over_clusters(n, k):
    samples, support = normal(30, n, 4, seed=12), normal(30, k, 4, seed=13)
    expected = [by_clusters(a.numpy(), b.numpy()) for a, b in zip(samples, support, strict=True)]
    assert cluster_distance(samples, support).tolist() == pytest.approx(expected)
    if k == 1:
        assert cluster_distance(samples, support).tolist() == pytest.approx(pairwise_distance(samples).tolist())


@pytest.mark.parametrize(("n", "k"), [(12, 3), (4, 6)])
def test_the_columns_of_lpips_are_loops_over_squared_distances(n, k):
    samples, support = normal(30, n, 4, seed=12), normal(30, k, 4, seed=13)
    expected = {
        "lpips": [by_clusters(a.numpy(), a.numpy().mean(0)[None], 2) for a in samples],  # one cluster
        "lpips_cluster": [by_clusters(a.numpy(), b.numpy(), 2) for a, b in zip(samples, support, strict=True)],
    }
    for name, values in expected.items():
        assert metrics[name].values(samples, RealFeatures(support, samples, samples)).tolist() == pytest.approx(values)


def test_a_task_whose_clusters_are_all_of_one_image_counts_0():
    support = 10 * torch.eye(3)[None]
    assert cluster_distance(support + 0.5, support).tolist() == [0.0]
    assert cluster_distance(torch.cat([support, support + 1], 1), support).tolist() == pytest.approx([3**0.5])


# cheats, and the columns that expose them


@pytest.fixture(scope="module")
def cheats(real):
    seen, fresh = real
    return {
        "returns its support": seen.support[:, torch.arange(MADE) % SHOTS],
        "returns one image": fresh[:, :1].expand_as(fresh),
        "ignores its task": fresh.roll(1, 0),
    }


def compare(name: str, row: torch.Tensor, seen: RealFeatures) -> tuple[float, float, float]:
    """The figure of a row, and the interval of its difference from real images."""
    difference = interval(metrics[name], row, seen, seen.human)
    return interval(metrics[name], row, seen).mean, difference.low, difference.high


def test_a_model_that_returns_its_support_is_exposed_by_the_copies(real, cheats):
    seen, row = real[0], cheats["returns its support"]
    assert compare("copy_ratio", row, seen)[::2] == pytest.approx((0, -1))
    assert compare("near_copies", row, seen)[0] == 100
    assert compare("near_copies", row, seen)[1] > 90
    assert compare("pairwise_cluster", row, seen)[0] == 0
    assert compare("recognisability", row, seen)[1] >= 0  # which it passes, better than real images
    assert compare("pairwise", row, seen)[0] > 0.7 * interval(metrics["pairwise"], seen.human, seen).mean


def test_a_model_that_returns_one_image_a_task_is_exposed_by_its_diversity(real, cheats):
    seen, row = real[0], cheats["returns one image"]
    for name in ("diversity", "diversity_relative", "pairwise", "pairwise_cluster"):
        figure, _, high = compare(name, row, seen)
        assert figure == pytest.approx(0, abs=1e-9)
        assert high < 0
    assert compare("copy_ratio", row, seen)[1] > -0.2  # it is no copy, and is recognised
    assert compare("recognisability", row, seen)[2] > 0


def test_a_model_that_ignores_its_task_is_exposed_by_recognisability_alone(real, cheats):
    seen, row = real[0], cheats["ignores its task"]
    figure, _, high = compare("recognisability", row, seen)
    assert figure < 10
    assert high < -80
    for name in ("fd", "kid", "precision", "coverage"):  # all tasks together are as they should be
        _, low, high = compare(name, row, seen)
        assert low < 0 < high
    assert compare("originality_relative", row, seen)[1] > 100  # far from the support is not original in a good sense


def test_fresh_images_are_exposed_by_nothing(real):
    seen, fresh = real
    for name in ("near_copies", "copy_ratio", "pairwise", "originality", "recognisability", "precision", "density"):
        _, low, high = compare(name, fresh, seen)
        assert abs(low + high) / 2 < high - low  # some four standard errors, for there are seven of them
