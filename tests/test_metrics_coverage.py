"""Precision, recall, density and coverage, and the Inception Score: by loops, closed forms and torch-fidelity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagen.errors import MetagenError
from metagen.metrics import RealFeatures, coverage, density_coverage, inception_score, metrics, precision_recall
from tests.test_metrics import interval, normal, rotation


def by_loops(samples: np.ndarray, reference: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def distance(x, y):
        return float(np.sqrt(((x - y) ** 2).sum()))

    def radii(points):
        return [sorted(distance(x, y) for y in points)[k] for x in points]

    def inside(points, centres):
        reach = radii(centres)
        return [[distance(x, c) <= r for c, r in zip(centres, reach, strict=True)] for x in points]

    real, made = inside(samples, reference), inside(reference, samples)
    precision = np.mean([any(row) for row in real])
    recall = np.mean([any(row) for row in made])
    density = sum(map(sum, real)) / (k * len(samples))
    covered = np.mean([any(row[j] for row in real) for j in range(len(reference))])
    return float(precision), float(recall), float(density), float(covered)


def all_four(samples: torch.Tensor, reference: torch.Tensor, k: int = 4) -> list[float]:
    return [float(x) for x in (*precision_recall(samples, reference, k), *density_coverage(samples, reference, k))]


@pytest.mark.parametrize(("n", "m", "d", "k"), [(40, 60, 3, 5), (70, 30, 6, 3), (9, 8, 2, 1)])
def test_all_four_are_a_loop_over_pairs(n, m, d, k):
    samples, reference = 1.3 * normal(n, d, seed=1) + 0.7, normal(m, d, seed=2)
    found = all_four(samples, reference, k)
    assert found == pytest.approx(by_loops(samples.numpy(), reference.numpy(), k))
    assert sum(x != 1 for x in found) > 2  # there is something to get wrong


def test_precision_and_recall_are_those_of_torch_fidelity():
    library = pytest.importorskip("torch_fidelity.metric_prc")
    samples, reference = 0.8 * normal(90, 5, seed=3) + 0.5, normal(120, 5, seed=4)
    theirs = library.prc_features_to_metric(
        samples, reference, prc_neighborhood=3, prc_batch_size=50, save_cpu_ram=False, verbose=False
    )
    found = [float(x) for x in precision_recall(samples, reference)]
    assert found == pytest.approx([theirs["precision"], theirs["recall"]], rel=1e-6)


def test_density_and_coverage_of_sets_that_are_alike_are_the_closed_forms():
    """Density is 1 on average; a neighbourhood is empty if the k nearest of all others are real (Naeem 2020)."""
    n, m, k, draws = 30, 20, 3, 300
    found = torch.tensor(
        [
            [float(x) for x in density_coverage(normal(n, 3, seed=s), normal(m, 3, seed=s + 999), k)]
            for s in range(draws)
        ]
    )
    empty = np.prod([(m - 1 - i) / (m + n - 1 - i) for i in range(k)])
    error = 4 * found.std(0) / draws**0.5
    assert (found.mean(0) - torch.tensor([1, 1 - empty])).abs().tolist() < error.tolist()
    assert error.max() < 0.05


def test_a_set_beside_itself_is_complete_and_beside_one_far_away_nothing():
    points = 2.0 ** torch.arange(12.0)[:, None]  # whole distances, no two alike from one point
    k = 3
    assert all_four(points, points, k) == [1, 1, (k + 1) / k, 1]
    assert all_four(points, points + 1e6, k) == [0, 0, 0, 0]


def test_half_of_the_places_is_half_of_recall_and_coverage_and_half_of_the_samples_half_of_precision():
    near, far = normal(40, 3, seed=5), normal(40, 3, seed=6) + 1000
    precision, recall, _, covered = all_four(near[:30], torch.cat([near, far]))
    assert precision == 1
    assert recall <= 0.5
    assert covered <= 0.5
    assert all_four(torch.cat([near, far]), near)[0] == 0.5


def test_one_image_over_and_over_is_precise_and_dense_but_reaches_nothing():
    reference = normal(100, 3, seed=7)
    middle = reference[reference.norm(dim=1).argmin()]
    precision, recall, density, covered = all_four(middle.expand(100, 3), reference, k=5)
    assert precision == 1
    assert recall == 0.01  # that image itself
    assert density > 1
    assert covered < 0.4


def test_all_four_are_the_same_moved_turned_scaled_in_any_order_and_a_few_at_a_time(monkeypatch):
    samples, reference, turn = normal(50, 4, seed=8) + 0.5, normal(60, 4, seed=9), rotation(4, 10)
    found = all_four(samples, reference)
    assert all_four(samples + 5, reference + 5) == pytest.approx(found)
    assert all_four(samples @ turn, reference @ turn) == pytest.approx(found)
    assert all_four(7 * samples, 7 * reference) == pytest.approx(found)
    assert all_four(samples.flip(0), reference.roll(11, 0)) == pytest.approx(found)
    monkeypatch.setattr(coverage, "AT_ONCE", 7)
    assert all_four(samples, reference) == pytest.approx(found)


@pytest.mark.parametrize("measure", [precision_recall, density_coverage])
def test_neighbourhoods_of_too_few_images_are_refused(measure):
    for n, m in ((9, 5), (0, 9)):
        with pytest.raises(MetagenError, match=f"coverage: expected 1 or more .* of more than 5, got {n} and {m}"):
            measure(normal(n, 2), normal(m, 2), 5)


@pytest.fixture(scope="module")
def pooled():
    centres = normal(12, 1, 3, seed=11)
    real = [centres + normal(12, 8, 3, seed=s) for s in (12, 13, 14)]
    return RealFeatures(*real), centres + 1.2 * normal(12, 8, 3, seed=15) + 0.4


def test_the_columns_are_of_all_tasks_together_in_per_cent_with_the_published_neighbourhoods(pooled):
    seen, row = pooled
    samples, reference = row.flatten(0, 1), seen.reference.flatten(0, 1)
    precision, recall = (100 * float(x) for x in precision_recall(samples, reference, 3))
    density, covered = (float(x) for x in density_coverage(samples, reference, 5))
    expected = {"precision": precision, "recall": recall, "density": density, "coverage": 100 * covered}
    for name, figure in expected.items():
        assert interval(metrics[name], row, seen).mean == pytest.approx(figure)


def test_the_values_of_the_columns_are_of_each_task():
    """Tasks far apart, so that each has its neighbourhoods for itself; the samples of the second one are elsewhere."""
    reference = normal(3, 9, 2, seed=20) + 1000 * torch.arange(3).view(3, 1, 1)
    samples = reference + 0.01
    samples[1] += 300
    seen = RealFeatures(reference, reference, reference)
    found = {name: metrics[name].values(samples, seen) for name in ("precision", "recall", "density", "coverage")}
    for name in ("precision", "recall", "coverage"):
        assert found[name].tolist() == [100, 0, 100]
    for task in (0, 2):
        alone = density_coverage(samples[task], reference[task])[0]
        assert float(found["density"][task]) == pytest.approx(float(alone))
    assert found["density"][1] == 0


# the Inception Score


@pytest.mark.parametrize("classes", [2, 10])
def test_the_score_of_classes_that_are_certain_and_equally_many_is_their_number(classes):
    assert float(inception_score(torch.eye(classes).repeat(3, 1))) == pytest.approx(classes, rel=1e-12)


def test_the_score_of_images_that_are_all_alike_is_one():
    assert float(inception_score(normal(1, 9, seed=16).softmax(-1).expand(20, 9))) == pytest.approx(1, rel=1e-12)
    assert float(inception_score(torch.eye(4)[:1].expand(5, 4))) == 1


def test_the_score_is_the_mean_divergence_from_the_mean_by_a_loop():
    p = (2 * normal(30, 6, seed=17)).softmax(-1).numpy()
    mean = p.mean(0)
    divergence = [sum(a * np.log(a / b) for a, b in zip(row, mean, strict=True)) for row in p]
    assert float(inception_score(torch.from_numpy(p))) == pytest.approx(np.exp(np.mean(divergence)), rel=1e-12)


def test_the_score_is_that_of_torch_fidelity_in_one_split():
    library = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * normal(50, 8, seed=18)
    theirs = library.isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert float(inception_score(logits.softmax(-1))) == pytest.approx(theirs, rel=1e-9)


def test_the_score_knows_no_order_and_no_number_of_images_and_is_taken_in_double_precision():
    p = (2 * normal(30, 6, seed=19)).softmax(-1)
    found = float(inception_score(p))
    assert float(inception_score(p.flip(0).roll(2, 1))) == pytest.approx(found)
    assert float(inception_score(p.repeat(4, 1))) == pytest.approx(found)
    assert torch.equal(inception_score(p.float()), inception_score(p.float().double()))
    with pytest.raises(MetagenError, match="inception_score: expected 1 or more images, got 0"):
        inception_score(p[:0])


def test_the_column_of_the_score_is_there_only_where_classes_are_known(pooled):
    seen, row = pooled
    assert not metrics["is"].fits(seen)
    with pytest.raises(MetagenError, match="is: needs an extractor that knows classes"):
        metrics["is"].values(row, seen)
    head = torch.nn.Linear(3, 5).double()
    knows = seen._replace(probabilities=lambda x: head(x).softmax(-1))
    assert metrics["is"].fits(knows)
    expected = float(inception_score(head(row.flatten(0, 1)).softmax(-1).detach()))
    assert interval(metrics["is"], row, knows).mean == pytest.approx(expected)
