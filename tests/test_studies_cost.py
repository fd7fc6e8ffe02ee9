"""The study of what adapting costs: a counter of memory that is right by hand, and figures that add up."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch

from metagen.distributed.sharding import ShardedTasks
from metagen.evaluation.studies import StudyContext, studies
from metagen.evaluation.studies.cost import LiveBytes, peak_bytes
from metagen.learners import Amortised, Joint, adapt_tasks
from metagen.tasks.episodes import Episodes
from tests.doubles import Blobs, tiny_generator, tiny_vae

CPU = torch.device("cpu")


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return tiny_vae(size=28)


def test_storages_count_once_from_when_they_are_made_until_they_are_freed():
    before = torch.zeros(1000)
    with LiveBytes() as live:
        first = torch.zeros(256)  # 1 KiB
        view = first.view(16, 16)
        assert live.now == 1024
        second = first + 1
        assert live.now == 2048
        del first
        assert live.now == 2048  # the view still holds it
        del view
        assert live.now == 1024
        second.add_(1)
        before.view(10, 100).mul_(2)
        assert live.now == 1024
        third = torch.zeros(64, dtype=torch.float64)
        assert live.now == 1536
        del second, third
    assert (live.now, live.peak) == (0, 2048)


def test_what_a_graph_keeps_is_alive():
    x = torch.zeros(256, requires_grad=True)
    with LiveBytes() as live:
        y = x.exp().sin().sum()  # sin keeps what exp gave, exp its own result; the sum keeps nothing
        assert live.now == 1024 + 4
        y.backward()
        assert live.now == 1024 + 4  # the gradient in place of the graph
        x.grad = None
        assert live.now == 4
    assert live.peak >= 2 * 1024


def test_adapting_by_more_steps_holds_no_more_memory(vae):
    learner = Joint(vae, rate=0.01).requires_grad_(False)
    support = Blobs().images("blob-20")[None, :4] / 255
    two, thirty = (peak_bytes(partial(adapt_tasks, learner, support, (0,), steps=steps), CPU) for steps in (2, 30))
    weights = sum(weight.nbytes for weight in vae.parameters())
    assert two > 4 * weights  # the weights, two moments and the gradient
    assert thirty < 1.05 * two  # noise of 28 more steps, and no graph of them


def study(learner, tasks=3):
    episodes = Episodes(Blobs(), 2, 3)
    return studies["cost"].run(
        StudyContext(learner.requires_grad_(False).eval(), episodes, "test", range(tasks), 0, ShardedTasks(), False)
    )


def test_the_figures_of_a_model_that_moves_one_bias(vae):
    result = study(Joint(vae, test_steps=7, adapted_params=("decoder.stem.bias",)))
    assert (result["steps"], result["shots"]) == (7, 2)
    assert result["adapted_bytes"] == 8 * 7 * 7 * 4
    for name in ("seconds", "peak_mib", "images_a_second"):
        found = result[name]
        assert 0 < found["low"] <= found["mean"] <= found["high"]
        assert found["n"] == 3
    assert 0 < result["seconds"]["median"] <= 3 * result["seconds"]["mean"]
    assert "storages" in result["peak_method"]
    json.dumps(result)


def test_a_generator_that_looks_at_its_support_has_to_keep_it():
    result = study(Amortised(tiny_generator("redraw", size=28)))
    assert result["steps"] == 0
    assert result["adapted_bytes"] == 2 * 28 * 28 * 4
