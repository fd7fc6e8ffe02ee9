"""Recorded meta-gradients: the same to the last bit, where nothing but tensors decides."""

from __future__ import annotations

import copy

import pytest
import torch

from metagen.adaptation import Recorded, Regulariser
from metagen.evaluation.studies.cost import LiveBytes
from metagen.learners import MAML
from tests.doubles import pairs, tiny_generator, tiny_learner, tiny_vae
from tests.test_meta_gradients import batch_for, meta_of

PURE = sorted({learner for learner, generator in pairs() if generator == "vae" and tiny_learner(learner).pure})
# Every pure learner, and every generator with the one whose recording is the shortest.
CASES = [
    *((learner, "vae") for learner in PURE),
    *((one, other) for one, other in pairs() if one == "fomaml" and other != "vae"),
]


def batch_of(learner, tasks=2, seed=0):
    generator = learner.generator
    shape = (tasks, 4, generator.channels, generator.size, generator.size)
    images = (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) > 0.6).float()
    return batch_for(learner, images[:, :2], images[:, 2:])


def assert_equal(found, expected):
    for part in (0, 1):
        assert found[part].keys() == expected[part].keys()
        assert all(torch.equal(found[part][name], x) for name, x in expected[part].items())


def count(recorded) -> int:
    return len(recorded.recordings)


def test_the_plain_learners_are_pure():
    assert set(PURE) == {"maml", "fomaml", "reptile", "anil", "joint", "adjoint", "low_rank"}


@pytest.mark.parametrize(("learner", "generator"), CASES)
def test_it_is_the_same_to_the_last_bit(learner, generator):
    torch.manual_seed(0)
    made = tiny_learner(learner, generator, steps=2 if generator == "vae" else 1)
    recorded = Recorded(made.meta_gradient, after=1)
    for call in range(3):
        batch, meta = batch_of(made, seed=call), {n: w + 0.01 * call for n, w in meta_of(made).items()}
        found = recorded(made, meta, batch)
        assert count(recorded) == (made.pure and call > 0)
        assert_equal(found, made.meta_gradient(made, meta, batch))


def test_each_shape_has_its_recording():
    made = MAML(tiny_vae(), steps=1, rate=0.1)
    recorded = Recorded(made.meta_gradient, after=0)
    for tasks in (2, 3, 2):
        batch = batch_of(made, tasks)
        assert_equal(recorded(made, meta_of(made), batch), made.meta_gradient(made, meta_of(made), batch))
    assert count(recorded) == 2


def test_what_depends_on_more_than_tensors_is_not_recorded():
    regularised, annealed_order = (MAML(tiny_vae(), steps=2, rate=0.1) for _ in range(2))
    regularised.regulariser = Regulariser({"l2_start": 1.0})
    annealed_order.second_order_from = 0.5
    annealed = MAML(tiny_generator("search_vae"), steps=2, rate=0.1)
    for made in (regularised, annealed_order, annealed, tiny_learner("maml_pp")):
        assert not made.pure
        recorded = Recorded(made.meta_gradient, after=0)
        recorded(made, meta_of(made), batch_of(made))
        assert count(recorded) == 0


def test_it_is_not_recorded_while_watched_in_mixed_precision_or_in_a_loop():
    made = MAML(tiny_vae(), steps=2, rate=0.1)
    recorded = Recorded(made.meta_gradient, after=0)
    with LiveBytes():
        recorded(made, meta_of(made), batch_of(made))
    with torch.autocast("cpu", torch.bfloat16):
        recorded(made, meta_of(made), batch_of(made))
    recorded(made, meta_of(made), batch_of(made), "loop")
    assert count(recorded) == 0


def test_a_copy_has_recorded_nothing():
    made = MAML(tiny_vae(), steps=1, rate=0.1)
    recorded = Recorded(made.meta_gradient, after=0)
    recorded(made, meta_of(made), batch_of(made))
    again = copy.deepcopy(recorded)
    assert (count(recorded), count(again), again.recordings.after) == (1, 0, 0)


def test_a_learner_whose_tasks_share_all_weights_is_not_recorded():
    assert not tiny_learner("joint", "tokenizer", adapted_params=(), test_steps=0).pure
    assert not tiny_learner("amortised", "token_vae").pure


def test_what_cannot_be_recorded_runs_and_is_told():
    class Decides(MAML):
        @property
        def pure(self):
            return True

        def loss_weights(self):
            return (*[0.0] * self.steps, float(next(self.generator.parameters()).sum() > -1e9))

    made = Decides(tiny_vae(), steps=1, rate=0.1)
    recorded = Recorded(made.meta_gradient, after=0)
    with pytest.warns(UserWarning, match="runs unrecorded"):
        found = recorded(made, meta_of(made), batch_of(made))
    assert_equal(found, made.meta_gradient(made, meta_of(made), batch_of(made)))
