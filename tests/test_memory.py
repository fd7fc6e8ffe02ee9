"""An external memory: a slot by hand, what is written where, and that a learner keeps what its tasks came to."""

from __future__ import annotations

import pytest
import torch

from metagen.adaptation import Memory, adapt, in_chunks
from metagen.errors import MetagenError
from metagen.learners import MAML, MemoryLearner, adapt_tasks
from metagen.learners.model_files import load_model, save_model
from tests.doubles import tiny_vae
from tests.test_meta_gradients import batch_for, check_finite_differences, meta_of

EAST, NORTH = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def memory(slots=2, **options):
    return Memory(slots, 2, 3, **options)


def write(into, key, value, shares=None):
    into.write(key[None], torch.full((1, 3), value), torch.zeros(1, len(into.keys)) if shares is None else shares[None])


def test_an_empty_memory_holds_nothing():
    value, shares = memory().by_key(EAST)
    assert not value.any()
    assert not shares.any()


def test_a_memory_of_one_slot_gives_what_was_written_last():
    one = memory(slots=1)
    for value in (2.0, 5.0):
        write(one, EAST, value)
        assert torch.equal(one.by_key(NORTH)[0], torch.full((3,), value))
        assert torch.equal(one.by_value(torch.randn(3)), torch.full((3,), value))


def test_reading_is_the_softmax_of_sharpened_cosines():
    two = memory()
    write(two, EAST, 1.0)
    write(two, 3 * NORTH, 2.0)
    key = torch.tensor([3.0, 4.0])
    weights = torch.tensor([0.6, 0.8]).mul(5).exp()
    wanted = (weights[0] + 2 * weights[1]) / weights.sum()
    torch.testing.assert_close(two.by_key(key)[0], wanted.expand(3))


def test_what_is_new_takes_the_place_that_was_least_used():
    two = memory()
    write(two, EAST, 1.0)
    write(two, NORTH, 2.0)
    write(two, -EAST, 3.0, torch.tensor([0.1, 0.9]))  # the first was used less
    assert two.values[:, 0].tolist() == [3.0, 2.0]
    write(two, -NORTH, 4.0, torch.tensor([0.9, 0.1]))
    assert two.values[:, 0].tolist() == [3.0, 4.0]


def test_a_gated_write_renews_the_slot_that_is_like_it():
    two = memory(writing="gated")
    write(two, EAST, 1.0)
    write(two, torch.tensor([0.99, 0.1]), 3.0)
    assert two.filled.tolist() == [1, 0]
    assert two.values[0].tolist() == [2.0] * 3
    write(two, NORTH, 5.0)
    assert two.values[:, 0].tolist() == [2.0, 5.0]


def learner(**options):
    torch.manual_seed(0)
    return MemoryLearner(tiny_vae().double(), **{"slots": 4, "code": 3, "steps": 2, "rate": 1e-3, **options})


def filled(made):
    with torch.no_grad():
        for name, state in made.memory.named_buffers():
            state.copy_(torch.randn_like(state) if name in ("keys", "values") else torch.ones_like(state))
        for pull in made.pulls.parameters():
            pull.fill_(0.2)
    return made


def test_with_an_empty_memory_it_is_maml():
    made, images = learner(), torch.rand(2, 4, 1, 8, 8, dtype=torch.float64)
    maml = MAML(made.generator, steps=2, rate=1e-3, adapted_params=("biases",))
    found, wanted = (adapt_tasks(each, images, (0,)).difference for each in (made, maml))
    for name, d in wanted.items():
        torch.testing.assert_close(found[name], d, rtol=1e-12, atol=1e-15)


def test_a_step_is_drawn_to_what_is_remembered():
    """With one slot that holds v: phi_0 = theta + v / 2, and after a step at rate 0 a fifth of the way to v."""
    made = filled(learner(slots=1, rate=1e-300))
    images = torch.rand(1, 4, 1, 8, 8, dtype=torch.float64)
    value = made._apart(made.memory.values[0], made.start())
    for steps, share in ((0, 0.5), (1, 0.6), (2, 0.68)):
        difference = adapt_tasks(made, images, (0,), steps=steps).difference
        for name, d in difference.items():
            torch.testing.assert_close(d[0], share * value[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", [None, 1])
def test_what_is_kept_is_how_far_adaptation_went(chunk):
    made, images = filled(learner()), torch.rand(2, 6, 1, 8, 8, dtype=torch.float64)
    batch = batch_for(made, images[:, :3], images[:, 3:])
    written = in_chunks(made.meta_gradient, made, meta_of(made), batch, chunk).task_records
    for task in range(2):
        noise = {p: {n: x[task] for n, x in of.items()} for p, of in batch.support_noise.items()}
        phi, start = adapt(made, images[task, :3], noise), made.start()
        gone = torch.cat([(phi[name] - start[name]).flatten() for name in sorted(made.adapted_names)])
        torch.testing.assert_close(written["values"][task], gone)
        torch.testing.assert_close(written["keys"][task], made.reader(images[task, :3]))
    before = made.memory.values.clone()
    made.update_buffers({}, written)
    assert (made.memory.values != before).any(1).sum() == 2


def test_the_meta_gradient_is_that_of_finite_differences():
    made, images = filled(learner()), torch.rand(2, 6, 1, 8, 8, dtype=torch.float64)
    check_finite_differences(made, batch_for(made, images[:, :2], images[:, 2:]))


def test_a_saved_model_remembers(tmp_path):
    made, images = filled(learner()).float(), torch.rand(2, 4, 1, 8, 8)
    save_model(tmp_path / "model", made, {})
    twin = load_model(tmp_path / "model")[0]
    first, second = (adapt_tasks(each, images, (0,)).difference for each in (made, twin))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_mistakes_are_told_in_one_line():
    for options, said in (
        ({"slots": 0}, "slots: expected"),
        ({"writing": "anywhere"}, "writing"),
        ({"slots": 10**6, "adapted_params": ("*",)}, "let fewer weights move"),
    ):
        with pytest.raises(MetagenError, match=said) as refused:
            learner(**options)
        assert "\n" not in str(refused.value)


def test_keys_of_gradients_tell_supports_apart_once_they_were_prepared():
    made, images = learner(encoder="gradient", code=2), torch.rand(5, 3, 1, 8, 8, dtype=torch.float64)
    made.prepare(lambda tasks: images)
    keys = torch.stack([made.reader(support) for support in images])
    assert keys.std(0).min() > 0.1
