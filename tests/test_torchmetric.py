"""The metrics of training loops: what the functions say of all images, however these came in batches."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torchmetrics import MetricCollection

from metagen.errors import MetagenError
from metagen.metrics import (
    Extractor,
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    metrics,
    precision_recall,
)
from metagen.metrics.base import RealFeatures
from metagen.metrics.extractors import Embedding
from metagen.metrics.torchmetric import (
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
    Scored,
)

METRICS = (FrechetDistance, KernelDistance, InceptionScore, PrecisionRecall, DensityCoverage)


class Half(Extractor):
    """Images at half their size as features; knows no classes."""

    size, channels, dimensions = 8, 1, 16

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 2).flatten(1)


@pytest.fixture(scope="module")
def look():
    torch.manual_seed(0)
    extractor = Embedding(8, 1, (8, 8, 8), 4, 5).requires_grad_(False)
    extractor.head.weight.mul_(20)  # so that it is sure of some classes
    return extractor


@pytest.fixture(scope="module")
def sides():
    rng = torch.Generator().manual_seed(1)
    return torch.rand(12, 1, 8, 8, generator=rng), torch.rand(9, 1, 8, 8, generator=rng) ** 2


def fed(metric, real, generated, batches=1):
    """The metric, given both sides in so many batches."""
    for images, side in ((real, True), (generated, False)):
        for part in images.tensor_split(batches):
            metric.update(part, real=side)
    return metric


@pytest.mark.parametrize("metric", METRICS)
def test_the_figure_is_that_of_all_images_in_any_batches(look, sides, metric):
    real, generated = (look.of(side) for side in sides)
    expected = {
        FrechetDistance: frechet_distance(generated, real),
        KernelDistance: kernel_distance(generated, real),
        InceptionScore: inception_score(look.probabilities(generated)),
        PrecisionRecall: torch.stack(precision_recall(generated, real)),
        DensityCoverage: torch.stack(density_coverage(generated, real)),
    }[metric]
    assert expected.abs().max() > 1e-3
    for batches in (1, 4, 20):  # the last with empty ones
        found = fed(metric(look), *sides, batches).compute()
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)  # float32 features depend on the batch


@pytest.mark.parametrize("metric", METRICS)
def test_merging_is_having_seen_all(look, sides, metric):
    real, generated = sides
    whole = fed(metric(look), real, generated, 3)
    one, two, none = metric(look), metric(look), metric(look)
    fed(one, real[:4], generated[:3])
    fed(two, real[4:], generated[3:], 2)
    one.merge_state(two)
    one.merge_state(none)
    torch.testing.assert_close(one.compute(), whole.compute(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(two.compute(), whole.compute())


@pytest.mark.parametrize("metric", METRICS)
def test_bf16_autocast_changes_nothing(look, sides, metric):
    expected = fed(metric(look), *sides).compute()
    with torch.autocast("cpu", torch.bfloat16):
        found = fed(metric(look), *sides).compute()
    assert torch.equal(found, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_is_drawn_and_a_reset_forgets(look, sides, metric):
    it = fed(metric(look), *sides)
    state = torch.get_rng_state()
    first = it.compute()
    assert torch.equal(torch.get_rng_state(), state)
    it.reset()
    fed(it, sides[0], 1 - sides[1])
    assert not torch.equal(it.compute(), first)
    it.reset()
    assert torch.equal(fed(it, *sides).compute(), first)


def test_one_goes_on_after_a_figure(look, sides):
    real, generated = sides
    metric = fed(FrechetDistance(look), real[:6], generated[:5])
    metric.compute()
    fed(metric, real[6:], generated[5:])
    assert torch.equal(metric.compute(), fed(FrechetDistance(look), *sides, 2).compute())


@pytest.mark.parametrize("metric", METRICS)
def test_a_collection_a_copy_and_another_process_may_hold_it(look, sides, metric):
    expected = fed(metric(look), *sides).compute()
    assert torch.equal(copy.deepcopy(fed(metric(look), *sides)).compute(), expected)
    assert torch.equal(fed(pickle.loads(pickle.dumps(metric(look))), *sides).compute(), expected)  # noqa: S301
    together = fed(MetricCollection({"it": metric(look), "fd": FrechetDistance(look)}), *sides).compute()
    assert torch.equal(together["it"], expected)


def test_the_extractor_is_no_part_of_what_is_trained(look, sides):
    metric = FrechetDistance(look)
    expected = fed(metric, *sides).compute()
    assert not list(metric.parameters())
    assert not metric.state_dict()
    torch.nn.Sequential(metric).to(torch.bfloat16)  # as Lightning does with precision "bf16-true"
    assert next(look.parameters()).dtype == torch.float32
    metric.reset()
    assert torch.equal(fed(metric, *sides).compute(), expected)


@pytest.mark.parametrize("metric", [FrechetDistance, KernelDistance])
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_too_few_images_are_one_line(look, sides, metric):
    for real, generated in ((0, 0), (12, 0), (0, 9), (12, 1)):
        with pytest.raises(MetagenError, match=f"expected 2 or more images a side, got {generated} and {real}"):
            fed(metric(look), sides[0][:real], sides[1][:generated]).compute()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_an_inception_score_is_of_generated_images_alone(look, sides):
    real, generated = sides
    expected = fed(InceptionScore(look), real, generated).compute()
    alone = InceptionScore(look)
    alone.update(generated)
    assert torch.equal(alone.compute(), expected)
    with pytest.raises(MetagenError, match="expected 1 or more images, got 0"):
        fed(InceptionScore(look), real, generated[:0]).compute()
    with pytest.raises(MetagenError, match="needs an extractor with classes"):
        InceptionScore(Half())


def test_images_of_another_size_are_refused(look):
    with pytest.raises(MetagenError, match="takes images of 1 channels and 8 px"):
        FrechetDistance(look).update(torch.rand(2, 1, 9, 9), real=True)
    with pytest.raises(MetagenError, match=r"expected floats in \[0, 1\], got torch.uint8"):
        FrechetDistance(look).update(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), real=True)


# any column, of tasks


def tasks(count):
    """Images of tasks: samples, support, reference and human half."""
    rng = torch.Generator().manual_seed(2)
    places = torch.rand(count, 1, 1, 8, 8, generator=rng)
    return [(places + 0.3 * torch.rand(count, n, 1, 8, 8, generator=rng)).clamp(0, 1) for n in (4, 2, 5, 4)]


@pytest.mark.parametrize("name", metrics)
def test_every_column_is_a_metric(look, name):
    sides, it = tasks(25), Scored(name, look)
    for part in zip(*(side.tensor_split([3, 20]) for side in sides), strict=True):
        it.update(*part)
    samples, *real = (look.of(side) for side in sides)
    seen, column = RealFeatures(*real, look.probabilities), metrics[name]
    expected = column.interval(column.values(samples, seen), 25, column.scale(seen)).mean
    assert float(it.compute()) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@pytest.mark.filterwarnings("ignore:The .* of metric")
def test_a_column_that_does_not_fit_is_one_line():
    it = Scored("is", Half())
    it.update(*tasks(4))
    with pytest.raises(MetagenError, match="does not fit"):
        it.compute()
    with pytest.raises(MetagenError, match="unknown metric 'fdd': did you mean fd"):
        Scored("fdd", Half())
    with pytest.raises(MetagenError, match="expected some tasks, got none"):
        Scored("fd", Half()).compute()
