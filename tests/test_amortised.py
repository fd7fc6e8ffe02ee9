"""Context alone, and steps of a trained model on top of it."""

from __future__ import annotations

import copy

import pytest
import torch

import metagen
from metagen.adaptation import task_batch
from metagen.learners import Amortised, Joint, adapt_each, adapt_tasks
from metagen.model import Model
from tests.doubles import tiny_generator

BIASES = {"adapted_params": ("biases",), "rate": 0.01}


@pytest.fixture(params=["token_vae", "redraw"])
def generator(request):
    torch.manual_seed(0)
    made = tiny_generator(request.param).eval()
    for weight in made.parameters():
        weight.data += 0.05 * torch.randn_like(weight)
    return made


def supports(generator, tasks=3, shots=3):
    shape = (tasks, shots, generator.channels, generator.size, generator.size)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.6).float()


def test_without_steps_nothing_moves(generator):
    still, able = Amortised(generator), Amortised(generator, **BIASES)
    support = supports(generator)
    alone, asked = (adapt_tasks(learner, support, (0,)) for learner in (still, able))
    assert not asked.difference
    assert torch.equal(alone.sample(2, (1,), range(3)), asked.sample(2, (1,), range(3)))


def test_meta_training_is_the_same(generator):
    gradients = []
    for options in ({}, BIASES):
        learner = Amortised(copy.deepcopy(generator).train(), **options)
        images = supports(generator, shots=5)
        batch = task_batch(learner, images[:, :3], images[:, 3:], (0,), range(3))
        meta = {name: w.detach() for name, w in learner.meta_parameters().items()}
        gradients.append(learner.meta_gradient(learner, meta, batch).gradients)
    assert all(torch.equal(g, gradients[1][name]) for name, g in gradients[0].items())


def test_steps_are_those_of_fine_tuning(generator):
    support = supports(generator)
    found = adapt_tasks(Amortised(generator, **BIASES), support, (0,), steps=3).difference
    expected = adapt_tasks(Joint(generator, **BIASES), support, (0,), steps=3).difference
    assert found.keys() == expected.keys()
    assert max(float(d.abs().max()) for d in found.values()) > 0
    assert all(torch.equal(d, expected[name]) for name, d in found.items())


def test_tasks_may_take_steps_or_none(generator):
    learner, support = Amortised(generator, **BIASES), supports(generator)
    mixed = adapt_each(learner, support, (0,), [2, 0, 2])
    every = adapt_tasks(learner, support, (0,), steps=2)
    assert all(not d[1].any() and d[0].any() == every.difference[name][0].any() for name, d in mixed.difference.items())
    torch.testing.assert_close(mixed[2].difference, every[2].difference)
    assert not adapt_each(learner, support, (0,), [0, 0, 0]).difference


@pytest.mark.parametrize("steps", [0, 2])
def test_what_was_adapted_is_saved_and_loaded(generator, tmp_path, steps):
    Model(Amortised(generator, **BIASES), {}).save(tmp_path / "model")
    mine = metagen.load(tmp_path / "model").adapt(supports(generator)[0], steps=steps)
    mine.save(tmp_path / "mine")
    again = metagen.load(tmp_path / "mine")
    assert bool(again.adapted.difference) == bool(steps)
    assert torch.equal(again.sample(2, seed=1), mine.sample(2, seed=1))
