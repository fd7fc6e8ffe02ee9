"""Fine-tuning near its start: closed forms, Fisher information by hand, and that it travels with the model."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from metagen.adaptation import select_params
from metagen.errors import MetagenError
from metagen.learners import Joint, Transfer, adapt_tasks
from metagen.model import Model, load
from metagen.training.meta_training import MetaTraining
from tests.doubles import Bilinear, Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import IMAGES, batch_for, gradient, matrix
from tests.test_training import assert_same_run, checkpoint

CURVATURE = matrix(1) @ matrix(1).T / 4
START = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def quadratic(**options):
    generator = Quadratic(CURVATURE)
    with torch.no_grad():
        generator.weight.copy_(START)
    return Transfer(generator, **{"rate": 0.2, "optimiser": "sgd", "test_steps": 600, **options})


@pytest.mark.parametrize("anchor", ["l2", "ewc"])
def test_it_ends_at_the_known_minimum(anchor):
    """Of 1/2 (w - m)' A (w - m) + s/2 (w - t)' F (w - t): (A + s F) w = A m + s F t."""
    learner, images = quadratic(anchor=anchor, strength=0.7), IMAGES[:, :2]
    fisher = torch.tensor([0.1, 4.0, 0.5, 1.0], dtype=torch.float64)
    if anchor == "ewc":
        learner.importance("weight").copy_(fisher)
    held = 0.7 * torch.diag(fisher if anchor == "ewc" else torch.ones_like(fisher))
    found = START + adapt_tasks(learner, images, (0, "test")).difference["weight"]
    for weight, image in zip(found, images.mean(1).flatten(1), strict=True):
        expected = torch.linalg.solve(CURVATURE + held, CURVATURE @ image + held @ START)
        torch.testing.assert_close(weight, expected, rtol=0, atol=1e-9)


def test_fisher_information_is_the_corrected_mean_of_squared_gradients():
    learner = quadratic(anchor="ewc")
    gradients = torch.randn(5, 4, dtype=torch.float64)
    for g in gradients:
        learner.update_buffers({"generator.weight": g}, {})
    weights = 0.99 ** torch.arange(4, -1, -1, dtype=torch.float64)
    expected = (weights[:, None] * gradients.square()).sum(0) / weights.sum()
    torch.testing.assert_close(learner.importance("weight"), expected, rtol=1e-12, atol=0)


def test_each_player_pays_for_its_own_weights():
    learner = Transfer(Bilinear(matrix(2)), strength=3.0)
    start = {name: w.detach() for name, w in learner.start().items()}
    away = {"generator.x": start["generator.x"] + 1.0, "discriminator.y": start["discriminator.y"] + 2.0}
    free = Joint(learner.generator)
    for player, paid in (("generator", 3 / 2 * 4 * 1.0), ("discriminator", 3 / 2 * 4 * 4.0)):
        with_anchor, without = (each.support_loss(away, start, player, IMAGES[0], {}) for each in (learner, free))
        torch.testing.assert_close(with_anchor - without, torch.tensor(paid).double())


@pytest.mark.parametrize("anchor", ["l2", "ewc"])
def test_at_no_strength_it_is_joint_training_bit_for_bit(anchor):
    torch.manual_seed(0)
    vae, images = tiny_vae(), torch.rand(2, 6, 1, 8, 8)
    learner, joint = Transfer(vae, anchor=anchor, strength=0.0, test_steps=5), Joint(vae, test_steps=5)
    batch = batch_for(joint, images[:, :2], images[:, 2:])
    expected, found = gradient(joint, batch), gradient(learner, batch)
    assert all(torch.equal(found[name], g) for name, g in expected.items())
    learner.update_buffers(found, {})
    one, other = (adapt_tasks(each, images, (0, "test")).difference for each in (learner, joint))
    assert all(torch.equal(one[name], d) for name, d in other.items())


def test_a_stronger_anchor_holds_more():
    torch.manual_seed(0)
    vae, images = tiny_vae(), torch.rand(2, 6, 1, 8, 8)
    far = []
    for strength in (0.0, 10.0, 1000.0):
        moved = adapt_tasks(Transfer(vae, strength=strength, test_steps=10), images, (0, "test")).difference
        far.append(sum(float(d.square().sum()) for d in moved.values()))
    assert far[0] > far[1] > far[2] > 0


# Fisher information in training, in checkpoints and in saved models

KIND = (
    *("--model.learner", "Transfer", "--model.learner.anchor", "ewc", "--model.learner.adapted_params", "[decoder.*]"),
    *("--model.learner.test_steps", "2", "--model.learner.strength", "100"),
)


def test_training_writes_it_from_gradients_before_they_are_clipped(fit, tmp_path, monkeypatch):
    seen = []
    update = Transfer.update_buffers

    def recorded(self, gradients, records):
        seen.append({name: g.clone() for name, g in gradients.items()})
        update(self, gradients, records)

    monkeypatch.setattr(Transfer, "update_buffers", recorded)
    options = ("--data.episodes", "12", "--trainer.accumulate_grad_batches", "3", "--model.clip", "1e-3")
    assert fit(tmp_path, *KIND, *options) == 0
    assert len(seen) == 4  # once an optimiser step
    weights = 0.99 ** torch.arange(3, -1, -1)
    state = checkpoint(tmp_path)["state_dict"]
    assert int(state["learner.writes"]) == 4
    for name in ("decoder.stem.bias", "decoder.stem.weight"):
        each = torch.stack([g[f"generator.{name}"].square() for g in seen])
        expected = torch.einsum("t,t...->...", weights, each) / weights.sum()
        torch.testing.assert_close(state["learner.fisher/" + name.replace(".", "/")], expected, rtol=1e-5, atol=0)
        assert expected.max() > 1e-3**2


def test_a_run_that_was_stopped_goes_on_exactly_and_an_average_takes_what_was_written(fit, tmp_path):
    options = (*KIND, "--ema.decay", "0.9")
    assert fit(tmp_path / "whole", *options) == 0
    assert fit(tmp_path / "parts", *options, "--trainer.max_steps", "6") == 0
    assert fit(tmp_path / "parts", *options, "--ckpt_path", "last") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    state = checkpoint(tmp_path / "whole")
    name = "learner.fisher/decoder/stem/bias"
    assert torch.equal(state["state_dict"][name], state["current_model_state"][name])
    assert state["state_dict"][name].any()
    exported = load_file(tmp_path / "whole" / "export" / "model.safetensors")
    best = checkpoint(tmp_path / "whole", "best")["state_dict"]
    assert torch.equal(exported[name.removeprefix("learner.")], best[name])


def test_it_is_saved_and_loaded_with_a_model(tmp_path):
    torch.manual_seed(0)
    learner = Transfer(tiny_vae(), anchor="ewc", strength=10.0, test_steps=3, adapted_params=("decoder.*",))
    learner.update_buffers({f"generator.{name}": torch.randn_like(w) for name, w in learner.start().items()}, {})
    Model(learner, {}).save(tmp_path / "model")
    again, images = load(tmp_path / "model"), torch.rand(3, 1, 8, 8)
    assert isinstance(again.learner, Transfer)
    assert all(torch.equal(again.learner.importance(name), learner.importance(name)) for name in learner.adapted_names)
    assert torch.equal(again.adapt(images).sample(3), Model(learner, {}).adapt(images).sample(3))
    assert int(again.learner.writes) == 1


def test_a_learner_without_it_has_no_buffers():
    assert not list(Transfer(tiny_vae(), anchor="l2").buffers())
    assert not list(MetaTraining(tiny_vae(), Joint).buffers())


# options


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"anchor": "l1"}, "unknown anchor 'l1': did you mean l2"),
        ({"strength": -1.0}, "strength: expected 0 or more, got -1.0"),
        ({"strength": float("nan")}, "strength: expected 0 or more, got nan"),
        ({"strength": float("inf")}, "strength: expected a finite number, got inf"),
    ],
)
def test_options_out_of_range_are_refused_in_one_line(options, said):
    with pytest.raises(MetagenError, match=said) as refused:
        Transfer(tiny_vae(), **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("name", "options"), [("r3", {}), ("sngan", {}), ("wgan_gp", {"widths": (2, 2, 4)})])
def test_the_low_layers_of_a_critic_are_those_before_its_last_change_of_scale(name, options):
    """An image is halved once for each width: what is low makes all of the features but those of the last width."""
    game = tiny_generator(name, **options)
    low = select_params(game, ("critic_low",))
    layers = [each for each in low if each.endswith("weight") and low[each].ndim == 4]
    critic = game.discriminator
    last = 1 + max(int(each.split(".")[2]) for each in layers)
    halved = critic.convs[:last](torch.rand(1, 1, 8, 8))
    assert halved.shape[1:] == (game.widths[-2], *[8 >> (len(game.widths) - 1)] * 2)
    kept = select_params(game, ("*", "!critic_low"))
    assert not low.keys() & kept.keys()
    assert low.keys() | kept.keys() == dict(game.named_parameters()).keys()
    assert "discriminator.head.weight" in kept


def test_a_critic_of_one_scale_has_no_low_layers():
    game = tiny_generator("wgan_gp", widths=(4,))
    with pytest.raises(MetagenError, match="critic_low' matches no weight"):
        select_params(game, ("*", "!critic_low"))
