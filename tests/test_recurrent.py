"""Learned optimisers against what they are without their LSTM, against the library's cell and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from metagen.adaptation import SGD, adapt, trajectory
from metagen.adaptation.steps import CoordinateLSTM, MetaLSTM
from metagen.adaptation.steps.recurrent import lstm_cell, preprocessed
from metagen.errors import MetagenError
from metagen.generators import VAE
from metagen.learners import MAML, LearnedOptimiser, LSTMLearner
from tests.doubles import VARIANTS, Bilinear, Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import IMAGES, batch_for, check_finite_differences, gradient

RATE = 0.1
RULES = [CoordinateLSTM, MetaLSTM]
LEARNERS = [LearnedOptimiser, LSTMLearner]


def curved() -> Quadratic:
    return Quadratic(torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)))


def walked(rule, weights, gradients, losses):
    """The weights after a rule has been given these gradients, one step after the other."""
    state = rule.init(weights, torch.zeros(1, 1, 2, 2), {})
    for index, (g, loss) in enumerate(zip(gradients, losses, strict=True)):
        weights, state = rule.update(weights, g, state, index, loss)
    return weights


def some_steps(steps: int = 4, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (3, 2), "b.bias": (5,)}
    first, *gradients = [
        {n: torch.randn(*s, generator=rng, dtype=torch.float64) for n, s in shapes.items()} for _ in range(steps + 1)
    ]
    return first, gradients, list(torch.rand(steps, generator=rng, dtype=torch.float64) * 200)


def owners(weights, player="player"):
    return dict.fromkeys(weights, player)


@pytest.mark.parametrize("steps", [1, 5])
def test_without_its_corrections_a_learned_optimiser_is_gradient_descent(steps):
    learner = LearnedOptimiser(curved(), steps, RATE, adapted_params=("*",), counts="last")
    other = LSTMLearner(curved(), steps, RATE, adapted_params=("*",), counts="last")
    with torch.no_grad():
        for bare in (*learner.step.readout.parameters(), *other.step.gates.parameters()):
            bare.zero_()
        for begin in other.step.begin.parameters():
            begin[0] = torch.inf  # a forget gate of 1
    noise = {"quadratic": {"none": torch.zeros(steps, 2, dtype=torch.float64)}}
    expected = adapt(MAML(curved(), steps, RATE), IMAGES[0, :2], noise)["weight"]
    for each in (learner, other):
        torch.testing.assert_close(adapt(each, IMAGES[0, :2], noise)["weight"], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_begins_near_gradient_descent(rule):
    torch.manual_seed(0)
    weights, gradients, losses = some_steps()
    found = walked(rule(weights, owners(weights), RATE), weights, gradients, losses)
    for name, w in weights.items():
        descended = w - RATE * sum(g[name] for g in gradients)
        assert (found[name] - descended).norm() < 0.1 * (descended - w).norm()


@pytest.mark.parametrize("n", [1, 7])
def test_the_cell_is_the_library_cell(n):
    torch.manual_seed(0)
    library = torch.nn.LSTMCell(3, 5, dtype=torch.float64)
    weight = torch.cat([library.weight_ih, library.weight_hh], 1)
    bias = library.bias_ih + library.bias_hh
    state = expected = (torch.randn(n, 5, dtype=torch.float64), torch.randn(n, 5, dtype=torch.float64))
    for _ in range(3):
        x = torch.randn(n, 3, dtype=torch.float64)
        state, expected = lstm_cell(x, *state, weight, bias), library(x, expected)
        for ours, theirs in zip(state, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("value", [0.0, 1e-30, -1e-30, 1e-6, -1e-6, math.exp(-10), 0.3, -2.0, 1e4, -1e8])
def test_a_gradient_is_told_by_its_size_and_sign(value):
    if abs(value) >= math.exp(-10):
        expected = [math.log(abs(value)) / 10, math.copysign(1.0, value)]
    else:
        expected = [-1.0, math.exp(10) * value]
    at = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    found = preprocessed(at)
    assert found.tolist() == pytest.approx(expected, rel=1e-9)
    found.sum().backward()
    assert at.grad.isfinite()


def test_a_mixed_batch_of_gradients_is_told_one_by_one():
    values = torch.tensor([[0.0, -3.0], [1e-9, 1e-5]])
    for found, value in zip(preprocessed(values).flatten(0, 1), values.flatten(), strict=True):
        assert torch.equal(found, preprocessed(value))


@pytest.mark.parametrize("rule", RULES)
def test_permuted_coordinates_move_alike(rule):
    torch.manual_seed(0)
    weights, gradients, losses = some_steps()
    made = rule(weights, owners(weights), RATE)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    order = torch.tensor([3, 0, 4, 1, 2])

    def permuted(of):
        return {**of, "b.bias": of["b.bias"][order]}

    straight = walked(made, weights, gradients, losses)
    other = walked(made, permuted(weights), [permuted(g) for g in gradients], losses)
    for name, w in permuted(straight).items():
        torch.testing.assert_close(other[name], w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_coordinate_does_not_hear_of_the_others_and_remembers_its_own_past(rule):
    torch.manual_seed(0)
    weights, gradients, losses = some_steps(2)
    made = rule(weights, owners(weights), RATE)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    plain = walked(made, weights, gradients, losses)
    changed = [{**g, "b.bias": g["b.bias"].clone()} for g in gradients]
    changed[0]["b.bias"][2] *= -1
    other = walked(made, weights, changed, losses)
    assert (other["b.bias"] != plain["b.bias"]).tolist() == [False, False, True, False, False]
    assert torch.equal(other["a.weight"], plain["a.weight"])
    late = [made.update(weights, gradients[1], made.init(weights, IMAGES, {}), 1, losses[1])[0]]
    after = walked(made, weights, gradients[:1], losses[:1])
    step = plain["b.bias"] - after["b.bias"]
    assert not torch.allclose(step, late[0]["b.bias"] - weights["b.bias"])


@pytest.mark.parametrize("kind", LEARNERS)
@pytest.mark.parametrize("name", VARIANTS)
def test_the_gradient_through_the_inner_gradients_is_that_of_finite_differences(name, kind):
    torch.manual_seed(0)
    generator = tiny_generator(name).double()
    exact = ("biases", *(f"!{glob}" for glob in generator.estimated))  # of a step along an estimate none is the slope
    learner = kind(generator, 2, 1e-2, hidden=3, adapted_params=exact, second_order=True)
    images = torch.rand(1, 5, 1, 8, 8, dtype=torch.float64)
    check_finite_differences_of_the_objective(learner, batch_for(learner, images[:, :2], images[:, 2:]))


def check_finite_differences_of_the_objective(learner, batch):
    learner.counts = "last"  # so that the losses that are preprocessed are those that are differentiated
    check_finite_differences(learner, batch)
    last = gradient(learner, batch)
    learner.counts = "every"
    every = gradient(learner, batch)
    shorter = []
    for steps in range(1, learner.steps + 1):
        whole, learner.steps, learner.counts = learner.steps, steps, "last"
        shorter.append(gradient(learner, batch))
        learner.steps, learner.counts = whole, "every"
    for name, g in every.items():
        mean = sum(each[name] for each in shorter) / len(shorter)
        torch.testing.assert_close(g, mean, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(shorter[-1][name], last[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", LEARNERS)
def test_inner_gradients_are_constants_unless_asked_for(kind):
    torch.manual_seed(0)
    made = [kind(curved(), 3, RATE, hidden=4, adapted_params=("*",), second_order=second) for second in (False, True)]
    made[1].load_state_dict(made[0].state_dict())
    batch = batch_for(made[0], IMAGES[:, :2], IMAGES[:, 2:])
    first, second = (gradient(each, batch) for each in made)
    generator = made[0].generator
    expected = torch.zeros(4, dtype=torch.float64)
    for task in range(3):  # by hand: with constant gradients, d phi_i / d phi_0 is what the forget gates leave
        noise = {"quadratic": {"none": torch.zeros(3, 2, dtype=torch.float64)}}
        for moved, _ in list(trajectory(made[0], IMAGES[task, :2], noise, 3))[1:]:
            expected += generator.curvature @ (moved["weight"].detach() - IMAGES[task, 2:].mean(0).flatten()) / 9
    slack = 1e-12 if kind is LearnedOptimiser else 2e-2
    torch.testing.assert_close(first["generator.weight"], expected, rtol=slack, atol=slack)
    assert not torch.allclose(first["generator.weight"], second["generator.weight"], rtol=0.05)


def test_each_player_has_an_lstm_of_its_own_that_hears_its_own_loss():
    torch.manual_seed(0)
    learner = LearnedOptimiser(Bilinear(torch.eye(4, dtype=torch.float64)), 2, RATE, hidden=3, adapted_params=("*",))
    assert learner.player_of("step.weight.discriminator") == "discriminator"
    assert learner.player_of("step.readout.generator") == "generator"
    found = gradient(learner, batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:]))
    assert all(g.abs().sum() > 0 for g in found.values())


@pytest.mark.parametrize("kind", LEARNERS)
def test_what_cannot_be_is_refused_in_one_line(kind):
    with pytest.raises(MetagenError, match=r"at most 20,000 parameters, got .*; give fewer `adapted_params`") as caught:
        kind(VAE(), adapted_params=("*",))
    assert "\n" not in str(caught.value)
    with pytest.raises(MetagenError, match="rate: "):
        kind(tiny_vae(), rate=-1.0)
    with pytest.raises(MetagenError, match="hidden: expected 1 or more"):
        kind(tiny_vae(), hidden=0)
    with pytest.raises(MetagenError, match=r"unknown counts .*: .*every, last, late"):
        kind(tiny_vae(), counts="first")
    with pytest.raises(MetagenError, match="adapted_params: a learned optimiser needs something to move"):
        kind(tiny_vae(), adapted_params=())
    assert kind(tiny_vae(), steps=0).loss_weights() == (1.0,)
    assert kind(tiny_vae(), steps=3, counts="late").loss_weights() == pytest.approx((0, 1 / 6, 2 / 6, 3 / 6))


def test_steps_that_cannot_decay_so_are_refused_and_the_others_do():
    weights, gradients, losses = some_steps()
    with pytest.raises(MetagenError, match="decay: expected 0 to 1, got 2"):
        LearnedOptimiser(tiny_vae(), decay=2)
    rule = CoordinateLSTM(weights, owners(weights), RATE, decay=0.5)
    rule.readout["player"].data.zero_()
    found = walked(rule, weights, gradients, losses)
    for name, w in weights.items():
        expected = w - RATE * sum(g[name] / math.sqrt(t) for t, g in enumerate(gradients, 1))
        torch.testing.assert_close(found[name], expected, rtol=1e-12, atol=1e-12)


def test_an_input_gate_begins_below_one():
    with pytest.raises(MetagenError, match="rate: an input gate begins between 0 and 1, got 2"):
        LSTMLearner(tiny_vae(), rate=2)


def curvatures(seed: int) -> torch.Tensor:
    """The two curvatures of each of 16 bowls, [16, 2]."""
    rng = torch.Generator().manual_seed(seed)
    return torch.tensor([1.0, 30.0]) * (1 + 0.2 * torch.rand(16, 2, generator=rng))


def descended(rule, seed: int, steps: int = 8):
    """The mean loss 1/2 sum a w^2 on 16 bowls after each step, from random points."""
    rng = torch.Generator().manual_seed(1000 + seed)
    a, weights, losses = curvatures(seed), {"w": torch.randn(16, 2, generator=rng)}, []
    state = rule.init(weights, torch.zeros(1), {})
    for index in range(steps):
        loss = (0.5 * a * weights["w"].square()).sum(-1).mean()
        weights, state = rule.update(weights, {"w": (a * weights["w"]).detach()}, state, index, loss)
        losses.append((0.5 * a * weights["w"].square()).sum(-1).mean())
    return losses


def test_after_100_meta_steps_it_descends_further_than_the_best_rate():
    """Bowls of curvature 1 and 30: no one rate suits both."""
    torch.manual_seed(0)
    rule = CoordinateLSTM({"w": torch.zeros(16, 2)}, {"w": "p"}, 0.03, 8)
    optimiser = torch.optim.Adam(rule.parameters(), lr=0.02)
    for meta_step in range(100):
        optimiser.zero_grad()
        torch.stack(descended(rule, meta_step)).mean().backward()
        torch.nn.utils.clip_grad_norm_(rule.parameters(), 1.0)
        optimiser.step()
    held_out = range(5000, 5010)
    learned = sum(float(descended(rule, seed)[-1].detach()) for seed in held_out)
    rates = [0.07 * 1.15**-i for i in range(24)]
    best = min(sum(float(descended(SGD({"w": rate}), seed)[-1]) for seed in held_out) for rate in rates)
    assert learned < 0.7 * best
