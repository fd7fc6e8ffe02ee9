"""A start that depends on the task, by a subclass of which everything is known in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from metagen.adaptation import in_chunks, task_batch
from metagen.evaluation.contenders import contenders
from metagen.learners import MAML, Conditioned, adapt_tasks
from tests.doubles import Quadratic, tiny_vae

RATE = 0.1
IMAGES = torch.rand(3, 5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SUPPORT, QUERY = IMAGES[:, :2], IMAGES[:, 2:]


class Shifted(Conditioned):
    """Writes `scale` times the support's brightness, the same number for every weight."""

    reads = "brightness"

    def __init__(self, generator, **options):
        super().__init__(generator, rate=RATE, **options)
        self.scale = nn.Parameter(next(generator.parameters()).new_tensor(0.7))

    def weight_changes(self, start, support, task_noise):
        added = self.scale * support.sum() / max(support.numel(), 1)
        return {name: added.expand_as(start[name]) for name in self.adapted_names}


def quadratic():
    generator = Quadratic(torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)))
    with torch.no_grad():
        generator.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    return generator


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_adaptation_and_its_meta_gradient_have_their_closed_form(steps):
    generator, scale = quadratic(), 0.7
    learner, theta, curvature = Shifted(generator, steps=steps), generator.weight.detach(), generator.curvature
    bright = SUPPORT.flatten(1).mean(1, keepdim=True)
    s, q = SUPPORT.mean(1).flatten(1), QUERY.mean(1).flatten(1)
    contraction = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - RATE * curvature, steps)
    reached = s + (theta + scale * bright - s) @ contraction
    found = adapt_tasks(learner, SUPPORT, (0, "test")).difference["weight"]
    torch.testing.assert_close(found, reached - theta, rtol=0, atol=1e-12)

    meta = {name: w.detach() for name, w in learner.named_parameters()}
    batch = task_batch(learner, SUPPORT, QUERY, (0, "test"), range(3))
    gradients = in_chunks(learner.meta_gradient, learner, meta, batch)[0]
    at_start = (reached - q) @ curvature @ contraction
    torch.testing.assert_close(gradients["generator.weight"], at_start.mean(0), rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients["scale"], (at_start * bright).sum(1).mean(), rtol=0, atol=1e-12)


def test_what_is_written_may_be_read_from_another_support():
    learner, others = Shifted(quadratic(), steps=0), SUPPORT.roll(1, 0)
    crossed, other = (
        adapt_tasks(learner, *at).difference["weight"]
        for at in ((SUPPORT, (0,), None, None, others), (others, (0,), None, None))
    )
    assert torch.equal(crossed, other)


def test_only_what_moves_is_written_and_nothing_of_an_empty_support():
    learner = Shifted(tiny_vae(), steps=0, adapted_params=("decoder.*",))
    images = torch.rand(2, 3, 1, 8, 8)
    difference = adapt_tasks(learner, images, (0, "test")).difference
    assert difference.keys() == learner.adapted_names
    assert all(name.startswith("decoder.") and d.abs().min() > 0 for name, d in difference.items())
    assert not any(d.any() for d in adapt_tasks(learner, images[:, :0], (0, "test")).difference.values())


def test_the_rows_say_what_is_read_and_what_the_start_alone_gives():
    rows = contenders(Shifted(tiny_vae(), steps=2), {})
    assert (rows["another task's brightness"].sees, rows["another task's brightness"].reads) == ("own", "other")
    assert (rows["context only"].steps, rows["context only"].sees) == (0, "own")
    assert "context only" not in contenders(Shifted(tiny_vae(), steps=0), {})
    assert not {"another task's brightness", "context only"} & contenders(MAML(tiny_vae()), {}).keys()
