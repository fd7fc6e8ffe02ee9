"""One test for every registered learner; a new one is picked up by itself."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils._pytree import tree_map

from metagen.adaptation import draw_noise, in_chunks, task_batch
from metagen.errors import MetagenError
from metagen.learners import MetaSGD, adapt_after, adapt_tasks, learners
from metagen.learners.model_files import build, describe
from tests.doubles import tiny_learner, tiny_vae


@pytest.fixture(scope="module")
def blobs(device):
    """Tasks of which each is a bright spot at a place of its own, [tasks, images, 1, 8, 8]: (tasks, images, seed)."""
    return lambda tasks, images, seed: spots(tasks, images, seed).to(device)


def spots(tasks: int, images: int, seed: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    centre = 0.1 + 0.8 * torch.rand(tasks, 1, 2, generator=rng) + 0.03 * torch.randn(tasks, images, 2, generator=rng)
    axis = torch.linspace(0, 1, 8)
    across, down = ((axis - centre[..., i : i + 1]) ** 2 for i in (0, 1))
    return (-(across[..., None, :] + down[..., :, None]) / 0.02).exp()[:, :, None]


@pytest.fixture(scope="module", params=list(learners))
def trained(request, blobs, device):
    """A learner after 60 meta-steps on blobs."""
    torch.manual_seed(1)  # a start from which all of them learn much in so few steps
    learner = tiny_learner(request.param, rate=0.02, optimiser="adam", test_steps=5).to(device)
    parameters = learner.meta_parameters()
    optimiser = torch.optim.Adam(parameters.values(), lr=0.015)
    for step in range(60):
        images = blobs(8, 8, seed=step)
        batch = task_batch(learner, images[:, :4], images[:, 4:], (0, "train", step), range(8))
        meta = {name: w.detach() for name, w in parameters.items()}
        for name, g in in_chunks(learner.meta_gradient, learner, meta, batch)[0].items():
            parameters[name].grad = g
        optimiser.step()
    return learner


def held_out_loss(learner, support, query, steps=None):
    drawn = draw_noise(learner.generator, (0, "test", "query"), range(len(query)), query.shape[1])
    noise = tree_map(lambda x: x.to(query), drawn)
    adapted = adapt_tasks(learner, support, (0, "test"), steps=steps)
    return sum(adapted.query_loss(query, noise).values()).mean()


def test_adapting_helps_on_tasks_it_never_saw(trained, blobs):
    images = blobs(16, 8, seed=10_000)
    support, query = images[:, :4], images[:, 4:]
    adapted = held_out_loss(trained, support, query)
    nothing = support if trained.test_steps else support[:, :0]  # without steps it is the context that adapts
    assert adapted < held_out_loss(trained, nothing, query, steps=0)
    assert adapted < held_out_loss(trained, support.roll(1, 0), query)  # another task's support is worse


def test_the_number_of_steps_may_differ_at_test_time(trained, blobs):
    images = blobs(4, 8, seed=10_001)
    few, many = (adapt_tasks(trained, images, (0, "test"), steps=n).difference for n in (1, 12))
    assert any(not torch.equal(few[name], many[name]) for name in few) or not trained.adapted_names
    none = adapt_tasks(trained, images[:, :0] if trained.conditioned else images, (0, "test"), steps=0).difference
    assert all(not d.any() for d in none.values())


def test_a_description_builds_the_same_learner(trained, blobs, device):
    twin = build(describe(trained)).to(device)
    twin.load_state_dict(trained.state_dict())
    support = blobs(2, 4, seed=10_002)
    first, second = (adapt_tasks(learner, support, (0, "test")).difference for learner in (trained, twin))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_after_several_numbers_of_steps_it_is_as_after_each(trained, blobs):
    images = blobs(3, 4, seed=10_003)
    along = adapt_after(trained, images, (0, "test"), range(3), (4, 0, 2))
    assert set(along) == {0, 2, 4}
    for steps, adapted in along.items():
        alone = adapt_tasks(trained, images, (0, "test"), steps=steps).difference
        assert all(torch.equal(adapted.difference[name], alone[name]) for name in alone)


MOVERS = [  # by default something moves
    cls for cls in learners.classes if getattr(inspect.signature(cls).parameters.get("adapted_params"), "default", ())
]


@pytest.mark.parametrize("kind", [*MOVERS, lambda vae, **options: MetaSGD(vae, per="layer", **options)])
def test_a_learner_of_which_nothing_moves_is_refused_in_one_line(kind):
    with pytest.raises(MetagenError, match=r"^adapted_params: .* at least one glob") as refused:
        kind(tiny_vae(), adapted_params=())
    assert "\n" not in str(refused.value)
