"""The VAE: its bound, its likelihoods, its pictures."""

from __future__ import annotations

import math

import pytest
import torch

from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.generators import VAE
from metagen.generators.base import Normal
from tests.doubles import tiny_vae


def ink(n=3, size=8):
    return (torch.rand(n, 1, size, size, generator=torch.Generator().manual_seed(0)) > 0.7).float()


@pytest.mark.parametrize("size", [28, 32, 64, 128])
@pytest.mark.parametrize(
    ("channels", "likelihood", "norm", "depth"), [(1, "bernoulli", "none", 0), (3, "gaussian", "group", 1)]
)
def test_sizes_channels_and_likelihoods(size, channels, likelihood, norm, depth):
    torch.manual_seed(0)
    vae = VAE(size=size, channels=channels, likelihood=likelihood, norm=norm, depth=depth, latent=4, widths=(4, 8))
    noise = vae.noise(2, Draws((0,)))
    images = torch.rand(2, channels, size, size)
    assert vae.loss("vae", images, noise, None).isfinite()
    for made in (vae.sample(noise, None), vae.reconstruct(images)):
        assert made.shape == images.shape
        assert ((made >= 0) & (made <= 1)).all()


def test_the_loss_is_the_bound_in_nats_summed_over_pixels():
    """With the decoder and the posterior silenced, every pixel costs log 2 and nothing else is paid."""
    vae = tiny_vae()
    with torch.no_grad():
        for part in (vae.decoder, vae.encoder.head):
            for w in part.parameters():
                w.zero_()
    loss = vae.loss("vae", ink(), {"latent": torch.randn(3, 2)}, None)
    assert loss.item() == pytest.approx(64 * math.log(2), rel=1e-6)


def test_gaussian_likelihood_is_the_density_of_the_normal():
    vae = tiny_vae(likelihood="gaussian")
    decoded, images = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    sigma = (torch.nn.functional.softplus(vae.log_likelihood.log_sigma + 6) - 6).exp()
    expected = torch.distributions.Normal(decoded, sigma).log_prob(images).sum((1, 2, 3))
    torch.testing.assert_close(vae.log_likelihood(decoded, images), expected)


def test_the_divergence_of_normals_is_the_library_s():
    mean, log_variance = torch.randn(2, 2, 5, generator=torch.Generator().manual_seed(0))
    one, other = (Normal(m, v) for m, v in zip(mean, log_variance, strict=True))
    wide, prior = (torch.distributions.Normal(each.mean, (0.5 * each.log_variance).exp()) for each in (one, other))
    torch.testing.assert_close(one.kl(other), torch.distributions.kl_divergence(wide, prior))
    standard = torch.distributions.Normal(torch.zeros(5), 1)
    torch.testing.assert_close(one.kl(), torch.distributions.kl_divergence(wide, standard))


def test_log_prob_agrees_with_numerical_integration():
    """One latent dimension: the marginal is an integral that a grid does to many digits."""
    torch.manual_seed(0)
    vae = tiny_vae(latent=1).double()
    with torch.no_grad():
        vae.decoder.stem.weight.mul_(3)
    images = ink().double()
    grid = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    decoded = vae.decoder(grid[:, None])
    log_prior = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    width = math.log(18 / 20000)
    exact = torch.stack(
        [(vae.log_likelihood(decoded, x.expand_as(decoded)) + log_prior + width).logsumexp(0) for x in images]
    )
    noise = torch.randn(20000, 3, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    estimate = vae.log_weights(images, noise, images[:0]).logsumexp(0) - math.log(20000)
    torch.testing.assert_close(estimate, exact, rtol=0, atol=0.02)
    bound = -torch.stack(
        [vae.loss("vae", x[None].expand(500, 1, 8, 8), {"latent": noise[:500, 0]}, None) for x in images]
    )
    assert (bound < exact).all()


def test_a_bernoulli_likelihood_refuses_grey():
    vae = tiny_vae()
    vae.log_likelihood.check(ink())
    with pytest.raises(MetagenError, match="binary"):
        vae.log_likelihood.check(ink() * 0.5)
    tiny_vae(likelihood="gaussian").log_likelihood.check(ink() * 0.5)


def test_free_bits_are_a_floor_for_each_latent():
    torch.manual_seed(0)
    images, noise = ink(), {"latent": torch.zeros(3, 2)}
    plain, freed = tiny_vae(), tiny_vae(free_bits=5.0)
    freed.load_state_dict(plain.state_dict())
    mean, log_variance = plain.posterior(images)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean(0)
    assert (kl < 5).all()
    rise = freed.loss("vae", images, noise, None) - plain.loss("vae", images, noise, None)
    torch.testing.assert_close(rise, (5 - kl).sum(), rtol=1e-4, atol=1e-4)


def test_interpolation_begins_and_ends_at_the_reconstructions():
    torch.manual_seed(0)
    vae, images = tiny_vae(), ink(4)
    path = vae.interpolate(images[:2], images[2:], 5)
    assert path.shape == (2, 5, 1, 8, 8)
    torch.testing.assert_close(path[:, 0], vae.reconstruct(images[:2]))
    torch.testing.assert_close(path[:, -1], vae.reconstruct(images[2:]))
    assert not torch.allclose(path[:, 2], path[:, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"likelihood": "poisson"}, "unknown likelihood"),
        ({"norm": "batch"}, "unknown norm"),
        ({"depth": -1}, "depth: expected 0 or more, got -1"),
        ({"latent": 0}, "latent: expected 1 or more, got 0"),
        ({"size": 30, "widths": (4, 8)}, "multiple of 4"),
        ({"size": 44}, "no default"),
        ({"widths": ()}, "one positive width"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(MetagenError, match=message):
        VAE(**options)
