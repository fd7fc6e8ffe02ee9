"""What sets the variants of MAML apart: parts, deltas, learned rates, shares of the outer loss."""

from __future__ import annotations

import pytest
import torch

from metagen.adaptation import select_params
from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.learners import ANIL, FOMAML, MAML, MAMLPP, Auxiliary, Joint, LowRankMAML, MetaSGD, adapt_tasks
from metagen.learners.model_files import build, describe
from metagen.model import Model, load
from tests.doubles import VARIANTS, Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import IMAGES, batch_for, check_finite_differences, gradient, matrix, meta_of

CURVATURE = matrix(1) @ matrix(1).T / 4


def vae_batch(learner, tasks=2):
    images = torch.rand(tasks, 6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return batch_for(learner, images[:, :2], images[:, 2:])


def same_vae():
    torch.manual_seed(0)
    return tiny_vae().double()


def assert_same(found, expected, **tolerance):
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, **{"rtol": 1e-9, "atol": 1e-12, **tolerance})


# what moves


@pytest.mark.parametrize("name", VARIANTS)
def test_every_generator_has_parts_that_mean_weights(name):
    generator = tiny_generator(name)
    assert {"head", "last_block", "biases"} <= generator.parts.keys()
    sizes = {part: len(select_params(generator, (part,))) for part in generator.parts}
    assert sizes["head"] < sizes["last_block"] < len(list(generator.parameters()))


def test_parts_name_what_they_say():
    vae = tiny_vae(norm="group")
    assert select_params(vae, ("normalisation",)).keys() == {
        *(f"encoder.convs.{n}.{kind}" for n in (1, 4) for kind in ("weight", "bias")),
        *(f"decoder.convs.{n}.{kind}" for n in (0, 3) for kind in ("weight", "bias")),
    }
    assert all(name.endswith(".bias") for name in select_params(vae, ("biases",)))
    assert select_params(vae, ("head",)).keys() == {"decoder.convs.5.weight", "decoder.convs.5.bias"}
    assert (
        select_params(vae, ("decoder.*", "!head")).keys()
        == select_params(vae, ("decoder.*",)).keys() - select_params(vae, ("head",)).keys()
    )
    with pytest.raises(MetagenError, match="the generator has the parts biases, head, last_block"):
        select_params(tiny_vae(), ("normalisation",))


@pytest.mark.parametrize("part", ["head", "last_block", "biases"])
def test_an_adapted_model_stores_what_moved_alone(tmp_path, part):
    torch.manual_seed(0)
    model = Model(ANIL(tiny_vae(), steps=2, rate=0.01, adapted_params=(part,)), {})
    model.save(tmp_path / "base")
    mine = model.adapt(torch.rand(3, 1, 8, 8))
    mine.save(tmp_path / "mine")
    again = load(tmp_path / "mine")
    assert again.adapted.difference.keys() == select_params(tiny_vae(), (part,)).keys()
    assert torch.equal(again.sample(3), mine.sample(3))


# low-rank deltas


def test_deltas_begin_as_nothing_and_change_a_weight_by_their_rank():
    torch.manual_seed(0)
    plain = tiny_vae(widths=(4, 8))
    images, noise = torch.rand(4, 1, 8, 8), plain.noise(4, Draws((0,)))
    before = plain.generate(noise, images)
    weight = plain.decoder.stem.weight.detach().clone()
    learner = LowRankMAML(plain, steps=6, rate=0.05, layers=("decoder.stem.*",), rank=1)
    assert torch.equal(learner.generator.generate(noise, images), before)
    stem = "decoder.stem.parametrizations.weight"
    assert learner.adapted_names == {f"{stem}.0.left", f"{stem}.0.right"}
    found = adapt_tasks(learner, images[None], (0, "t")).difference
    base = dict(learner.generator.named_parameters())
    left, right = (base[f"{stem}.0.{side}"] + found[f"{stem}.0.{side}"][0] for side in ("left", "right"))
    assert torch.linalg.matrix_rank(left @ right) == 1
    assert (left @ right).abs().max() > 1e-4
    assert torch.equal(base[f"{stem}.original"], weight)


def test_a_first_step_of_deltas_is_the_projected_gradient():
    """dL/dL = G R' and dL/dR = L' G = 0 at the start, with G the gradient of the whole weight."""
    vae = same_vae()
    twin = same_vae()
    learner = LowRankMAML(vae, steps=1, rate=0.1, layers=("decoder.stem.*",), rank=2)
    batch = vae_batch(learner, tasks=1)
    noise = {"latent": batch.support_noise["vae"]["latent"][0, 0, 0]}
    twin.support_loss("vae", batch.support[0], noise).backward()
    full = twin.decoder.stem.weight.grad
    right = vae.decoder.stem.parametrizations.weight[0].right.detach()
    found = adapt_tasks(learner, batch.support, (0, "test")).difference
    stem = "decoder.stem.parametrizations.weight.0"
    torch.testing.assert_close(found[f"{stem}.left"][0], -0.1 * full @ right.T, rtol=1e-9, atol=1e-12)
    assert not found[f"{stem}.right"].any()


def test_ranks_and_layers_that_mean_nothing_are_refused():
    with pytest.raises(MetagenError, match=r"rank: expected 1 to 2, the smaller side of .*, got 3"):
        LowRankMAML(tiny_vae(), layers=("decoder.stem.weight",), rank=3)
    with pytest.raises(MetagenError, match="means no linear or convolutional layer"):
        LowRankMAML(tiny_vae(), layers=("biases",))


# learned rates


@pytest.mark.parametrize("per", ["parameter", "layer", "step"])
def test_meta_sgd_with_equal_rates_is_maml(per):
    plain, learned = MAML(same_vae(), steps=3, rate=1e-3), MetaSGD(same_vae(), steps=3, rate=1e-3, per=per)
    expected = gradient(plain, vae_batch(plain))
    assert_same(gradient(learned, vae_batch(learned)), expected)


def test_meta_sgd_on_a_quadratic_has_its_closed_form():
    """One step at rates R: phi = w - R A (w - s), dL/dw = (I - R A)' A (phi - q), dL/dR = -A (w - s) * A (phi - q)."""
    learner = MetaSGD(Quadratic(CURVATURE), steps=1, rate=0.1)
    scale = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    with torch.no_grad():
        learner.step.scale["weight"].copy_(scale)
        learner.generator.get_parameter("weight").copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    support, query = IMAGES[:, :2], IMAGES[:, 2:]
    w, (s, q) = (
        learner.generator.get_parameter("weight").detach(),
        (images.mean(1).flatten(1) for images in (support, query)),
    )
    downhill = (w - s) @ CURVATURE
    at_query = (w - 0.1 * scale * downhill - q) @ CURVATURE
    found = gradient(learner, batch_for(learner, support, query))
    expected = {
        "generator.weight": (at_query - (0.1 * scale * at_query) @ CURVATURE).mean(0),
        "step.scale.weight": (-0.1 * downhill * at_query).mean(0),
    }
    assert_same(found, expected)


def test_rates_of_a_step_go_on_at_the_last():
    learner = MetaSGD(Quadratic(torch.eye(4, dtype=torch.float64)), steps=2, rate=0.1, per="step")
    with torch.no_grad():
        learner.step.scale["weight"].copy_(torch.tensor([1.0, 3.0]))
    support = torch.ones(1, 1, 1, 2, 2, dtype=torch.float64)
    moved = adapt_tasks(learner, support, (0, "t"), steps=4).difference["weight"][0]
    torch.testing.assert_close(moved, torch.full((4,), 1 - 0.9 * 0.7**3, dtype=torch.float64))


def test_rates_that_are_none_are_refused():
    with pytest.raises(MetagenError, match="unknown per 'tensor': choose from layer, parameter, step"):
        MetaSGD(tiny_vae(), per="tensor")
    with pytest.raises(MetagenError, match="rate: expected a finite number above 0"):
        MetaSGD(tiny_vae(), rate=-1.0)


# MAML++


def test_the_loss_of_every_step_counts_less_and_less():
    learner = MAMLPP(tiny_vae(), steps=4, multi_step_until=0.5)
    for progress, expected in {0.0: [0, 0.25, 0.25, 0.25, 0.25], 0.25: [0, 0.125, 0.125, 0.125, 0.625]}.items():
        learner.anneal(progress)
        assert list(learner.loss_weights()) == pytest.approx(expected)
    for progress in (0.5, 1.0):
        learner.anneal(progress)
        assert learner.loss_weights() == (0, 0, 0, 0, 1)


def test_a_multi_step_gradient_is_the_sum_of_those_of_each_step():
    learner = MAMLPP(same_vae(), steps=3, rate=1e-3, second_order_from=0.0)
    learner.anneal(0.1)
    found, shares = gradient(learner, vae_batch(learner)), learner.loss_weights()
    each = [MAML(same_vae(), steps=n, rate=1e-3) for n in (1, 2, 3)]
    parts = [gradient(one, vae_batch(one)) for one in each]
    assert_same(found, {n: sum(s * part[n] for s, part in zip(shares[1:], parts, strict=True)) for n in parts[0]})


def test_before_its_time_the_gradient_is_of_first_order():
    learner = MAMLPP(same_vae(), steps=3, rate=1e-3, multi_step_until=0.0, second_order_from=0.5)
    second, first = MAML(same_vae(), steps=3, rate=1e-3), FOMAML(same_vae(), steps=3, rate=1e-3)
    for progress, other in ((0.4, first), (0.5, second)):
        learner.anneal(progress)
        assert_same(gradient(learner, vae_batch(learner)), gradient(other, vae_batch(other)))


# the auxiliary adaptation loss


@pytest.mark.parametrize("weight", [0.0, 0.3, 7.0])
def test_the_auxiliary_loss_lies_between_joint_training_and_maml(weight):
    learner = Auxiliary(same_vae(), steps=2, rate=1e-3, weight=weight)
    joint, maml = Joint(same_vae()), MAML(same_vae(), steps=2, rate=1e-3)
    parts = [gradient(each, vae_batch(each)) for each in (joint, maml)]
    assert_same(gradient(learner, vae_batch(learner)), {n: parts[0][n] + weight * parts[1][n] for n in parts[0]})


def test_an_auxiliary_loss_that_does_not_count_may_diverge():
    learner = Auxiliary(Quadratic(CURVATURE), steps=3, rate=1e200, weight=0.0)
    batch = batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:])
    assert not learner.meta_gradient(learner, meta_of(learner), batch).losses["quadratic"].isfinite().any()
    joint = Joint(Quadratic(CURVATURE))
    assert_same(gradient(learner, batch), gradient(joint, batch_for(joint, IMAGES[:, :2], IMAGES[:, 2:])))


def test_an_auxiliary_loss_without_steps_is_refused():
    with pytest.raises(MetagenError, match="expected a finite weight >= 0 and 1 or more steps"):
        Auxiliary(tiny_vae(), steps=0)


@pytest.mark.parametrize(
    "learner",
    [
        lambda vae: ANIL(vae, steps=2, rate=1e-3),
        lambda vae: LowRankMAML(vae, steps=2, rate=1e-3, rank=1),
        lambda vae: MetaSGD(vae, steps=2, rate=1e-3),
        lambda vae: MetaSGD(vae, steps=2, rate=1e-3, per="layer"),
        lambda vae: MAMLPP(vae, steps=3, rate=1e-3, second_order_from=0.0),
        lambda vae: Auxiliary(vae, steps=2, rate=1e-3),
    ],
    ids=["anil", "low_rank", "meta_sgd", "per_layer", "maml_pp", "auxiliary"],
)
def test_meta_gradients_are_those_of_finite_differences(learner):
    made = learner(same_vae())
    made.anneal(0.05)
    check_finite_differences(made, vae_batch(made, tasks=1))
    twin = build(describe(made))
    assert twin.state_dict().keys() == made.state_dict().keys()
