"""The adjoint against the exact meta-gradient, the first-order one, finite differences and closed forms."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from metagen.adaptation import Adjoint, Exact, FirstOrder, MetaGradient, in_chunks, task_batch
from metagen.errors import MetagenError
from metagen.evaluation.studies.cost import peak_bytes
from metagen.learners import MAML, AdjointMAML, MetaSGD, learners
from tests.doubles import Bilinear, Quadratic, tiny_generator, tiny_learner, tiny_vae
from tests.test_meta_gradients import IMAGES, check_finite_differences, matrix, meta_of

STEPS = 5
SHARES = (0.2, 0.0, 0.3, 0.0, 0.0, 0.5)


class Shared(MAML):
    """MAML whose outer loss also counts the query loss on the way."""

    def loss_weights(self):
        return SHARES


def batch_for(learner, support, query):
    return task_batch(learner, support, query, (0, "test"), range(len(support)))


def assert_same(found, expected, names=None):
    for name in names or expected.gradients:
        torch.testing.assert_close(
            found.gradients[name], expected.gradients[name], rtol=1e-9, atol=1e-11, msg=f"{name}: {{}}".format
        )
    for player, losses in expected.losses.items():
        torch.testing.assert_close(found.losses[player], losses, rtol=1e-9, atol=1e-12)


def compare(learner, batch, adjoint, reference, names=None, **how):
    meta = meta_of(learner)
    found = in_chunks(adjoint, learner, meta, batch, **how)
    learner.meta_gradient = reference  # whether inner gradients are constants is asked of the learner's own
    expected = in_chunks(reference, learner, meta, batch)
    assert found.gradients.keys() == expected.gradients.keys() == meta.keys()
    assert_same(found, expected, names)


def vae_batch(learner, tasks=3):
    images = torch.rand(tasks, 5, 1, 8, 8, dtype=torch.float64)
    return batch_for(learner, images[:, :2], images[:, 2:])


@pytest.mark.parametrize("name", [n for n in learners if type(getattr(learners[n], "meta_gradient", None)) is Exact])
def test_it_is_the_exact_gradient_of_every_learner(name):
    torch.manual_seed(0)
    learner = tiny_learner(name, double=True, rate=1e-2)
    compare(learner, vae_batch(learner, 2), Adjoint(segment=2), Exact())


@pytest.mark.parametrize("execution", ["vmap", "loop"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_it_is_the_exact_gradient_through_the_state_and_of_several_shares(optimiser, execution):
    torch.manual_seed(0)
    learner = Shared(tiny_generator("vae").double(), STEPS, 1e-2, optimiser, ("decoder.*",))
    compare(learner, vae_batch(learner), Adjoint(), Exact(), chunk=2, execution=execution)


@pytest.mark.parametrize("segment", [None, 1, 2, 3, 4, 5, 6, 100])
def test_segments_change_nothing(segment):
    learner = Shared(Quadratic(matrix(1) @ matrix(1).T / 4), STEPS, 0.1, "adam")
    compare(learner, batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:]), Adjoint(segment), Exact())


@pytest.mark.parametrize("execution", ["vmap", "loop"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_each_of_two_players_hears_its_own_objective(optimiser, execution):
    learner = Shared(Bilinear(matrix(2) / 3), STEPS, 0.1, optimiser)
    batch = batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:])
    compare(learner, batch, Adjoint(2), Exact(), execution=execution)


def test_a_step_less_is_the_gradient_of_the_start():
    learner = MAML(Quadratic(matrix(1)), 0, 0.1)
    compare(learner, batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:]), Adjoint(), Exact())


@pytest.mark.parametrize("kind", [MAML, Shared])
def test_truncated_to_nothing_it_is_the_first_order_gradient(kind):
    torch.manual_seed(0)
    learner = kind(tiny_generator("vae").double(), STEPS, 1e-2, "adam", ("decoder.*",))
    names = [f"generator.{name}" for name in learner.adapted_names]
    compare(learner, vae_batch(learner), Adjoint(truncate=0), FirstOrder(), names)


@pytest.mark.parametrize("truncate", [STEPS, STEPS + 3])
def test_truncated_at_the_start_it_is_the_exact_gradient(truncate):
    learner = Shared(Quadratic(matrix(1) @ matrix(1).T / 4), STEPS, 0.1, "adam")
    compare(learner, batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:]), Adjoint(2, truncate), Exact())


@pytest.mark.parametrize("segment", [None, 2, 3])
@pytest.mark.parametrize("truncate", [1, 2, 4])
def test_truncated_between_it_contracts_as_often_as_steps_are_differentiated(truncate, segment):
    """On a quadratic each step contracts by I - rate A, and the start hears through the differentiated ones alone."""
    curvature = matrix(1) @ matrix(1).T / 4
    learner = Shared(Quadratic(curvature), STEPS, 0.1)
    support, query = IMAGES[:, :2], IMAGES[:, 2:]
    contraction = torch.eye(4, dtype=torch.float64) - 0.1 * curvature
    s, q = (images.mean(1).flatten(1) for images in (support, query))
    moved, expected = -s, torch.zeros(3, 4, dtype=torch.float64)  # from s; theta is 0
    for index, share in enumerate(SHARES):
        heard = max(0, index - (STEPS - truncate))
        expected += share * (moved + s - q) @ curvature @ torch.linalg.matrix_power(contraction, heard)
        moved = moved @ contraction
    found = Adjoint(segment, truncate)(learner, meta_of(learner), batch_for(learner, support, query))
    torch.testing.assert_close(found.gradients["generator.weight"], expected.mean(0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("generator", ["vae", "redraw"])
def test_it_is_that_of_finite_differences(generator):
    torch.manual_seed(0)
    learner = AdjointMAML(tiny_generator(generator).double(), steps=3, rate=1e-3, segment=2)
    check_finite_differences(learner, vae_batch(learner, 1))


def test_memory_is_that_of_one_step_and_the_states():
    """Two steps more cost the exact gradient their graphs, the adjoint their states, in segments of two just one."""
    torch.manual_seed(0)
    vae, images = tiny_vae(), torch.rand(1, 5, 1, 8, 8)
    ways: list[MetaGradient] = [Exact(), Adjoint(), Adjoint(segment=2)]
    peaks: dict[int, list[int]] = {}
    for steps in (2, 4):
        learner = MAML(vae, steps, 1e-3)
        meta, batch = meta_of(learner), batch_for(learner, images[:, :2], images[:, 2:])
        peaks[steps] = [peak_bytes(partial(way, learner, meta, batch), torch.device("cpu")) for way in ways]
    state = sum(w.nbytes for w in vae.parameters())
    exact, stored, segments = ((more - few) / state for few, more in zip(peaks[2], peaks[4], strict=True))
    assert stored == pytest.approx(2, abs=0.1)
    assert segments == pytest.approx(1, abs=0.1)
    assert exact > 3 * stored


def test_what_it_cannot_do_is_refused():
    with pytest.raises(MetagenError, match="segment: expected 1 or more"):
        AdjointMAML(tiny_vae(), segment=0)
    with pytest.raises(MetagenError, match="truncate: expected 0 or more"):
        AdjointMAML(tiny_vae(), truncate=-1)

    class Truncated(MetaSGD):
        meta_gradient = Adjoint(truncate=0)  # type: ignore[assignment]

    with pytest.raises(MetagenError, match="never be trained"):
        Truncated(tiny_vae())
