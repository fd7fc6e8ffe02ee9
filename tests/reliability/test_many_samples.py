"""Many samples take the memory of a few, and are the images that they always were."""

from __future__ import annotations

import pytest
import torch

from metagen import model as models
from metagen.evaluation.studies.cost import LiveBytes
from metagen.learners import importance_sampling, learners
from metagen.model import Model
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


LOOKS = {
    "reconstruct": lambda adapted, x: adapted.reconstruct(x),
    "project": lambda adapted, x: adapted.project(x),
    "log_prob": lambda adapted, x: adapted.log_prob(x, samples=60),
    "interpolate": lambda adapted, x: adapted.interpolate(x, x.flip(0), 3),
}


@pytest.mark.parametrize("look", ["log_prob", "interpolate"])
def test_memory_does_not_grow_with_the_images_that_are_looked_at(look, monkeypatch):
    adapted, rng = model_of("vae").adapt(SUPPORT[0]), torch.Generator().manual_seed(1)
    images = torch.rand(1500, 1, 8, 8, generator=rng).round()

    def most(count: int) -> int:
        return peak(lambda n: LOOKS[look](adapted, images[:n]), count)

    bound = 1.5 * most(300) + 2 * images.nbytes  # what is given is looked at whole
    assert most(1500) < bound
    monkeypatch.setattr(models, "SAMPLES_AT_ONCE", 10**6)
    monkeypatch.setattr(importance_sampling, "IMAGES_AT_ONCE", 10**6)
    assert most(1500) > bound


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_images_looked_at_in_chunks_are_as_at_once(look, monkeypatch):
    adapted, rng = model_of("vae").adapt(SUPPORT[0]), torch.Generator().manual_seed(1)
    images = torch.rand(70, 1, 8, 8, generator=rng).round()
    found = {}
    for size in (1, 7, 10**6):
        monkeypatch.setattr(models, "SAMPLES_AT_ONCE", size)
        monkeypatch.setattr(importance_sampling, "IMAGES_AT_ONCE", size)
        found[size] = look(adapted, images)
    torch.testing.assert_close(found[1], found[10**6], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[7], found[10**6], rtol=1e-5, atol=1e-5)
