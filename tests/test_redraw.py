"""redraw: what it may look at, what its latent can do, its bound, its pen."""

from __future__ import annotations

import math

import pytest
import torch

import metagen
from metagen.core.philox import Draws
from metagen.core.warps import moved, pixel_grid, read_at
from metagen.errors import MetagenError
from metagen.generators import Redraw
from metagen.generators.redraw import Sources, _widening, _with_pen
from metagen.learners import MAML, Amortised
from metagen.model import Model
from tests.doubles import tiny_generator, tiny_vae


@pytest.fixture
def redraw():
    torch.manual_seed(0)
    return tiny_generator("redraw", size=28, widths=(4, 8)).eval()


def strokes(n: int, seed: int = 0) -> torch.Tensor:
    """Each image one line at a place of its own, [n, 1, 28, 28]."""
    centre = 8 + 12 * torch.rand(n, 1, 1, generator=torch.Generator().manual_seed(seed))
    axis = torch.arange(28.0)
    return (-((axis[None, None] - centre) ** 2) / 2).exp().expand(n, 28, 28)[:, None].contiguous()


def noise_of(redraw, n, seed=0):
    return redraw.noise(n, Draws((seed,)))


def test_a_new_one_draws_its_source_as_it_is():
    source = strokes(3)
    drawn = Redraw().draw(torch.randn(3, 16), source)
    torch.testing.assert_close(drawn, source, atol=2e-3, rtol=0)


def test_the_latent_cannot_put_ink_where_the_source_has_none(redraw):
    blank = torch.zeros(5, 1, 28, 28)
    assert redraw.draw(10 * torch.randn(5, 2), blank).max() <= 1e-3
    assert redraw.draw(10 * torch.randn(5, 2), strokes(5)).max() > 0.5


def test_each_target_is_drawn_from_the_images_its_mask_allows(redraw):
    support = torch.linspace(0.1, 0.9, 4)[:, None, None, None].expand(4, 1, 28, 28)
    draws = noise_of(redraw, 4000)
    others = ~torch.eye(4, dtype=torch.bool).repeat(1000, 1)
    chosen = redraw._source(draws, Sources(support, others))[:, 0, 0, 0]
    index = ((chosen - 0.1) / 0.8 * 3).round().long()
    assert others[torch.arange(4000), index].all()
    every = redraw._source(draws, Sources(support, torch.ones(4000, 4, dtype=torch.bool)))[:, 0, 0, 0]
    shares = torch.stack([(every == s[0, 0, 0]).float().mean() for s in support])
    assert (shares - 0.25).abs().max() < 0.03  # evenly; 4 standard errors


def test_a_single_support_image_sees_a_copy_of_itself_that_is_moved(redraw):
    support, draws = strokes(1), noise_of(redraw, 1)
    alone = redraw._source(draws, Sources(support, torch.zeros(1, 1, dtype=torch.bool)))
    shown = redraw._source(draws, Sources(support, torch.ones(1, 1, dtype=torch.bool)))
    assert torch.equal(shown, support)
    assert not torch.allclose(alone, support, atol=0.05)
    assert alone.max() > 0.5


def test_without_support_the_null_image_is_drawn_and_training_teaches_it(redraw):
    def taught():
        return redraw.null.grad is not None and bool(redraw.null.grad.abs().sum() > 0)

    none, query = strokes(0), strokes(4)
    draws = noise_of(redraw, 4)
    assert redraw.generate(draws, none).shape == (4, 1, 28, 28)
    redraw.query_loss("vae", query, draws, strokes(2)).backward()
    assert not taught()  # evaluated, every image sees its source
    hidden = {**draws, "null": torch.tensor([0.0, 0.9, 0.9, 0.9])}
    redraw.train().query_loss("vae", query, hidden, strokes(2)).backward()
    assert taught()


def test_samples_come_from_the_support_and_vary_with_the_temperature(redraw):
    draws = noise_of(redraw, 6)
    redraw.temperature = 0.0
    still = redraw.generate(draws, strokes(1))
    assert (still == still[:1]).all()
    redraw.temperature = 1.0
    varied = redraw.generate(draws, strokes(1))
    assert (varied[0] - varied[1]).abs().max() > 1e-3


def test_log_prob_sums_over_the_sources():
    """Against quadrature over a latent of one dimension, for each of two sources, and their mean."""
    torch.manual_seed(0)
    redraw = tiny_generator("redraw", latent=1).double().eval()
    support, images = (torch.rand(2, 1, 8, 8).double(), (torch.rand(3, 1, 8, 8) > 0.5).double())
    grid = torch.linspace(-8, 8, 801).double()[:, None]
    width = math.log(16 / 800)
    each = []
    for source in support:
        seen = redraw.decoded(redraw.draw(grid, source.expand(801, 1, 8, 8)))
        mean, log_variance = redraw.prior_of(source[None])
        prior = -0.5 * ((grid - mean) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi))[:, 0]
        each.append(
            torch.stack([(redraw.log_likelihood(seen, x.expand_as(seen)) + prior + width).logsumexp(0) for x in images])
        )
    exact = torch.stack(each).logsumexp(0) - math.log(2)
    noise = torch.randn(1500, 3, 1, generator=torch.Generator().manual_seed(1)).double()
    estimate = redraw.log_weights(images, noise, support).logsumexp(0) - math.log(1500)
    torch.testing.assert_close(estimate, exact, atol=0.05, rtol=0)


def test_the_loss_is_a_bound_of_log_prob(redraw):
    model = Model(Amortised(redraw), {})
    support, images = strokes(3), (strokes(4, seed=5) > 0.5).float()
    mine = model.adapt(support)
    losses = torch.stack([redraw.query_loss("vae", images, noise_of(redraw, 4, seed), support) for seed in range(20)])
    assert -losses.mean() < mine.log_prob(images, samples=300).mean()


def test_the_pen_keeps_its_width_where_the_paper_is_stretched():
    def width(image):  # of a vertical line: its area over its peak, in pixels
        profile = image[0, 0].mean(0)
        return (profile[profile > 0.01].sum() / profile.max()).item()

    line = (-((torch.arange(28.0) - 13.5) ** 2) / (2 * 1.5**2)).exp().expand(1, 1, 28, 28)
    for stretch in (1.5, 2.0):
        places = moved(pixel_grid(28, line), torch.tensor([[[1 / stretch, 0, 0], [0, 1.0, 0]]]))
        wide = read_at(line, places)
        kept = _with_pen(wide, _widening(line, wide, places))
        assert width(wide) == pytest.approx(stretch * width(line), rel=0.1)
        assert abs(width(kept) / width(line) - 1) < 0.4 * (stretch - 1)
    assert torch.allclose(_with_pen(line, torch.ones_like(line)), line.clamp(1e-3, 1), atol=1e-5)


def test_photographs_in_colour():
    torch.manual_seed(0)
    redraw = tiny_generator("redraw", size=64, channels=3, likelihood="gaussian", widths=(4, 8, 8))
    support, query = torch.rand(2, 3, 64, 64), torch.rand(3, 3, 64, 64)
    assert redraw.query_loss("vae", query, noise_of(redraw, 3), support).isfinite()
    assert redraw.generate(noise_of(redraw, 3), support).shape == query.shape


def test_an_adapted_model_takes_its_support_along_and_a_vae_does_not(tmp_path, redraw):
    images = strokes(3)
    for name, learner in (("redraw", MAML(redraw, steps=1, rate=1e-4)), ("vae", MAML(tiny_vae(size=28), steps=1))):
        model = Model(learner, {})
        model.save(tmp_path / name)
        mine = model.adapt(images)
        mine.save(tmp_path / f"my-{name}")
        assert torch.equal(metagen.load(tmp_path / f"my-{name}").sample(5, seed=3), mine.sample(5, seed=3))
        assert (tmp_path / f"my-{name}" / "support.safetensors").exists() == (name == "redraw")


def test_a_support_that_is_missing_or_changed_is_refused(tmp_path, redraw):
    model = Model(Amortised(redraw), {})
    model.save(tmp_path / "base")
    model.adapt(strokes(3)).save(tmp_path / "mine")
    file = tmp_path / "mine" / "support.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(MetagenError, match=r"support\.safetensors: its SHA-256"):
        metagen.load(tmp_path / "mine")
    file.unlink()
    with pytest.raises(MetagenError, match=r"support\.safetensors: cannot be read"):
        metagen.load(tmp_path / "mine")


def test_bad_options_are_refused():
    with pytest.raises(MetagenError, match="null_rate"):
        Redraw(null_rate=1.0)
    with pytest.raises(MetagenError, match="latent: expected 1 or more, got 0"):
        Redraw(latent=0)
    with pytest.raises(MetagenError, match="hidden: expected 2 or more, got 1"):
        Redraw(hidden=1)
    with pytest.raises(MetagenError, match="temperature"):
        Redraw(temperature=-1.0)
    with pytest.raises(MetagenError, match="Amortised: VAE does not look at its support"):
        Amortised(tiny_vae())
    with pytest.raises(MetagenError, match="adapted_params: expected at least one glob"):
        MAML(tiny_vae(), adapted_params=())
