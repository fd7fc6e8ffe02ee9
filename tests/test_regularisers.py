"""Terms of the outer loss beside the query loss: against closed forms, enumeration and torch.distributions."""

from __future__ import annotations

import itertools
import re

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from metagen.adaptation import Regulariser
from metagen.adaptation.regularisers import deviation, path_norms
from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.generators import VAE, Generator
from metagen.learners import MAML, Joint, Learner, LowRankMAML, Reptile
from metagen.learners.model_files import load_model
from metagen.training.meta_training import MetaTraining
from tests.doubles import Bilinear, Quadratic, tiny_vae
from tests.test_meta_gradients import IMAGES, RATE, STEPS, batch_for, gradient, matrix, meta_of

ALL = {"l2": 0.3, "l2_start": 0.2, "path_norm": 0.1, "dropout": 0.4, "bottleneck": 0.01}
START = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def regularised(learner: Learner, **terms: float) -> Learner:
    learner.regulariser = Regulariser(terms)
    return learner


def quadratic() -> tuple[Generator, torch.Tensor, torch.Tensor]:
    """A quadratic away from its optimum, its curvature, and what N steps of gradient descent leave of a gap."""
    root = matrix(1)
    curvature = root @ root.T / 4
    generator = Quadratic(curvature)
    with torch.no_grad():
        generator.weight.copy_(START)
    left = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - RATE * curvature, STEPS)
    return generator, curvature, left


def episode(learner: Learner):
    return batch_for(learner, IMAGES[:, :2], IMAGES[:, 2:])


@pytest.mark.parametrize("term", ["l2", "l2_start", "bottleneck"])
def test_the_exact_gradient_of_each_penalty_is_its_closed_form(term):
    """phi_N = s + left (phi_0 - s); the bottleneck's sigma is a constant, and its noise averages out of no gradient."""
    generator, curvature, left = quadratic()
    learner = regularised(MAML(generator, steps=STEPS, rate=RATE), **{term: 0.7})
    batch = episode(learner)
    s, q = (images.mean(1).flatten(1) for images in (batch.support, batch.query))
    adapted = s + (START - s) @ left
    sigma = 0.1 * START.square().mean().sqrt()
    eye = torch.eye(4, dtype=torch.float64)
    noise = sigma * batch.task_noise["bottleneck"]["weight"] if term == "bottleneck" else 0
    expected = (adapted + noise - q) @ curvature @ left + {
        "l2": 0.7 * adapted @ left,
        "l2_start": 0.7 * (adapted - START) @ (left - eye),
        "bottleneck": 0.7 * (adapted - START) @ (left - eye) / sigma**2,
    }[term]
    torch.testing.assert_close(gradient(learner, batch)["generator.weight"], expected.mean(0), rtol=0, atol=1e-10)


def test_the_penalties_of_a_player_are_of_its_own_weights():
    generator = Bilinear(matrix(2))
    start = {name: w.detach() for name, w in generator.named_parameters()}
    x, y = "generator.x", "discriminator.y"
    found = Regulariser({"l2": 2.0, "l2_start": 6.0}).penalties(generator, start, {x: start[x] + 1, y: 3 * start[y]})
    assert found["generator"] == (start[x] + 1).square().sum() + 3 * 4
    torch.testing.assert_close(found["discriminator"], 9 * start[y].square().sum() + 3 * (2 * start[y]).square().sum())


def test_a_player_of_which_nothing_moves_pays_nothing():
    learner = regularised(MAML(Bilinear(matrix(2)), steps=2, rate=RATE, adapted_params=("generator.*",)), **ALL)
    start = learner.start()
    moved = {"generator.x": start["generator.x"] + 1}
    found = learner.regulariser.penalties(learner.generator, start, moved)
    assert found["discriminator"] == 0 < found["generator"]
    assert all(g.isfinite().all() for g in gradient(learner, episode(learner)).values())


def test_the_bottleneck_is_the_divergence_of_two_normals():
    torch.manual_seed(0)
    start, moved = ({"a": torch.randn(3, 2), "b": scale * torch.randn(5)} for scale in (0.0, 1e-2))
    found = Regulariser({"bottleneck": 1.0}).penalties(tiny_vae(), start, moved)["vae"]
    assert deviation(start["b"]) == pytest.approx(0.001)  # sigma does not vanish where weights begin at 0
    sigmas = {name: 0.1 * start[name].square().mean().sqrt().clamp(min=0.01) for name in start}
    expected = [kl_divergence(Normal(moved[n], s), Normal(start[n], s)).sum() for n, s in sigmas.items()]
    torch.testing.assert_close(found, sum(expected))


def test_the_bottleneck_is_a_draw_around_where_adaptation_ends():
    start, moved = {"w": torch.full((4000,), 2.0)}, {"w": torch.full((4000,), 5.0)}
    regulariser = Regulariser({"bottleneck": 0.0})
    draws = regulariser.task_noise(start, Draws((0,)))
    seen = regulariser.disturbed(start, moved, draws)["w"]
    assert seen.mean().item() == pytest.approx(5, abs=0.02)
    assert seen.std().item() == pytest.approx(0.2, rel=0.05)  # a tenth of the RMS at the start


def test_dropout_changes_no_linear_loss_in_expectation():
    torch.manual_seed(0)
    start, moved, slope = ({"w": torch.randn(50)} for _ in range(3))
    regulariser, draws = Regulariser({"dropout": 0.3}), Draws((0,))
    seen = [regulariser.disturbed(start, moved, regulariser.task_noise(start, draws))["w"] for _ in range(4000)]
    whole, kept = moved["w"] - start["w"], torch.stack(seen) - start["w"]
    assert (kept == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    torch.testing.assert_close(kept[kept != 0], (whole / 0.7).expand_as(kept)[kept != 0], rtol=1e-4, atol=1e-5)
    losses = torch.stack(seen) @ slope["w"]
    assert abs(losses.mean() - moved["w"] @ slope["w"]) < 4 * losses.std() / 4000**0.5


def test_the_gradient_with_dropout_is_that_of_its_mask():
    generator, curvature, left = quadratic()
    learner = regularised(MAML(generator, steps=STEPS, rate=RATE), dropout=0.5)
    batch = episode(learner)
    mask = 2.0 * (batch.task_noise["dropout"]["weight"] >= 0.5)
    assert 0 < (mask == 0).sum() < mask.numel()
    s, q = (images.mean(1).flatten(1) for images in (batch.support, batch.query))
    seen = START + mask * ((START - s) @ left + s - START)
    at = (seen - q) @ curvature
    expected = at + (mask * at) @ (left - torch.eye(4, dtype=torch.float64))
    torch.testing.assert_close(gradient(learner, batch)["generator.weight"], expected.mean(0), rtol=0, atol=1e-10)


class Networks(VAE):
    """Anything that can be given other networks."""

    def __init__(self, *networks: nn.Module) -> None:
        super().__init__(size=8, latent=2, widths=(4, 8))
        del self.encoder, self.decoder, self.log_likelihood
        self.networks = nn.ModuleList(networks)


def path_norm_of(*networks: nn.Module) -> torch.Tensor:
    generator = Networks(*networks)
    return path_norms(generator, "vae", dict(generator.named_parameters()))


def test_the_path_norm_of_two_linear_layers_is_the_sum_over_all_paths():
    torch.manual_seed(0)
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    u, v = first.weight.tolist(), last.weight.tolist()
    expected = sum((u[j][i] * v[o][j]) ** 2 for i, j, o in itertools.product(range(3), range(4), range(2)))
    expected += sum((first.bias[j].item() * v[o][j]) ** 2 for j, o in itertools.product(range(4), range(2)))
    expected += sum(b.item() ** 2 for b in last.bias)
    for network in (nn.Sequential(first, nn.SiLU(), last), nn.Sequential(nn.Sequential(first), last)):
        assert path_norm_of(network).item() == pytest.approx(expected, rel=1e-5)
    alone = sum(w.square().sum() for w in (*first.parameters(), *last.parameters())).item()
    assert path_norm_of(first, last).item() == pytest.approx(alone, rel=1e-5)  # two networks of one layer: plain l2


def test_the_path_norm_of_convolutions_is_the_squared_network_on_ones_away_from_borders():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, 6, 3, padding=1, groups=2))
    twin = nn.Sequential(*(layer for layer in network if isinstance(layer, nn.Conv2d)))
    found = path_norm_of(network)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.square_()
    torch.testing.assert_close(found, twin(torch.ones(1, 2, 9, 9))[0, :, 4, 4].sum())


def test_the_path_norm_of_a_transposed_convolution_counts_all_its_places():
    torch.manual_seed(0)
    up, last = nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, bias=False), nn.Conv2d(2, 5, 1, bias=False)
    paths = torch.einsum("iokl,po->", up.weight.square(), last.weight[..., 0, 0].square())
    torch.testing.assert_close(path_norm_of(nn.Sequential(up, last)), paths)


def test_the_path_norm_sees_weights_that_moved_and_low_rank_deltas():
    torch.manual_seed(0)
    learner = LowRankMAML(tiny_vae(), rank=1)
    weights = {name: w + 0.1 for name, w in learner.generator.named_parameters()}
    found = path_norms(learner.generator, "vae", weights)
    learner.generator.load_state_dict(weights, strict=False)
    plain = tiny_vae()
    modules = dict(learner.generator.named_modules())
    plain.load_state_dict({n: getattr(modules[n.rpartition(".")[0]], n.rpartition(".")[2]) for n in plain.state_dict()})
    torch.testing.assert_close(found, path_norms(plain, "vae", dict(plain.named_parameters())))


@pytest.mark.parametrize("how", [{"chunk": 1}, {"execution": "loop"}, {"chunk": 2, "execution": "loop"}])
def test_chunks_and_execution_change_nothing(how):
    torch.manual_seed(0)
    learner = regularised(MAML(tiny_vae().double(), steps=2, rate=1e-3), **ALL)
    images = torch.rand(3, 6, 1, 8, 8, dtype=torch.float64)
    batch = batch_for(learner, images[:, :2], images[:, 2:])
    whole, other = gradient(learner, batch), gradient(learner, batch, **how)
    for name, g in whole.items():
        torch.testing.assert_close(other[name], g, rtol=1e-9, atol=1e-12)


def test_reported_losses_stay_pure_and_draws_are_a_task_s_own():
    torch.manual_seed(0)
    learner = MAML(tiny_vae(), steps=2, rate=1e-3)
    images = torch.rand(3, 6, 1, 8, 8)
    plain = batch_for(learner, images[:, :2], images[:, 2:])
    alone = learner.meta_gradient(learner, meta_of(learner), plain).losses["vae"]
    regularised(learner, l2=0.3, l2_start=0.2, path_norm=0.1)
    assert torch.equal(learner.meta_gradient(learner, meta_of(learner), plain).losses["vae"], alone)
    regularised(learner, **ALL)
    first, again = (batch_for(learner, images[:n, :2], images[:n, 2:]).task_noise for n in (3, 2))
    assert first.keys() == {"generator", "step", "dropout", "bottleneck"}
    for term in ("dropout", "bottleneck"):
        assert first[term].keys() == learner.adapted_names
        assert all(torch.equal(draws[:2], again[term][name]) for name, draws in first[term].items())
        assert not any(torch.equal(draws[0], draws[1]) for draws in first[term].values())


def options(**terms: float) -> list[str]:
    return [word for name, value in terms.items() for word in (f"--model.regularise.{name}", str(value))]


def test_fit_takes_every_term_and_goes_on_exactly(fit, tmp_path):
    assert fit(tmp_path / "plain") == 0
    assert fit(tmp_path / "whole", *options(**ALL)) == 0
    assert fit(tmp_path / "cut", *options(**ALL), "--trainer.max_steps", "8") == 0
    assert fit(tmp_path / "cut", *options(**ALL), "--ckpt_path", "last") == 0
    plain, whole, cut = (load_model(tmp_path / name / "export")[0] for name in ("plain", "whole", "cut"))
    for name, w in whole.state_dict().items():
        assert torch.equal(w, cut.state_dict()[name])
    assert any(not torch.equal(w, plain.state_dict()[name]) for name, w in whole.state_dict().items())


def test_what_cannot_be_regularised_is_refused():
    refusals = {
        "unknown regulariser 'l2_stat': did you mean l2_start": (MAML, {"l2_stat": 1.0}),
        "regularise.dropout: expected a number that is 0 or more and below 1, got 1.0": (MAML, {"dropout": 1.0}),
        "regularise.l2: expected a number that is 0 or more and finite, got -1.0": (MAML, {"l2": -1.0}),
        "regularise.bottleneck: expected a number .* got nan": (MAML, {"bottleneck": float("nan")}),
        "regularise: Reptile goes where adaptation went": (Reptile, {"l2": 1.0}),
        "regularise: Joint takes no inner step": (Joint, {"l2": 1.0}),
    }
    for told, (learner, terms) in refusals.items():
        with pytest.raises(MetagenError) as refused:
            MetaTraining(VAE(size=8, latent=2, widths=(4, 8)), learner, regularise=terms)
        assert re.match(told, str(refused.value))
