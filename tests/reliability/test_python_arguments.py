"""What a user may pass in Python by mistake: refused in one line, never taken for something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import metagen
from metagen.errors import MetagenError
from metagen.model import AdaptedModel, Model
from tests.doubles import tiny_learner

GOOD = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()
NO_TENSORS: dict[str, Any] = {
    "array": GOOD.numpy(),
    "nothing": None,
    "list of tensors": [*GOOD],
    "empty list": [],
    "number": 3,
    "bytes": b"abc",
    "text": "folder",
    "set": {1},
}
BAD_TENSORS = {
    "bytes": (GOOD * 255).byte(),
    "double": GOOD.double(),
    "half": GOOD.half(),
    "NaN": GOOD * torch.nan,
    "none": GOOD[:0],
    "one image": GOOD[0],
    "sparse": GOOD.to_sparse(),
    "without values": GOOD.to("meta"),
    "complex": GOOD.to(torch.complex64),
}
NO_NUMBERS: list[Any] = [1.5, "3", None, True, [2], float("nan"), torch.tensor([2, 3]), torch.tensor(2.0), -1]
NUMBERS = [2, np.int64(2), np.uint8(2), torch.tensor(2)]


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(tiny_learner("maml", steps=2, rate=0.01), {})


@pytest.fixture(scope="module")
def adapted(model) -> AdaptedModel:
    return model.adapt(GOOD)


def refused(call) -> None:
    with pytest.raises(MetagenError) as error:
        call()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [*NO_TENSORS.values(), *BAD_TENSORS.values()], ids=[*NO_TENSORS, *BAD_TENSORS])
def test_images_of_another_kind(model, adapted, given):
    for method in ("log_prob", "reconstruct", "project"):
        refused(lambda m=method: getattr(adapted, m)(given))
    refused(lambda: adapted.interpolate(given, GOOD))
    refused(lambda: adapted.interpolate(GOOD, given))
    refused(lambda: model.adapt_many(given))
    if isinstance(given, torch.Tensor):
        refused(lambda: model.adapt(given))
        refused(lambda: model.adapt_many(given[None]))


@pytest.mark.parametrize("given", [None, 3, 1.5, np.zeros(3), {1: 2}])
def test_a_support_of_another_kind(model, given):
    refused(lambda: model.adapt(given))


@pytest.mark.parametrize("given", NO_NUMBERS, ids=repr)
def test_numbers_that_are_none(model, adapted, given):
    refused(lambda: adapted.sample(given))
    refused(lambda: adapted.sample(2, seed=given))
    refused(lambda: adapted.log_prob(GOOD, samples=given))
    refused(lambda: adapted.log_prob(GOOD, samples=2, seed=given))
    refused(lambda: adapted.interpolate(GOOD, GOOD, given))
    refused(lambda: model.adapt(GOOD, seed=given))
    refused(lambda: model.adapt(GOOD, "auto", seed=given))
    if given is not None:
        refused(lambda: model.adapt(GOOD, steps=given))


@pytest.mark.parametrize("given", NUMBERS, ids=repr)
def test_whole_numbers_of_other_libraries_are_whole_numbers(model, adapted, given):
    assert torch.equal(adapted.sample(given, seed=given), adapted.sample(2, seed=2))
    found, wanted = model.adapt(GOOD, given, given), model.adapt(GOOD, 2, 2)
    assert torch.equal(found.sample(2), wanted.sample(2))
    assert found.info == wanted.info
    assert type(found.info["seed"]) is int  # goes into a config


def test_seeds_may_be_huge(adapted):
    assert not torch.equal(adapted.sample(2, seed=2**70), adapted.sample(2, seed=2**70 + 1))


@pytest.mark.parametrize("name", [None, 3, b"omniglot", ["omniglot"]])
def test_names_that_are_none(name):
    refused(lambda: metagen.load(name))


@pytest.mark.parametrize("device", ["nowhere", "cpu:x", "", "hpu"])
def test_devices_that_are_not_there(device):
    refused(lambda: metagen.load("omniglot-redraw", device))
