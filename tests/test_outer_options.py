"""How meta-training steps: the course of the rate, weight decay, Adam's betas and the average of the weights."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

import pytest
import torch

from metagen.errors import MetagenError
from metagen.learners import MAML, Amortised, Joint, MetaGenerator
from metagen.model import Model
from metagen.training.callbacks import EMA
from metagen.training.initialisation import initialise_learner
from metagen.training.meta_training import MetaTraining, share_of_rate
from tests.doubles import Bilinear, tiny_generator, tiny_vae


def module(generator=None, learner=Joint, **options):
    """One that believes to be in a run of 100 steps."""
    made = MetaTraining(generator or tiny_vae(), learner, **options)
    data = SimpleNamespace(episodes_per_epoch=100)
    made._trainer = SimpleNamespace(max_epochs=1, accumulate_grad_batches=1, datamodule=data)  # type: ignore[assignment]
    return made


def optimiser(monkeypatch, made):
    monkeypatch.setattr(MetaTraining, "data", property(lambda self: self.trainer.datamodule))
    return made.configure_optimizers()["optimizer"]


def test_a_cosine_goes_from_the_peak_after_the_warmup_to_2_percent_at_the_end():
    def share(step, warmup=20):
        return share_of_rate("cosine", step, 100, warmup)

    assert share(0) == pytest.approx(1 / 20)
    assert [share(19), share(20)] == [1.0, 1.0]
    assert share(60) == pytest.approx(0.51)
    assert share(40) == pytest.approx(0.02 + 0.98 * (1 + math.cos(math.pi / 4)) / 2)
    assert share(100) == share(101) == pytest.approx(0.02)
    assert share(0, warmup=0) == 1.0
    shares = [share(step) for step in range(20, 101)]
    assert shares == sorted(shares, reverse=True)
    assert share(3, warmup=200) == pytest.approx(4 / 200)  # a run that ends before it is warm


def test_the_other_schedules_are_as_they_were():
    for step in range(0, 120, 7):
        rise = min(1.0, (step + 1) / 50)
        assert share_of_rate("constant", step, 100, 50) == rise
        assert share_of_rate("linear", step, 100, 50) == max(min(1.0, 2 * (1 - step / 100)), 0.0) * rise


def test_a_run_follows_its_schedule(monkeypatch):
    made = module(schedule="cosine", warmup=10, rate=0.5)
    adam = optimiser(monkeypatch, made)
    assert adam.param_groups[0]["lr"] == pytest.approx(0.05)


def test_weight_decay_takes_from_matrices_alone(monkeypatch):
    made = module(weight_decay=0.1, rate=0.5, warmup=0, schedule="constant")
    before = {name: w.detach().clone() for name, w in made.learner.named_parameters()}
    for w in made.learner.parameters():
        w.grad = torch.zeros_like(w)
    adam = optimiser(monkeypatch, made)  # the schedule holds it only while it is named
    adam.step()
    for name, w in made.learner.named_parameters():
        assert torch.equal(w, before[name] * (1 - 0.5 * 0.1) if w.ndim > 1 else before[name]), name
    assert {w.ndim > 1 for w in before.values()} == {True, False}


def test_weight_decay_is_apart_from_the_gradient(monkeypatch):
    made, twin = module(weight_decay=0.1, warmup=0), tiny_vae()
    twin.load_state_dict(made.learner.generator.state_dict())
    matrices, rest = ([w for w in twin.parameters() if (w.ndim > 1) == matrix] for matrix in (True, False))
    adamw = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": rest}], lr=1e-3, weight_decay=0)
    for one, other in zip(made.learner.generator.parameters(), twin.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    adam = optimiser(monkeypatch, made)
    adam.step()
    adamw.step()
    for one, other in zip(made.learner.generator.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other)


def test_without_weight_decay_the_optimiser_is_the_one_of_old(monkeypatch):
    made = module(Bilinear(torch.eye(4, dtype=torch.float64)), MAML, rate={"discriminator": 0.1, "generator": 0.2})
    adam = optimiser(monkeypatch, made)
    of_old = torch.optim.Adam([{"params": made._of(player), "lr": rate} for player, rate in made.rates.items()])
    state, old = adam.state_dict(), of_old.state_dict()
    assert len(state["param_groups"]) == 2
    for group, before in zip(state["param_groups"], old["param_groups"], strict=True):
        scheduled = {"lr", "initial_lr"}
        assert {k: v for k, v in group.items() if k not in scheduled} == {
            k: v for k, v in before.items() if k not in scheduled
        }


def test_betas_are_the_generators_unless_given(monkeypatch):
    assert optimiser(monkeypatch, module()).param_groups[0]["betas"] == tiny_vae().betas
    assert optimiser(monkeypatch, module(betas=(0.8, 0.95))).param_groups[0]["betas"] == (0.8, 0.95)


def stepped(monkeypatch, **options):
    """A module, its optimiser after 2 steps by gradients that are the weights, and a checkpoint of both."""
    torch.manual_seed(0)
    made = module(warmup=0, schedule="constant", **options)
    monkeypatch.setattr(MetaTraining, "data", property(lambda self: self.trainer.datamodule))
    both = made.configure_optimizers()
    adam, course = both["optimizer"], both["lr_scheduler"]["scheduler"]
    for _ in range(2):
        for weight in made.learner.parameters():
            weight.grad = weight.detach().clone()
        adam.step()
        course.step()
    progress = {"epoch_loop.batch_progress": {"current": {"ready": 2}, "is_last_batch": False}}
    state = {"optimizer_states": [adam.state_dict()], "lr_schedulers": [course.state_dict()]}
    return made, both, {"state_dict": made.state_dict(), "loops": {"fit_loop": progress}, **copy.deepcopy(state)}


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"weight_decay": 0.1}),
        ({"weight_decay": 0.1}, {}),
        ({"weight_decay": 0.1}, {"weight_decay": 0.2}),
        ({}, {"betas": (0.8, 0.95)}),
        ({}, {"rate": 0.5}),
    ],
)
def test_an_optimiser_goes_on_with_other_options_and_its_own_moments(monkeypatch, before, now):
    old, adam, checkpoint = stepped(monkeypatch, **before)
    moments = {name: adam["optimizer"].state[w]["exp_avg"] for name, w in old.learner.named_parameters()}
    made, both, _ = stepped(monkeypatch, **now)
    expected = [{**group, "params": None} for group in both["optimizer"].param_groups]
    made.on_load_checkpoint(checkpoint)
    both["optimizer"].load_state_dict(checkpoint["optimizer_states"][0])
    both["lr_scheduler"]["scheduler"].load_state_dict(checkpoint["lr_schedulers"][0])
    assert [{**group, "params": None} for group in both["optimizer"].param_groups] == expected
    for name, weight in made.learner.named_parameters():
        assert torch.equal(both["optimizer"].state[weight]["exp_avg"], moments[name]), name
    both["lr_scheduler"]["scheduler"].step()
    assert both["optimizer"].param_groups[0]["lr"] == now.get("rate", 1e-3)


def test_the_average_has_the_bits_of_one_lerp_a_tensor():
    ema = EMA(0.9)
    old, new = ([torch.randn(5, 3), torch.randn(7)] for _ in range(2))
    for count in (1, 30, 1000):
        expected = [torch.lerp(y, x, min(0.9, float((1 + torch.tensor(count)) / (10 + torch.tensor(count)))))
                    for x, y in zip(old, new, strict=True)]  # fmt: skip
        ema._count = torch.tensor(count)
        ema._average(old, new, count)
        assert all(torch.equal(x, e) for x, e in zip(old, expected, strict=True))


def test_weights_that_fit_but_would_mean_something_else_are_refused(tmp_path):
    """The codes of levels (3, 5) and (5, 3) have the same shapes."""
    Model(Joint(tiny_generator("tokenizer", levels=(3, 5)), adapted_params=(), test_steps=0), {}).save(
        tmp_path / "model"
    )
    with pytest.raises(MetagenError, match=r"^initial: .* has levels \(3, 5\), and this run \(5, 3\)"):
        initialise_learner(tiny_generator("token_vae", levels=(5, 3)), Amortised, str(tmp_path / "model"))


def test_heads_of_attention_that_fit_but_would_mean_something_else_are_refused(tmp_path):
    Model(Amortised(tiny_generator("token_vae", heads=2)), {}).save(tmp_path / "model")
    with pytest.raises(MetagenError, match=r"^initial: .* has heads 2, and this run 4"):
        initialise_learner(tiny_generator("token_vae", heads=4), Amortised, str(tmp_path / "model"))


def test_a_frozen_generator_does_not_decay():
    with pytest.raises(MetagenError, match=r"^weight_decay: it would shrink the generator"):
        module(learner=lambda generator: MetaGenerator(generator, widths=(2,), frozen=True), weight_decay=0.1)
