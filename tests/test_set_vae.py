"""set_vae: the support is a set in which no image sees itself; the bound and the importance weights are true."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from metagen.adaptation import task_batch, trajectory
from metagen.core.functional import over_tasks, with_weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.generators import SetVAE
from metagen.generators.set_vae import _first
from metagen.learners import Amortised
from metagen.model import Model
from tests.doubles import tiny_generator, tiny_learner


@pytest.fixture
def set_vae():
    torch.manual_seed(0)
    return tiny_generator("set_vae").double().eval()


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ink(n: int, seed: int = 0) -> torch.Tensor:
    return (images(n, seed) > 0.5).double()


def noise_of(set_vae, n, seed=0):
    return {name: x.double() for name, x in set_vae.noise(n, Draws((seed,))).items()}


@pytest.mark.parametrize("attend", [True, False])
def test_the_order_of_the_support_does_not_matter_and_what_is_in_it_does(attend):
    torch.manual_seed(0)
    set_vae = tiny_generator("set_vae", attend=attend).double().eval()
    support, targets, noise = images(5), ink(3, 1), noise_of(set_vae, 3)
    many = torch.randn(4, 3, noise["latent"].shape[1], dtype=torch.float64)

    def everything(support):
        return [
            set_vae.query_loss("vae", targets, noise, support),
            set_vae.generate(noise, support),
            set_vae.embed(support),
            set_vae.log_weights(targets, many, support),
        ]

    for order in (torch.tensor([3, 0, 4, 1, 2]), torch.arange(4, -1, -1)):
        for mine, other in zip(everything(support), everything(support[order]), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-12)
    for mine, other in zip(everything(support), everything(support[:4]), strict=True):
        assert (mine - other).abs().max() > 1e-9


def test_the_loss_is_the_likelihood_less_the_divergence_of_every_latent(set_vae):
    support, targets, noise = images(4), ink(3, 1), noise_of(set_vae, 3)
    context = set_vae.context(support, torch.ones(3, 4, dtype=torch.bool))
    decoded, latents = set_vae._down(context, noise["latent"], set_vae._features(targets))
    assert [each.value.shape[1] for each in latents] == set_vae.spans == [3, 2 * 2 * 2, 2 * 4 * 4]
    total = torch.distributions.Bernoulli(logits=decoded).log_prob(targets).sum((1, 2, 3))
    for each, draws in zip(latents, noise["latent"].split(set_vae.spans, -1), strict=True):
        posterior, prior = (Normal(mean, (log_variance / 2).exp()) for mean, log_variance in each[1:])
        divergence = kl_divergence(posterior, prior).sum(-1)
        assert (divergence > 1e-4).all()
        torch.testing.assert_close(each.value, posterior.mean + posterior.stddev * draws)
        total = total - divergence
    torch.testing.assert_close(set_vae.query_loss("vae", targets, noise, support), -total.mean())


@pytest.mark.parametrize("shots", [0, 1, 3])
def test_importance_weights_agree_with_the_plain_average_over_the_prior(shots):
    """Both estimate log p(x | support); the bound lies below, by the divergence of the posterior it was given."""
    torch.manual_seed(1)
    set_vae = tiny_generator("set_vae", latent=1, code=2).double().eval()
    support, targets, samples = images(shots), ink(2, 1), 10000
    draws = torch.randn(samples, sum(set_vae.spans), dtype=torch.float64)
    context = set_vae.context(support, torch.ones(samples, shots, dtype=torch.bool))
    with torch.no_grad():
        decoded, _ = set_vae._down(context, draws)
        plain = torch.stack([set_vae.log_likelihood(decoded, x.expand_as(decoded)).logsumexp(0) for x in targets])
        noise = torch.randn(samples, 2, draws.shape[1], dtype=torch.float64)
        weights = set_vae.log_weights(targets, noise, support)
        repeated, own = targets[:, None].expand(2, 1000, 1, 8, 8), noise_of(set_vae, 1000)
        bound = -torch.stack([set_vae.query_loss("vae", x, own, support) for x in repeated])
    spread = (weights - weights.mean(0)).exp().std(0) / math.sqrt(samples)
    assert (spread < 0.02).all()  # few samples do not carry all the weight
    exact = plain - math.log(samples)
    torch.testing.assert_close(weights.logsumexp(0) - math.log(samples), exact, rtol=0, atol=0.05)
    torch.testing.assert_close(bound, weights.mean(0), rtol=0, atol=0.2)
    assert (bound < exact).all()


def test_without_support_there_is_the_null_image_alone(set_vae):
    support, targets, noise = images(3), ink(4, 1), noise_of(set_vae, 4)
    hidden = set_vae.context(support, torch.zeros(4, 3, dtype=torch.bool))
    empty = set_vae.query_loss("vae", targets, noise, support[:0])
    assert empty.isfinite()
    torch.testing.assert_close(set_vae.loss("vae", targets, noise, hidden), empty)
    torch.testing.assert_close(set_vae.sample(noise, hidden), set_vae.generate(noise, support[:0]))
    assert set_vae.embed(support[:0]).shape == (3,)
    set_vae.query_loss("vae", targets, noise, support[:0]).backward()
    assert set_vae.null.grad.abs().sum() > 0


@pytest.mark.parametrize("shots", [1, 3])
def test_an_image_of_the_support_does_not_see_itself(set_vae, shots):
    support, noise = images(shots), noise_of(set_vae, shots)
    changed = torch.cat([images(1, 5), support[1:]])
    others = ~torch.eye(shots, dtype=torch.bool)

    def code_and_image(known):  # targets stay as they were; the support that they look at is `known`
        decoded, latents = set_vae._down(set_vae.context(known, others), noise["latent"], set_vae._features(support))
        return latents[0].prior[0], decoded

    for before, after in zip(code_and_image(support), code_and_image(changed), strict=True):
        torch.testing.assert_close(before[0], after[0], rtol=0, atol=0)
        assert shots == 1 or all((b - a).abs().max() > 1e-6 for b, a in zip(before[1:], after[1:], strict=True))


def test_in_training_each_target_sees_none_to_all_of_its_support_evenly(set_vae):
    mask = torch.tensor([[True, True, False, True]]).expand(5, 4)  # the null image, then a support of which 2 are seen
    seen = _first(mask, torch.tensor([0.0, 0.19, 0.21, 0.59, 0.61]), null_rate=0.2)
    assert seen.tolist() == [[True, *rest] for rest in [[False] * 3] * 2 + [[True, False, False]] * 2] + [
        [True, True, False, True]
    ]
    support, targets, noise = images(3), ink(2, 1), noise_of(set_vae, 2)
    training = set_vae.train()
    for draw, shots in ((0.1, 0), (0.4, 1), (0.99, 3)):  # null_rate is 0.3
        given = {**noise, "seen": torch.full((2,), draw, dtype=torch.float64)}
        loss = training.query_loss("vae", targets, given, support)
        torch.testing.assert_close(loss, set_vae.eval().query_loss("vae", targets, noise, support[:shots]))
        training.train()


def test_vmap_over_tasks_is_the_loop(set_vae):
    support, query = images(6).unflatten(0, (3, 2)), ink(6, 1).unflatten(0, (3, 2))
    weights = {name: w.detach() for name, w in set_vae.named_parameters()}
    noise = {name: x.unflatten(0, (3, 2)) for name, x in noise_of(set_vae, 6).items()}

    def both(weights, query, noise, support):
        changed = with_weights(set_vae, weights)
        return (
            changed.query_loss("vae", query, noise, support),
            changed.generate(noise, support),
            changed.embed(support),
        )

    at_once, one_by_one = (over_tasks(both, execution=how)(weights, query, noise, support) for how in ("vmap", "loop"))
    for mine, other in zip(at_once, one_by_one, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-12)


def test_gradient_steps_on_top_of_the_context_lower_the_support_loss():
    torch.manual_seed(0)
    learner = tiny_learner("maml", "set_vae", double=True, rate=1e-2, steps=3).eval()
    batch = task_batch(learner, images(3)[None], ink(2, 1)[None], (0,), [0])
    noise = {p: {name: x[0] for name, x in of.items()} for p, of in batch.support_noise.items()}
    path = [moved for moved, _ in trajectory(learner, images(3), noise, 3)]
    start, draws = learner.start(), noise_of(learner.generator, 3, seed=9)
    losses = [learner.support_loss({**start, **moved}, start, "vae", images(3), draws).item() for moved in path]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses)) == 4


def test_a_model_has_log_prob_and_only_what_is_asked_moves():
    torch.manual_seed(0)
    set_vae = tiny_generator("set_vae")
    mine = Model(Amortised(set_vae), {}).adapt(images(2).float())
    assert mine.log_prob(ink(3, 1).float(), samples=20).shape == (3,)
    for part, expected in {"stem": {"stem.bias"}, "head": {"paint.3.weight", "paint.3.bias"}}.items():
        assert tiny_learner("maml", "set_vae", adapted_params=(part,)).adapted_names == expected


def test_samples_vary_with_the_temperature(set_vae):
    noise, support = noise_of(set_vae, 4), images(2)
    set_vae.temperature = 0.0
    still = set_vae.generate(noise, support)
    torch.testing.assert_close(still, still[:1].expand_as(still))
    set_vae.temperature = 1.0
    assert set_vae.generate(noise, support).std(0).max() > 1e-3


@pytest.mark.parametrize("widths", [(4,), (4, 6, 8), (4, 6, 6, 8)])
def test_photographs_in_colour_at_any_depth(widths):
    torch.manual_seed(0)
    set_vae = tiny_generator("set_vae", size=32, channels=3, likelihood="gaussian", widths=widths)
    support, query = torch.rand(2, 3, 32, 32), torch.rand(3, 3, 32, 32)
    noise = set_vae.noise(3, Draws((0,)))
    assert set_vae.query_loss("vae", query, noise, support).isfinite()
    assert set_vae.generate(noise, support).shape == query.shape


def test_bad_options_are_refused():
    for options in ({"null_rate": 1.0}, {"temperature": -1.0}, {"temperature": math.nan}):
        with pytest.raises(MetagenError, match=next(iter(options))):
            SetVAE(**options)
    for name in ("latent", "code", "hidden"):
        with pytest.raises(MetagenError, match=f"{name}: expected 1 or more, got 0"):
            SetVAE(**{name: 0})
