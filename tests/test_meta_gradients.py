"""Meta-gradients against closed forms, finite differences, a plain loop and other chunks."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest
import torch

from metagen.adaptation import in_chunks, task_batch
from metagen.core.functional import over_tasks, with_weights
from metagen.errors import MetagenError
from metagen.learners import FOMAML, MAML, Joint, Reptile
from tests.doubles import VARIANTS, Bilinear, Quadratic, pairs, tiny_generator, tiny_learner, tiny_vae

RATE, STEPS = 0.1, 4
IMAGES = torch.rand(3, 5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def matrix(seed: int) -> torch.Tensor:
    return torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def meta_of(learner):
    return {name: w.detach().clone() for name, w in learner.meta_parameters().items()}


def gradient(learner, batch, **how):
    return in_chunks(learner.meta_gradient, learner, meta_of(learner), batch, **how)[0]


def batch_for(learner, support, query):
    return task_batch(learner, support, query, (0, "test"), range(len(support)))


@pytest.mark.parametrize("steps", [0, 1, STEPS])
@pytest.mark.parametrize("execution", ["vmap", "loop"])
def test_each_learner_on_a_quadratic_has_its_closed_form(steps, execution):
    root = matrix(1)
    curvature = root @ root.T / 4
    generator = Quadratic(curvature)
    with torch.no_grad():
        generator.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    support, query = IMAGES[:, :2], IMAGES[:, 2:]
    s, q = (images.mean(1).flatten(1) for images in (support, query))
    contraction = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - RATE * curvature, steps)
    adapted = s + (generator.weight.detach() - s) @ contraction
    at_query = (adapted - q) @ curvature
    expected = {
        MAML: at_query @ contraction,
        FOMAML: at_query,
        Reptile: generator.weight.detach() - adapted,
    }
    for kind, each in expected.items():
        learner = kind(generator, steps=steps, rate=RATE)
        found = gradient(learner, batch_for(learner, support, query), execution=execution)
        torch.testing.assert_close(found["generator.weight"], each.mean(0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", [MAML, FOMAML, Reptile])
def test_each_learner_on_a_zero_sum_game_has_its_closed_form(kind):
    """One inner step moves y first, then x at the moved y: an affine map, composed here by hand."""
    coupling = matrix(2) / 3
    learner = kind(Bilinear(coupling), steps=STEPS, rate=RATE)
    support, query = IMAGES[:, :2], IMAGES[:, 2:]
    found = gradient(learner, batch_for(learner, support, query))
    expected = {"x": torch.zeros(4, dtype=torch.float64), "y": torch.zeros(4, dtype=torch.float64)}
    eye, zero = torch.eye(4, dtype=torch.float64), torch.zeros(4, 4, dtype=torch.float64)
    climb = torch.cat([torch.cat([eye, zero], 1), torch.cat([RATE * coupling.T, eye], 1)])
    descend = torch.cat([torch.cat([eye, -RATE * coupling], 1), torch.cat([zero, eye], 1)])
    power = torch.linalg.matrix_power(descend @ climb, STEPS)
    theta = torch.cat([learner.generator.generator["x"], learner.generator.discriminator["y"]]).detach()
    for s, q in zip(support.mean(1).flatten(1), query.mean(1).flatten(1), strict=True):
        state = theta
        for _ in range(STEPS):
            x, y = state[:4], state[4:]
            y = y + RATE * (coupling.T @ x - s)
            state = torch.cat([x - RATE * (coupling @ y + s), y])
        x, y = state[:4], state[4:]
        for_x, for_y = coupling @ y + q, -(coupling.T @ x - q)  # each player's own loss at its own weights
        if kind is MAML:  # both losses depend on both players' start, but each start hears its own loss alone
            whole_x, whole_y = torch.cat([for_x, -for_y]), torch.cat([-for_x, for_y])
            for_x, for_y = (power.T @ whole_x)[:4], (power.T @ whole_y)[4:]
        elif kind is Reptile:
            for_x, for_y = theta[:4] - x, theta[4:] - y
        expected["x"] += for_x / len(support)
        expected["y"] += for_y / len(support)
    torch.testing.assert_close(found["generator.generator.x"], expected["x"], rtol=0, atol=1e-10)
    torch.testing.assert_close(found["generator.discriminator.y"], expected["y"], rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_exact_gradient_of_every_generator_is_that_of_finite_differences(name):
    torch.manual_seed(0)
    generator = tiny_generator(name).double()
    exact = ("*", *(f"!{glob}" for glob in generator.estimated))  # of a step along an estimate nothing is the slope
    learner = MAML(generator, steps=2, rate=1e-3, adapted_params=exact)
    images = torch.rand(1, 5, 1, 8, 8, dtype=torch.float64)
    check_finite_differences(learner, batch_for(learner, images[:, :2], images[:, 2:]))


def test_the_exact_gradient_through_adam_is_that_of_finite_differences():
    """On a quadratic: where a gradient crosses 0, Adam's first step jumps, and no difference quotient is right."""
    learner = MAML(Quadratic(torch.eye(4, dtype=torch.float64) + matrix(3).abs()), steps=3, rate=0.1, optimiser="adam")
    check_finite_differences(learner, batch_for(learner, IMAGES[:, :2] + 1, IMAGES[:, 2:]))


def check_finite_differences(learner, batch):
    generator, meta = learner.generator, meta_of(learner)
    found, *_ = in_chunks(learner.meta_gradient, learner, meta, batch)
    for player in generator.players:
        estimated = [f"generator.{glob}" for glob in generator.estimated]
        own = [n for n in meta if learner.player_of(n) == player and not any(fnmatchcase(n, e) for e in estimated)]
        direction = {n: torch.randn_like(meta[n]) for n in own}
        h = 1e-6

        def loss_at(shift, player=player, direction=direction):
            moved = {n: w + shift * direction[n] if n in direction else w for n, w in meta.items()}
            return over_tasks(lambda at, task: with_weights(learner, at).objectives(task))(moved, batch)[0][
                player
            ].mean()

        slope = (loss_at(h) - loss_at(-h)) / (2 * h)
        along = sum((found[n] * direction[n]).sum() for n in own)
        torch.testing.assert_close(along, slope, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("learner", "generator"), pairs())
def test_chunks_and_execution_change_nothing(learner, generator):
    torch.manual_seed(0)
    learner = tiny_learner(learner, generator, double=True, rate=1e-3, steps=2)
    images = torch.rand(3, 6, 1, 8, 8, dtype=torch.float64)
    batch = batch_for(learner, images[:, :2], images[:, 2:])
    whole = gradient(learner, batch)
    for how in ({"chunk": 2}, {"chunk": 2, "execution": "loop"}):
        other = gradient(learner, batch, **how)
        for parameter, g in whole.items():
            torch.testing.assert_close(other[parameter], g, rtol=1e-9, atol=1e-12, msg=f"{parameter} under {how}")


@pytest.mark.parametrize(("learner", "generator"), pairs())
def test_every_meta_parameter_receives_gradient(learner, generator):
    torch.manual_seed(0)
    learner = tiny_learner(learner, generator, rate=1e-3, steps=2)
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if not name.startswith("generator."):  # a last layer that begins at 0 keeps gradient from those before
                weight.add_(0.05 * torch.randn_like(weight))
        for name, state in learner.named_buffers():
            if not name.startswith("generator."):  # nor does a memory that is empty tell anything
                state.copy_(torch.rand_like(state.double()))
    images = torch.rand(2, 6, 1, 8, 8)
    found = gradient(learner, batch_for(learner, images[:, :2], images[:, 2:]))
    assert found.keys() == learner.meta_parameters().keys()
    assert [n for n, g in found.items() if not g.abs().sum() > 0] == []


@pytest.mark.parametrize(("learner", "generator"), pairs())
def test_every_meta_gradient_is_finite_in_mixed_precision(learner, generator):
    torch.manual_seed(0)
    learner, images = tiny_learner(learner, generator, rate=1e-3, steps=1), torch.rand(1, 4, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient(learner, batch_for(learner, images[:, :2], images[:, 2:]))
    assert [n for n, g in found.items() if not g.isfinite().all() or g.dtype != torch.float32] == []


def test_a_task_does_not_hear_of_the_others():
    torch.manual_seed(0)
    learner = MAML(tiny_vae().double(), steps=2)
    images = torch.rand(3, 6, 1, 8, 8, dtype=torch.float64)
    batch = batch_for(learner, images[:, :2], images[:, 2:])
    alone = [gradient(learner, part) for part in batch.chunks(1)]
    whole = gradient(learner, batch)
    for name, g in whole.items():
        torch.testing.assert_close(sum(part[name] for part in alone) / 3, g, rtol=1e-9, atol=1e-12)


def test_joint_is_the_plain_gradient():
    torch.manual_seed(0)
    learner = Joint(tiny_vae().double())
    images = torch.rand(2, 6, 1, 8, 8, dtype=torch.float64)
    batch = batch_for(learner, images[:, :2], images[:, 2:])
    found = gradient(learner, batch)
    noise = {"latent": batch.query_noise["vae"]["latent"].flatten(0, 1)}
    learner.generator.loss("vae", batch.query.flatten(0, 1), noise, None).backward()
    for name, w in learner.named_parameters():
        torch.testing.assert_close(found[name], w.grad, rtol=1e-9, atol=1e-12)


def test_a_combination_that_cannot_train_its_parts_is_refused():
    with pytest.raises(MetagenError, match="never be trained"):
        Reptile(tiny_vae(), adapted_params=("decoder.*",))
    with pytest.raises(MetagenError, match="matches no weight"):
        MAML(tiny_vae(), adapted_params=("dekoder.*",))
    with pytest.raises(MetagenError, match="leaves no weight"):
        MAML(tiny_vae(), adapted_params=("*", "!*"))
    with pytest.raises(MetagenError, match="steps: expected 0 or more"):
        MAML(tiny_vae(), steps=-1)
    with pytest.raises(MetagenError, match="did you mean adam"):
        MAML(tiny_vae(), optimiser="adm")
    with pytest.raises(MetagenError, match="rate: expected a finite number above 0"):
        MAML(tiny_vae(), rate=0.0)
