"""Who is visited how often in an inner step, at which rate, and with which draws."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from metagen.adaptation import adapt, at_step, draw_noise, inner_step, task_batch
from metagen.core.functional import with_weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.generators import distance_consistency
from metagen.learners import FOMAML, IMAML, MAML, AdjointMAML, MetaSGD
from metagen.training.meta_training import MetaTraining
from tests.doubles import Bilinear, tiny_generator, tiny_vae

VISITS = {"discriminator": 3, "generator": 2}
RATES = {"discriminator": 0.05, "generator": 0.02}


class Often(Bilinear):
    """The zero-sum game with more than one visit a step."""

    player_updates = VISITS


def game() -> Often:
    return Often(torch.arange(16, dtype=torch.float64).reshape(4, 4).sin())


def adapted(learner, support):
    noise = draw_noise(learner.generator, (0, "t"), [0], len(support), learner.steps)
    return adapt(learner, support, {p: {n: x[0].to(support) for n, x in of.items()} for p, of in noise.items()})


def test_each_player_is_visited_as_often_as_it_asks_at_its_own_rate():
    learner, support = MAML(game(), steps=4, rate=RATES), torch.rand(3, 1, 2, 2, dtype=torch.float64)
    found, mean, matrix = adapted(learner, support), support.mean(0).flatten(), game().matrix
    start = game()
    x, y = start.generator["x"].detach(), start.discriminator["y"].detach()
    for _ in range(4):
        for _ in range(3):
            y = y + 0.05 * (matrix.T @ x - mean)
        for _ in range(2):
            x = x - 0.02 * (matrix @ y + mean)
    torch.testing.assert_close(found["generator.x"], x, rtol=0, atol=1e-12)
    torch.testing.assert_close(found["discriminator.y"], y, rtol=0, atol=1e-12)


def test_adam_counts_the_visits_of_its_player():
    learner, support = MAML(game(), steps=3, rate=RATES, optimiser="adam"), torch.ones(2, 1, 2, 2, dtype=torch.float64)
    found, plain = adapted(learner, support), game()
    players = {"discriminator": plain.discriminator["y"], "generator": plain.generator["x"]}
    optimisers = {p: torch.optim.Adam([w], lr=RATES[p], betas=plain.betas) for p, w in players.items()}
    for player in [p for _ in range(3) for p in VISITS for _ in range(VISITS[p])]:
        plain.zero_grad()
        plain.loss(player, support, {}, None).backward()
        optimisers[player].step()
    torch.testing.assert_close(found["generator.x"], players["generator"].detach(), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found["discriminator.y"], players["discriminator"].detach(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("kind", [MAML, AdjointMAML, FOMAML])
def test_meta_gradients_go_through_every_visit(kind):
    """In a bilinear game exact and adjoint agree with autograd through the plain loop; first order with its end."""
    learner, images = kind(game(), steps=2, rate=RATES), torch.rand(1, 5, 1, 2, 2, dtype=torch.float64)
    batch = task_batch(learner, images[:, :2], images[:, 2:], (0, "t"), [0])
    meta = {name: w.detach() for name, w in learner.named_parameters()}
    found = learner.meta_gradient(learner, meta, batch).gradients
    x, y = (meta[f"generator.{name}"].clone().requires_grad_() for name in ("generator.x", "discriminator.y"))
    at_x, at_y, matrix = x, y, learner.generator.matrix
    mean, other = images[0, :2].mean(0).flatten(), images[0, 2:].mean(0).flatten()
    for _ in range(2):
        for _ in range(3):
            at_y = at_y + 0.05 * (matrix.T @ at_x - mean)
        for _ in range(2):
            at_x = at_x - 0.02 * (matrix @ at_y + mean)
    if kind is FOMAML:  # at the end of the path, which is forgotten
        at_x, at_y = x, y = [each.detach().requires_grad_() for each in (at_x, at_y)]
    value = at_x @ matrix @ at_y + (at_x - at_y) @ other
    for_x, for_y = torch.autograd.grad(value, (x, y))
    torch.testing.assert_close(found["generator.generator.x"], for_x, rtol=0, atol=1e-10)
    torch.testing.assert_close(found["generator.discriminator.y"], -for_y, rtol=0, atol=1e-10)


def test_the_draws_of_a_visit_depend_on_nothing_else():
    few, many = (tiny_generator("r3", d_steps=d, g_steps=1) for d in (1, 3))
    once, thrice = (draw_noise(each, (0, "k"), [4], 3, 6 // each.d_steps) for each in (few, many))
    assert once["discriminator"]["latent"].shape == (1, 6, 1, 3, 2)
    assert thrice["discriminator"]["latent"].shape == (1, 2, 3, 3, 2)
    flat = thrice["discriminator"]["latent"].flatten(1, 2)
    assert torch.equal(once["discriminator"]["latent"].squeeze(2), flat)
    assert torch.equal(once["discriminator"]["warp"], once["generator"]["warp"])  # players see the same images
    assert not torch.equal(once["discriminator"]["latent"], once["generator"]["latent"])
    assert not torch.equal(once["generator"]["warp"][:, 0], once["generator"]["warp"][:, 1])


def test_what_is_shared_is_the_same_in_all_visits_of_a_step():
    noise = draw_noise(tiny_generator("r3", d_steps=3), (0, "k"), [0], 3, 2)
    warps = {player: draws["warp"][0] for player, draws in noise.items()}
    for step in range(2):
        assert all(torch.equal(warps["discriminator"][step, visit], warps["generator"][step, 0]) for visit in range(3))
    assert not torch.equal(warps["generator"][0], warps["generator"][1])


def test_a_rate_of_every_step_has_one_of_every_visit_and_all_are_trained():
    torch.manual_seed(0)
    learner = MetaSGD(tiny_generator("r3", d_steps=2), steps=2, rate=0.01, per="step")
    images = torch.rand(1, 5, 1, 8, 8)
    batch = task_batch(learner, images[:, :2], images[:, 2:], (0, "t"), [0])
    meta = {name: w.detach() for name, w in learner.named_parameters()}
    found = learner.meta_gradient(learner, meta, batch).gradients
    scales = {name: g for name, g in found.items() if name.startswith("step.scale.")}
    assert {len(g) for name, g in scales.items() if "discriminator/" in name} == {4}
    assert {len(g) for name, g in scales.items() if "scale.generator/" in name} == {2}
    assert all((g != 0).all() for g in scales.values())


def test_the_implicit_gradient_takes_a_player_that_is_visited_twice():
    torch.manual_seed(0)
    learner = IMAML(tiny_generator("r3", d_steps=2), steps=3, cg_steps=2, proximal=10.0, rate=RATES)
    images = torch.rand(2, 5, 1, 8, 8)
    batch = task_batch(learner, images[:, :2], images[:, 2:], (0, "t"), [0, 1])
    meta = {name: w.detach() for name, w in learner.named_parameters()}
    assert all(g.isfinite().all() for g in learner.meta_gradient(learner, meta, batch).gradients.values())


def test_consistency_is_paid_by_the_generator_alone_and_only_once_it_has_moved():
    torch.manual_seed(0)
    free, held = (tiny_generator("r3", consistency=weight).double() for weight in (0.0, 5.0))
    held.load_state_dict(free.state_dict())
    learners = [MAML(each, steps=1, rate=0.1) for each in (free, held)]
    support = torch.rand(4, 1, 8, 8, dtype=torch.float64)
    draws = {name: x.double() for name, x in free.noise(4, Draws((1,))).items()}
    start = {name: w.detach() for name, w in free.named_parameters()}
    away = {name: w + 0.1 * torch.randn_like(w) for name, w in start.items()}
    for player in free.players:
        at_start, moved = ([x.support_loss(w, start, player, support, draws) for x in learners] for w in (start, away))
        torch.testing.assert_close(at_start[0], at_start[1])
        images = [with_weights(free, w).generate(draws, support) for w in (start, away)]
        extra = 5 * distance_consistency(*images) if player == "generator" else torch.zeros(())
        torch.testing.assert_close(moved[1] - moved[0], extra.double(), rtol=1e-9, atol=1e-12)
    assert extra > 1e-6


def test_each_player_has_its_own_outer_rate_and_its_own_clipping():
    training = MetaTraining(tiny_generator("r3"), MAML, rate={"discriminator": 4e-4, "generator": 1e-4}, clip=1.0)
    training._trainer = type("", (), {"max_epochs": 1, "accumulate_grad_batches": 1, "datamodule": None})()
    assert training.rates == {"discriminator": 4e-4, "generator": 1e-4}
    names = {id(w): name for name, w in training.learner.named_parameters()}
    own = {player: [names[id(w)] for w in training._of(player)] for player in training.rates}
    assert all(name.startswith(f"generator.{player}.") for player, found in own.items() for name in found)
    assert sum(map(len, own.values())) == len(names)
    for number, weight in enumerate(training.learner.parameters()):
        weight.grad = torch.full_like(weight, 10.0 * (number + 1))
    training.clips = {"discriminator": 2.0, "generator": 0}
    training.configure_gradient_clipping()
    norm = {p: torch.stack([w.grad.norm() for w in training._of(p)]).norm().item() for p in training.clips}
    assert norm["discriminator"] == pytest.approx(2.0, rel=1e-5)
    assert norm["generator"] > 100


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        ({"generator": 1e-3}, "one for each of the players discriminator, generator"),
        ({"generator": 1e-3, "critic": 1e-3}, "one for each of the players discriminator, generator"),
        ({"generator": 1e-3, "discriminator": 0}, "rate.discriminator"),
        (-1.0, "rate"),
    ],
)
def test_a_rate_that_fits_no_player_is_one_error(rate, message):
    for build in (lambda g: MAML(g, rate=rate), lambda g: MetaTraining(g, MAML, rate=rate)):
        with pytest.raises(MetagenError, match=message):
            build(tiny_generator("r3"))


def test_a_game_is_chosen_by_its_samples_through_the_named_extractor(fit, tmp_path):
    game = ("--model.generator", "GAN", "--model.generator.depth", "1", "--model.rate", "0.01")
    assert fit(tmp_path, *game) == 0
    rows = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    found = {
        int(r["step"]) + 1: r for r in (dict(zip(rows[0], row, strict=True)) for row in rows[1:]) if r["val/unadapted"]
    }
    values = {step: float(row["val/energy[pixels]"]) for step, row in found.items()}
    assert set(values) == {4, 8, 12}
    assert all(float(row["val/logit/real"]) != float(row["val/logit/made"]) for row in found.values())
    training = json.loads((tmp_path / "export" / "config.json").read_text())["info"]["training"]
    assert (training["chosen_by"], training["best_step"]) == ("energy[pixels]", min(values, key=values.get))
    assert load_file(tmp_path / "export" / "model.safetensors")


def test_an_inner_step_is_its_visits():
    """One step of three and two visits is five steps of which each moves one player."""
    learner, support = MAML(game(), steps=1, rate=RATES), torch.rand(2, 1, 2, 2, dtype=torch.float64)
    noise = draw_noise(learner.generator, (0, "t"), [0], 2, 1)
    noise = at_step({p: {n: x[0].to(support) for n, x in of.items()} for p, of in noise.items()}, 0)
    seen = []

    def loss(weights, player, draws):
        seen.append((player, draws["none"].shape))
        return learner.generator.loss(player, support, draws, None) * 0 + sum(w.sum() for w in weights.values())

    inner_step(learner.generator, learner.step, loss, {}, learner.begin(support), noise, 0)
    assert seen == [(player, (2,)) for player in VISITS for _ in range(VISITS[player])]


def test_a_player_alone_has_one_rate_and_one_visit():
    assert tiny_vae().player_updates == {"vae": 1}
    assert MetaTraining(tiny_vae(), MAML, rate=0.5).rates == {"vae": 0.5}
