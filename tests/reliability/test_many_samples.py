"""Many samples take the memory of a few, and are the images that they always were."""

from __future__ import annotations

import pytest
import torch

from metagen import model as models
from metagen.learners import learners
from metagen.model import Model
from metagen.studies.cost import LiveBytes
from tests.doubles import TINY, tiny_generator

SUPPORT = torch.rand(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round()


def model_of(generator: str) -> Model:
    torch.manual_seed(0)
    kind, options = ("amortised", {}) if generator == "token_vae" else ("maml", {"steps": 1, "rate": 0.01})
    return Model(learners[kind](tiny_generator(generator), **options), {})


@pytest.mark.parametrize("generator", TINY)
def test_images_in_chunks_are_those_made_at_once(generator, monkeypatch):
    adapted = model_of(generator).adapt(SUPPORT[0])
    monkeypatch.setattr(models, "SAMPLES_AT_ONCE", 10**6)
    whole = adapted.sample(80, seed=3)
    monkeypatch.setattr(models, "SAMPLES_AT_ONCE", 32)
    assert torch.equal(adapted.sample(80, seed=3), whole)


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 272, 273, 300, 513])
def test_any_number_is_made(n, monkeypatch):
    adapted = model_of("vae").adapt(SUPPORT[0])
    found = adapted.sample(n)
    assert found.shape == (n, 1, 8, 8)
    assert torch.allclose(found[:1], adapted.sample(1), atol=1e-6)
    monkeypatch.setattr(models, "SAMPLES_AT_ONCE", 10**6)
    assert torch.allclose(found, adapted.sample(n), atol=1e-6)


def peak(sample, n: int) -> int:
    with LiveBytes() as live:
        images = sample(n)
    return live.peak - 2 * images.nbytes  # they are there twice where they are put together


@pytest.mark.parametrize("generator", ["vae", "redraw", "wgan_gp"])
def test_memory_does_not_grow_with_the_number(generator):
    adapted = model_of(generator).adapt(SUPPORT[0])
    few = peak(adapted.sample, 300)
    assert peak(adapted.sample, 1500) < 1.5 * few


def test_memory_does_not_grow_where_several_tasks_sample_at_once():
    adapted = model_of("vae").adapt_many(SUPPORT)
    assert peak(adapted.sample, 1500) < 1.5 * peak(adapted.sample, 300)
    each = adapted.sample(300)
    assert torch.allclose(adapted[1].sample(300), each[1], atol=1e-6)


def test_settings_hold_in_every_chunk(monkeypatch):
    adapted = model_of("token_vae").adapt(SUPPORT[0])
    plain = adapted.sample(80, temperature=0.3)
    monkeypatch.setattr(models, "SAMPLES_AT_ONCE", 16)
    assert torch.equal(adapted.sample(80, temperature=0.3), plain)
