"""Images that are not in [0, 1]: every metric refuses them, and counts none of them."""

from __future__ import annotations

import pytest
import torch

from metagen.errors import MetagenError
from metagen.metrics import metrics
from metagen.metrics.extractors import Embedding, Extractor
from metagen.metrics.torchmetric import (
    DensityCoverage,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    PrecisionRecall,
    Scored,
)

GOOD = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
BAD = {
    "0 to 255": GOOD * 255,
    "-1 to 1": GOOD * 2 - 1,
    "0 to 100": GOOD * 100,
    "bytes": (GOOD * 255).byte(),
    "integers of 0 and 1": GOOD.long(),
    "booleans": GOOD.bool(),
    "NaN": torch.where(GOOD > 0, torch.nan, GOOD),
    "infinite": torch.where(GOOD > 0, torch.inf, GOOD),
    "normalised": (GOOD - 0.45) / 0.22,
    "one pixel of one image": GOOD.clone().index_put_(tuple(torch.tensor([[3], [0], [4], [4]])), torch.tensor(-0.5)),
    "half precision, 0 to 255": (GOOD * 255).half(),
}
POOLED = (FrechetDistance, KernelDistance, PrecisionRecall, DensityCoverage, InceptionScore)


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    torch.manual_seed(0)
    return Embedding(8, 1, (8, 8, 8), 8, 2).eval()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("real", [True, False])
def test_pooled_metrics_refuse_them_and_go_on(extractor, bad, real):
    for kind in POOLED:
        found, wanted = kind(extractor), kind(extractor)
        for metric in (found, wanted):
            metric.update(GOOD, real=True)
            metric.update(GOOD.flip(0), real=False)
        if kind is not InceptionScore or not real:
            with pytest.raises(MetagenError) as refused:
                found.update(bad, real=real)
            assert "\n" not in str(refused.value)
            assert "[0, 1]" in str(refused.value)
        assert torch.equal(found.compute(), wanted.compute())


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("side", range(4))
def test_columns_by_task_refuse_them(extractor, bad, side):
    sides = [GOOD[None].expand(3, *GOOD.shape)] * 4
    for name in metrics:
        metric = Scored(name, extractor)
        with pytest.raises(MetagenError, match=r"\[0, 1\]"):
            metric.update(*sides[:side], bad[None].expand(3, *bad.shape), *sides[side + 1 :])
        assert not metric.samples
        assert not metric.human


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_extractors_refuse_them(extractor, bad):
    for look in (extractor.of, lambda images: extractor.of_tasks(images[None], GOOD[None], 6)):
        with pytest.raises(MetagenError, match=r"\[0, 1\]"):
            look(bad)


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (6, 3, 8, 8), (6, 1, 8, 9), (6, 8, 8, 1)])
def test_extractors_refuse_other_shapes_in_one_line(extractor, shape):
    with pytest.raises(MetagenError, match=r"^extractor: takes images"):
        extractor.of(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_what_is_in_range_but_for_rounding_is_taken(extractor, dtype):
    assert torch.equal(extractor.of(GOOD.to(dtype)), extractor.of(GOOD))
    assert torch.equal(extractor.of(GOOD + 1e-6), extractor.of(GOOD))
