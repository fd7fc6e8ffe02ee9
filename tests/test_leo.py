"""Latent embedding optimisation against loops by hand, closed forms, torch.distributions and finite differences."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.utils._pytree import tree_map

from metagen.adaptation import Adjoint, at_step, in_chunks, trajectory
from metagen.core.functional import over_tasks, with_weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.evaluation.contenders import contenders
from metagen.learners import LEO, MAML, adapt_tasks
from metagen.training.meta_training import MetaTraining
from tests.doubles import Bilinear, Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import IMAGES, RATE, batch_for, check_finite_differences, gradient, matrix, meta_of

CURVATURE = matrix(1) @ matrix(1).T / 4
PAYS_NOTHING = {"kl": 0.0, "drift": 0.0, "orthogonality": 0.0}


def leo(generator, **options):
    """A small one in float64."""
    torch.manual_seed(0)
    return LEO(
        generator, **{"code": 4, "widths": (2,), "adapted_params": ("*",), "rate": RATE, "code_rate": RATE, **options}
    )


def quadratic(identity=False, **options):
    """Over the quadratic; with `identity` codes begin at 0 and are the weights, which start at 0."""
    learner = leo(Quadratic(CURVATURE), **options)
    with torch.no_grad():
        if identity:
            learner.decoder["weight"].copy_(torch.eye(4))
            learner.encoder.pair[-1].weight.zero_()
            learner.encoder.pair[-1].bias.zero_()
        else:
            learner.generator.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
            learner.decoder["weight"].mul_(50)
    return learner


def vae_learner(**options):
    torch.manual_seed(0)
    options = {"code": 3, "widths": (2, 4), "code_rate": 1e-3, "rate": 1e-3, "steps": 3, "code_steps": 2, **options}
    return LEO(tiny_vae().double(), **options)


def vae_batch(learner, tasks=2):
    images = torch.rand(tasks, 6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return batch_for(learner, images[:, :3], images[:, 3:])


# the inner loop


@pytest.mark.parametrize(("steps", "code_steps"), [(1, 3), (4, 4), (5, 2)])
def test_with_an_identity_for_a_decoder_it_is_maml_and_has_its_closed_form(steps, code_steps):
    learner, images = quadratic(identity=True, steps=steps, code_steps=code_steps), IMAGES[:, :2]
    found = adapt_tasks(learner, images, (0, "test")).difference["weight"]
    target = images.mean(1).flatten(1)
    left = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - RATE * CURVATURE, steps)
    torch.testing.assert_close(found, target - target @ left, rtol=0, atol=1e-12)
    maml = MAML(Quadratic(CURVATURE), steps=steps, rate=RATE)
    torch.testing.assert_close(found, adapt_tasks(maml, images, (0, "test")).difference["weight"], rtol=0, atol=1e-12)


def test_steps_in_the_code_then_in_the_weights_are_those_of_a_loop_by_hand():
    learner = quadratic(steps=5, code_steps=3, code_rate=0.5)
    support, start, basis = IMAGES[0, :2], learner.generator.weight.detach(), learner.decoder["weight"].detach()
    mean = support.mean(0).flatten()
    code = learner.encoded(support).detach()
    for _ in range(3):
        code = code - 0.5 * basis.T @ CURVATURE @ (start + basis @ code - mean)
    weight = start + basis @ code
    assert (basis @ code).norm() > 0.1
    for _ in range(2):
        weight = weight - RATE * CURVATURE @ (weight - mean)
    found = adapt_tasks(learner, support[None], (0, "test")).difference["weight"][0]
    torch.testing.assert_close(found, weight - start, rtol=0, atol=1e-12)


def test_steps_of_adam_on_weights_are_counted_from_the_first_one():
    """Adam's first step is as long as its rate."""
    learner = quadratic(steps=2, code_steps=1, optimiser="adam")
    support, noise = IMAGES[0, :2], batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:]).support_noise
    noise = {player: {name: x[0] for name, x in draws.items()} for player, draws in noise.items()}
    _, (decoded, _), (moved, _) = trajectory(learner, support, noise, 2)
    torch.testing.assert_close((moved["weight"] - decoded["weight"]).abs(), torch.full((4,), RATE).double())


def test_each_players_loss_reaches_the_code_through_its_own_weights_alone():
    coupling = matrix(2) / 3
    learner = leo(Bilinear(coupling), steps=1, code_steps=1)
    support = IMAGES[0, :2]
    x, y = learner.generator.generator["x"].detach(), learner.generator.discriminator["y"].detach()
    of_x, of_y = (learner.decoder[name].detach() for name in ("generator.x", "discriminator.y"))
    mean, code = support.mean(0).flatten(), learner.encoded(support).detach()
    slope_x = coupling @ (y + of_y @ code) + mean
    slope_y = -(coupling.T @ (x + of_x @ code) - mean)
    code = code - RATE * (of_x.T @ slope_x + of_y.T @ slope_y)
    moved = adapt_tasks(learner, support[None], (0, "test")).difference
    torch.testing.assert_close(moved["generator.x"][0], of_x @ code, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved["discriminator.y"][0], of_y @ code, rtol=0, atol=1e-12)


def test_a_player_is_heard_as_often_as_it_is_visited():
    """Each visit has draws of its own; those of all of them are one step on the code."""
    torch.manual_seed(0)
    game = tiny_generator("wgan_gp", d_steps=2).double()
    learner = LEO(
        game, steps=1, code_steps=1, code=3, widths=(2,), code_rate=0.5, adapted_params=("head", "critic_head")
    )
    task = next(vae_batch(learner, 1).chunks(1))
    support, noise = task.support[0], {p: {n: x[0] for n, x in of.items()} for p, of in task.support_noise.items()}
    carry = learner.begin(support)
    code = carry[1]["the code"][0].detach().requires_grad_()
    weights = {**learner.start(), **learner.decoded(learner.start(), code)}
    expected = torch.zeros(3, dtype=torch.float64)
    for player, count in (("discriminator", 2), ("generator", 1)):
        held = {n: w if game.player_of(n) == player else w.detach() for n, w in weights.items()}
        for visit in range(count):
            draws = {name: x[0, visit] for name, x in noise[player].items()}
            loss = with_weights(game, held).support_loss(player, support, draws)
            expected += torch.autograd.grad(loss, code, retain_graph=True)[0]
    after = learner.advance(carry, support, at_step(noise, 0), 0, {})[1]["the code"][0]
    torch.testing.assert_close(after, code - 0.5 * expected, rtol=1e-10, atol=1e-12)
    assert expected.abs().min() > 0


def test_before_any_step_nothing_is_adapted_and_no_image_is_needed():
    learner = vae_learner()
    images = torch.rand(2, 3, 1, 8, 8, dtype=torch.float64)
    for support in (images, images[:, :0]):
        adapted = adapt_tasks(learner, support, (0, "test"), steps=0)
        assert not any(d.any() for d in adapted.difference.values())
    mean, log_variance = learner.encoder(images[0, :0])
    assert torch.equal(mean, torch.zeros(3).double())
    assert torch.equal(log_variance, torch.zeros(3).double())


def test_the_code_may_be_read_from_other_images_than_the_steps_are_taken_on():
    learner = quadratic(steps=1, code_steps=1)
    own, other = IMAGES[:1, :2], IMAGES[1:2, :2]
    found = adapt_tasks(learner, own, (0, "test"), read=other).difference["weight"][0]
    basis, code = learner.decoder["weight"].detach(), learner.encoded(other[0]).detach()
    slope = CURVATURE @ (learner.generator.weight.detach() + basis @ code - own[0].mean(0).flatten())
    torch.testing.assert_close(found, basis @ (code - RATE * basis.T @ slope), rtol=0, atol=1e-12)
    assert "another task's code" in contenders(learner, {})


# the encoder


def test_the_order_of_the_support_says_nothing_and_its_images_do():
    learner = vae_learner()
    support = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    first, shuffled, other = (learner.encoder(x) for x in (support, support[[2, 0, 3, 1]], support[[0, 1, 2, 2]]))
    for one, again, changed in zip(first, shuffled, other, strict=True):
        torch.testing.assert_close(again, one, rtol=1e-12, atol=1e-14)
        assert not torch.allclose(changed, one, rtol=1e-3)


def test_it_is_the_mean_over_all_pairs():
    learner = vae_learner()
    support = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    codes = learner.encoder.image(support)
    each = torch.stack([learner.encoder.pair(torch.cat([a, b])) for a in codes for b in codes]).mean(0)
    mean, log_variance = learner.encoder(support)
    torch.testing.assert_close(mean, each[:3])
    torch.testing.assert_close(log_variance, 8 * torch.tanh(each[3:] / 8))


def test_a_code_is_a_draw_in_meta_training_and_the_mean_of_a_trained_model():
    learner = vae_learner()
    support = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    mean, log_variance = learner.encoder(support)
    assert torch.equal(learner.encoded(support), mean)
    torch.manual_seed(0)
    whole = learner.task_noise(Draws((5,)))
    again = learner.task_noise(Draws((5,)))
    assert torch.equal(whole["code"]["normal"], again["code"]["normal"])
    drawn = learner.encoded(support, whole)
    torch.testing.assert_close((drawn - mean) / log_variance.exp().sqrt(), whole["code"]["normal"].double())


# the outer loss


def test_what_is_paid_is_what_torch_says():
    plain = vae_learner(**PAYS_NOTHING)
    batch = vae_batch(plain)
    task = tuple(next(batch.chunks(1)))

    def objective(learner):
        found, losses, _ = over_tasks(lambda one: learner.objectives(one), "loop", shared=0)(next(batch.chunks(1)))
        return found["vae"][0] - losses["vae"][0]

    assert objective(plain).abs() == 0
    normal = plain.encoder(task[0][0])
    divergence = kl_divergence(Normal(normal[0], (0.5 * normal[1]).exp()), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(objective(vae_learner(**{**PAYS_NOTHING, "kl": 0.7})), 0.7 * divergence)
    begun = plain.encoded(task[0][0], {"code": {"normal": task[4]["code"]["normal"][0]}})
    noise = {p: {n: x[0] for n, x in of.items()} for p, of in task[2].items()}
    carries = list(trajectory(plain, task[0][0], noise, 3, {"code": {"normal": task[4]["code"]["normal"][0]}}))
    ended = carries[2][1]["the code"][0]
    assert torch.equal(carries[3][1]["the code"][0], ended)  # the last step goes on in the weights
    drift = (ended - begun).square().sum()
    torch.testing.assert_close(objective(vae_learner(**{**PAYS_NOTHING, "drift": 0.3})), 0.3 * drift)
    assert drift > 0


def test_the_encoder_alone_pays_for_drift_and_where_the_steps_ended_is_a_constant():
    batch = vae_batch(vae_learner(), 1)
    plain, paying = (gradient(vae_learner(**{**PAYS_NOTHING, "drift": w}), batch) for w in (0.0, 0.3))
    learner = vae_learner()
    task = next(batch.chunks(1))
    whole = {"code": {"normal": task.task_noise["code"]["normal"][0]}}
    noise = {p: {n: x[0] for n, x in of.items()} for p, of in task.support_noise.items()}
    ended = list(trajectory(learner, task.support[0], noise, 3, whole))[-1][1]["the code"][0].detach()
    (0.3 * (ended - learner.encoded(task.support[0], whole)).square().sum()).backward()
    for name, w in learner.named_parameters():
        extra = w.grad if name.startswith("encoder.") else torch.zeros_like(w)
        torch.testing.assert_close(paying[name] - plain[name], extra, rtol=1e-6, atol=1e-10, msg=name)


def test_an_orthogonal_decoder_has_no_correlations_and_others_have_those_of_their_columns():
    learner = leo(Bilinear(matrix(2)), code=2)
    with torch.no_grad():
        for name in ("generator.x", "discriminator.y"):
            learner.decoder[name].zero_()
        learner.decoder["generator.x"][:2] = torch.tensor([[3.0, 2.0], [3.0, -2.0]])
    assert learner.correlations().abs() < 1e-12
    with torch.no_grad():
        learner.decoder["discriminator.y"][0, 0] = 4.0
        learner.decoder["discriminator.y"][0, 1] = 1.0
    cosine = 4.0 / (34.0**0.5 * 3.0)  # columns (3, 3, 4) and (2, -2, 1)
    torch.testing.assert_close(learner.correlations(), torch.tensor(2 * cosine**2).double())


@pytest.mark.parametrize("steps", [1, 3])
def test_the_meta_gradient_is_that_of_finite_differences(steps):
    """Without drift, whose constant no finite difference keeps still."""
    learner = vae_learner(steps=steps, drift=0.0)
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    check_finite_differences(learner, vae_batch(learner))


def test_the_meta_gradient_over_a_game_is_that_of_finite_differences():
    learner = leo(Bilinear(matrix(2) / 3), steps=3, code_steps=2, drift=0.0)
    check_finite_differences(learner, batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:]))


def test_going_back_step_by_step_gives_the_same_meta_gradient():
    """The state, where the code lies, is pulled back with the weights."""
    batch, learner = vae_batch(vae_learner()), vae_learner(kl=0.1, drift=0.1)
    exact = gradient(learner, batch)
    for segment in (1, 2):
        found = Adjoint(segment)(learner, meta_of(learner), batch).gradients
        for name, g in exact.items():
            torch.testing.assert_close(found[name], g, rtol=1e-9, atol=1e-12, msg=name)


def test_losses_that_are_told_are_the_plain_ones():
    learner = vae_learner(kl=10.0, drift=10.0, orthogonality=10.0)
    batch = vae_batch(learner)
    told = in_chunks(learner.meta_gradient, learner, meta_of(learner), batch).losses["vae"]
    plain = vae_learner(**PAYS_NOTHING)
    expected = in_chunks(plain.meta_gradient, plain, meta_of(plain), batch).losses["vae"]
    assert torch.equal(told, expected)


# options


def test_options_out_of_range_are_refused_in_one_line():
    for options, said in (
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"code_steps": 0}, "code_steps: expected 1 or more, got 0"),
        ({"code": 0}, "code: expected 1 or more"),
        ({"code_rate": 0.0}, "code_rate: expected a finite number above 0"),
        ({"kl": -1.0}, "kl: expected 0 or more"),
        (
            {"adapted_params": ("*",), "code": 500},
            "adapted_params: expected at most 200,000 numbers from a code to weights, got",
        ),
    ):
        with pytest.raises(MetagenError, match=said) as refused:
            LEO(tiny_vae(), **{"widths": (2, 4), **options})
        assert "\n" not in str(refused.value)


def test_regularisers_have_their_say_too():
    learner = vae_learner(**PAYS_NOTHING)
    task = next(vae_batch(learner).chunks(1))
    task = tree_map(lambda x: x[0], task)
    plain = learner.objectives(task)[0]["vae"]
    MetaTraining(learner.generator, lambda _: learner, regularise={"l2_start": 2.0})
    start, end = (
        learner.start(),
        list(trajectory(learner, task.support, task.support_noise, learner.steps, task.task_noise))[-1][0],
    )
    away = sum((w - start[name]).square().sum() for name, w in end.items())
    assert away > 1e-6
    torch.testing.assert_close(learner.objectives(task)[0]["vae"], plain + away)
