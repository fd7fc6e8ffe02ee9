"""A mixture of optimisers: its known limits, what is sampled, and gradient to all that is learned."""

from __future__ import annotations

import pytest
import torch

from metagen.adaptation import Mixture, adapt, at_step, task_batch
from metagen.adaptation.steps.mixture import MEMBERS
from metagen.core.philox import Draws, rows_of
from metagen.errors import MetagenError
from metagen.learners import OptimiserMixture
from tests.doubles import Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import check_finite_differences, gradient

CURVATURE = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
IMAGES = 1 + torch.rand(3, 5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
NO_NOISE = {"quadratic": {"none": torch.zeros(9, 5)}}
LOGITS = torch.tensor([0.5, -1.0, 1.5, 0.0])
LIBRARY = {
    "sgd": lambda w, rate: torch.optim.SGD([w], rate),
    "momentum": lambda w, rate: torch.optim.SGD([w], rate, momentum=0.9),
    "rmsprop": lambda w, rate: torch.optim.RMSprop([w], rate, alpha=0.99),
    "adam": lambda w, rate: torch.optim.Adam([w], rate, betas=(0.9, 0.999)),
}


def batch_of(learner, images):
    return task_batch(learner, images[:, :2], images[:, 2:], (0, "test"), range(len(images)))


def set_to(parameters, values):
    with torch.no_grad():
        for parameter in parameters.parameters():
            parameter.copy_(values)


@pytest.mark.parametrize("choice", ["relaxed", "sampled"])
@pytest.mark.parametrize("member", MEMBERS)
def test_all_weight_on_one_member_is_the_library_optimiser(member, choice):
    learner = OptimiserMixture(Quadratic(CURVATURE), rate=0.1, choice=choice)
    place = MEMBERS.index(member)
    set_to(learner.step.logits, 1e3 * torch.eye(4)[place])
    set_to(learner.step.log_scale, torch.tensor(2.0).log())
    found = adapt(learner, IMAGES[0], NO_NOISE, 9)["weight"]
    twin = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = LIBRARY[member](twin, 2 * learner.step.rates[place])
    for _ in range(9):
        optimiser.zero_grad()
        gap = twin - IMAGES[0].mean(0).flatten()
        (0.5 * gap @ CURVATURE @ gap).backward()
        optimiser.step()
    torch.testing.assert_close(found, twin.detach(), rtol=0, atol=1e-6)


def test_the_first_step_of_a_relaxed_mixture_is_the_mean_of_the_members_by_their_shares():
    """Where all memories are zero every member's first direction is known: g, g, 10 sign(g), sign(g)."""
    learner = OptimiserMixture(Quadratic(CURVATURE), rate=0.1, temperature=2.0)
    set_to(learner.step.logits, LOGITS)
    shares = (LOGITS.double() / 2).softmax(0)
    slope = -CURVATURE @ IMAGES[0].mean(0).flatten()
    directions = torch.stack([slope, slope, 10 * slope.sign(), slope.sign()])
    expected = -(shares * torch.tensor([0.1, 0.1, 0.001, 0.01], dtype=torch.float64)) @ directions
    torch.testing.assert_close(adapt(learner, IMAGES[0], NO_NOISE, 1)["weight"], expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_most_sampled_member_is_as_likely_as_the_softmax_of_the_logits(temperature):
    step = Mixture({"a.w": torch.zeros(1), "b.w": torch.zeros(1)}, (1.0,) * 4, "sampled", temperature)
    set_to(step.logits, LOGITS)
    draws = 4000
    noise = step.task_noise(Draws((0,), rows_of(range(draws))))["gumbel"]
    drawn = [torch.stack(list(step.mixing_weights({"gumbel": each}).values())) for each in noise]
    shares = torch.stack(drawn).detach()  # [draws, layers, 4]
    torch.testing.assert_close(shares.sum(-1), torch.ones(draws, 2))
    expected = LOGITS.softmax(0)
    for layer in range(2):
        found = torch.eye(4)[shares[:, layer].argmax(-1)].mean(0)
        assert ((found - expected).abs() < 4 * (expected * (1 - expected) / draws).sqrt()).all()
    together = (shares[:, 0].argmax(-1) == shares[:, 1].argmax(-1)).float().mean()
    assert (together - expected.square().sum()).abs() < 0.04  # layers are drawn apart


def test_a_trained_model_takes_the_most_likely_member_and_a_relaxed_one_draws_nothing():
    weights = {"a.w": torch.zeros(1)}
    sampled, relaxed = (Mixture(weights, (1.0,) * 4, choice) for choice in ("sampled", "relaxed"))
    for step in (sampled, relaxed):
        set_to(step.logits, LOGITS)
    assert sampled.mixing_weights({})["a"].tolist() == [0, 0, 1, 0]
    torch.testing.assert_close(relaxed.mixing_weights({})["a"], LOGITS.softmax(0))
    assert relaxed.task_noise(Draws((0,))) == {}


def test_a_tasks_draw_is_one_for_all_its_steps_and_does_not_hear_of_other_tasks():
    torch.manual_seed(0)
    learner = OptimiserMixture(tiny_vae(), steps=3, choice="sampled", adapted_params=("decoder.*",))
    images = torch.rand(3, 5, 1, 8, 8)
    batch = batch_of(learner, images)
    alone = task_batch(learner, images[1:2, :2], images[1:2, 2:], (0, "test"), [1])
    drawn, again = batch.task_noise["step"]["gumbel"], alone.task_noise["step"]["gumbel"]
    assert torch.equal(drawn[1], again[0])
    assert len({tuple(draw.flatten().tolist()) for draw in drawn}) == 3
    whole = {"generator": {}, "step": {"gumbel": drawn[0]}}
    carry = learner.begin(batch.support[0], whole)
    before = {name: state[0] for name, state in carry[1].items()}
    noise = {"vae": {"latent": batch.support_noise["vae"]["latent"][0]}}
    for index in range(3):
        carry = learner.advance(carry, batch.support[0], at_step(noise, index), index, whole)
    assert all(torch.equal(state[0], before[name]) for name, state in carry[1].items())
    assert torch.equal(before["decoder.stem.bias"], before["decoder.stem.weight"])  # one draw a layer
    assert not torch.equal(before["decoder.stem.bias"], before[f"{learner.step.layers[0]}.bias"])


@pytest.mark.parametrize("choice", ["relaxed", "sampled"])
def test_gradient_reaches_every_logit_and_every_scale(choice):
    learner = OptimiserMixture(Quadratic(CURVATURE), steps=3, rate=0.05, choice=choice)
    found = gradient(learner, batch_of(learner, IMAGES))
    assert (found["step.logits.weight"].abs() > 1e-6).all()
    assert (found["step.log_scale.weight"].abs() > 1e-6).all()
    assert found["step.logits.weight"].sum().abs() < 1e-9  # a softmax does not hear of a shift


def test_the_meta_gradient_is_finite_where_every_inner_gradient_is_zero():
    learner = OptimiserMixture(Quadratic(CURVATURE), steps=2, rate=0.1)
    still = torch.zeros(1, 4, 1, 2, 2, dtype=torch.float64)  # the start is the optimum of the support
    found = gradient(learner, task_batch(learner, still, still + 1, (0, "t"), [0]))
    assert all(g.isfinite().all() for g in found.values())


@pytest.mark.parametrize("choice", ["relaxed", "sampled"])
def test_the_gradient_is_that_of_finite_differences(choice):
    torch.manual_seed(0)
    learner = OptimiserMixture(tiny_generator("vae").double(), 3, 0.01, choice, adapted_params=("decoder.stem.bias",))
    check_finite_differences(learner, batch_of(learner, torch.rand(2, 5, 1, 8, 8, dtype=torch.float64)))


def test_mistakes_are_told_in_one_line():
    with pytest.raises(MetagenError, match=r"choice.*did you mean sampled"):
        OptimiserMixture(tiny_vae(), choice="sample")
    with pytest.raises(MetagenError, match="rate: expected a finite number above 0"):
        OptimiserMixture(tiny_vae(), rate=0.0)
    with pytest.raises(MetagenError, match="temperature: expected a finite number above 0"):
        OptimiserMixture(tiny_vae(), temperature=-1.0)
