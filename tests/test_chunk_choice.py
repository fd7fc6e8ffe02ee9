"""The number of tasks at once that fit into a budget of memory."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from metagen.errors import MetagenError
from metagen.evaluation.studies.cost import MIB, peak_bytes
from metagen.generators import VAE
from metagen.learners import MAML
from metagen.training.chunk_choice import chunk_within
from metagen.training.meta_training import MetaTraining
from tests.test_meta_gradients import batch_for, meta_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def meta_step():
    """MAML, its meta-parameters, 6 tasks, and the MiB that their graphs hold at once, by how many they are."""
    torch.manual_seed(0)
    learner = MAML(VAE(latent=4, widths=(8, 16)), steps=2, rate=0.1)
    images = torch.rand(6, 8, 1, 28, 28)
    batch = batch_for(learner, images[:, :4], images[:, 4:])
    run = partial(learner.meta_gradient, learner, meta_of(learner))
    held = {n: peak_bytes(partial(run, next(iter(batch.chunks(n)))), CPU) / MIB for n in range(1, 7)}
    return learner, meta_of(learner), batch, held


@pytest.mark.parametrize("tasks", range(1, 6))
def test_it_is_the_most_tasks_that_fit(meta_step, tasks):
    learner, meta, batch, held = meta_step
    budget = int(held[tasks] + 0.9 * (held[tasks + 1] - held[tasks]))
    assert budget > held[tasks], "a task is to be more than a MiB"
    assert chunk_within(budget, learner.meta_gradient, learner, meta, batch) == tasks


def test_all_tasks_fit_into_much(meta_step):
    learner, meta, batch, _ = meta_step
    assert chunk_within(10_000, learner.meta_gradient, learner, meta, batch) == 6


def test_less_than_one_task_is_refused(meta_step):
    learner, meta, batch, held = meta_step
    with pytest.raises(MetagenError, match=f"one task holds {held[1]:.0f} MiB, more than 1;"):
        chunk_within(1, learner.meta_gradient, learner, meta, batch)


@pytest.mark.parametrize("also", [{"chunk": 2}, {"execution": "loop"}])
def test_it_is_not_given_beside_what_it_chooses(also):
    learner = partial(MAML, steps=1, rate=0.1)
    with pytest.raises(MetagenError, match="memory: it chooses the chunk"):
        MetaTraining(VAE(latent=4, widths=(4, 8)), learner, memory=100, **also)
