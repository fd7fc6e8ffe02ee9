"""The tokenizer: codes that are what a plain loop finds, gradients past the rounding, and a true bound."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from metagen.errors import MetagenError
from metagen.generators import Tokenizer
from metagen.generators.tokens.quantiser import Quantiser
from metagen.learners import Joint
from metagen.model import Model
from tests.doubles import tiny_generator

LEVELS = (3, 4, 5, 8)


@pytest.fixture
def tokenizer():
    torch.manual_seed(0)
    return tiny_generator("tokenizer").double().eval()


def images(n: int, seed: int = 0, size: int = 8, channels: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=rng, dtype=torch.float64)


def plain(value: float, levels: int) -> int:
    """The level of one channel, a whole number about 0, by the formula of the paper."""
    half, offset = (levels - 1) * (1 - 1e-3) / 2, 0.5 if levels % 2 == 0 else 0.0
    return round(math.tanh(value + math.atanh(offset / half)) * half - offset)


# codes
def test_levels_and_codes_are_those_of_a_plain_loop():
    quantiser, rng = Quantiser(LEVELS), torch.Generator().manual_seed(0)
    features = 3 * torch.randn(500, len(LEVELS), generator=rng, dtype=torch.float64)
    features[0], features[1] = 50, -50
    rounded = quantiser.rounded(quantiser.bounded(features))
    codes = quantiser.index(rounded)
    for row, levels, code in zip(features.tolist(), rounded.tolist(), codes.tolist(), strict=True):
        found = [plain(value, of) for value, of in zip(row, LEVELS, strict=True)]
        assert levels == pytest.approx(found, abs=1e-9)
        expected, stride = 0, 1
        for level, of in zip(found, LEVELS, strict=True):
            expected, stride = expected + (level + of // 2) * stride, stride * of
        assert code == expected
    assert codes[:2].tolist() == [quantiser.codes - 1, 0]


@pytest.mark.parametrize("levels", [LEVELS, (8, 6, 5), (3,)])
def test_every_code_is_of_the_values_that_it_stands_for(levels):
    quantiser, like = Quantiser(levels), torch.zeros(())
    assert quantiser.codes == math.prod(levels)
    values = quantiser.values(torch.arange(quantiser.codes), like)
    assert torch.equal(quantiser.index(values), torch.arange(quantiser.codes))
    every = itertools.product(*(range(-(of // 2), of - of // 2) for of in levels))
    assert sorted(map(tuple, values.tolist())) == sorted(every)
    assert quantiser.scaled(values).abs().max() == 1


def test_gradients_pass_the_rounding_as_if_it_were_not_there():
    quantiser = Quantiser(LEVELS)
    features = torch.randn(20, len(LEVELS), dtype=torch.float64, requires_grad=True)
    pull = torch.randn(20, len(LEVELS), dtype=torch.float64)
    bounded = quantiser.bounded(features)
    straight, without = (
        torch.autograd.grad((pull * x).sum(), features, retain_graph=True)[0]
        for x in (quantiser.rounded(bounded), bounded)
    )
    torch.testing.assert_close(straight, without, rtol=0, atol=0)
    assert straight.abs().min() > 0
    assert not torch.equal(quantiser.rounded(bounded), bounded)


# images
def test_the_loss_is_the_bound_and_the_uniform_prior_is_uniform(tokenizer):
    query = images(5)
    decoded = tokenizer.decode(tokenizer.project(query))
    pixels = F.binary_cross_entropy_with_logits(decoded, query, reduction="none").sum() / 5
    loss = tokenizer.query_loss("vae", query, {}, query)
    torch.testing.assert_close(loss, pixels + 4 * math.log(225))
    highest = {"codes": torch.full((1, 4), 1 - 2.0**-24)}
    last = tokenizer.log_likelihood.expected(tokenizer.decode(torch.full((1, 4), 224)))
    torch.testing.assert_close(tokenizer.sample(highest, None), last, rtol=0, atol=0)


def test_the_encoder_learns_although_codes_are_rounded(tokenizer):
    tokenizer.query_loss("vae", images(4), {}, images(4)).backward()
    for name, weight in tokenizer.named_parameters():
        assert weight.grad.abs().max() > 0, name


def test_reconstructions_are_decoded_codes_and_ways_between_begin_and_end_at_maps_not_yet_rounded(tokenizer):
    first, last = images(3), images(3, 1)
    codes = tokenizer.project(first)
    assert codes.shape == (3, tokenizer.places)
    assert codes.unique().numel() > 1
    expected = tokenizer.log_likelihood.expected
    torch.testing.assert_close(tokenizer.reconstruct(first), expected(tokenizer.decode(codes)), rtol=0, atol=0)
    way = tokenizer.interpolate(first, last, 5)
    assert way.shape == (3, 5, 1, 8, 8)
    maps = [tokenizer.bounded(each) for each in (first, last)]
    for place, known in ((0, maps[0]), (2, (maps[0] + maps[1]) / 2), (4, maps[1])):
        torch.testing.assert_close(way[:, place], expected(tokenizer._decoded(known)))


def test_no_image_bears_on_another(tokenizer):
    together = tokenizer.reconstruct(images(4))
    for place in range(4):
        torch.testing.assert_close(together[place : place + 1], tokenizer.reconstruct(images(4)[place : place + 1]))


@pytest.mark.parametrize(("size", "side"), [(28, 7), (32, 8), (64, 8), (128, 8)])
def test_grids_of_every_size(size, side):
    made = Tokenizer(size=size, channels=3, width=2, likelihood="gaussian", levels=(3, 3))
    support = images(1, 0, size, 3).float()
    assert (made.side, made.places) == (side, side**2)
    assert made.reconstruct(support).shape == support.shape
    assert made.query_loss("vae", support, {}, support).isfinite()


def test_a_model_projects_and_reconstructs():
    torch.manual_seed(0)
    mine = Model(Joint(tiny_generator("tokenizer"), adapted_params=(), test_steps=0), {}).adapt(images(2).float())
    given = images(3, 1).float()
    assert mine.project(given).dtype == torch.long
    assert mine.reconstruct(given).shape == mine.sample(3).shape == given.shape
    assert mine.interpolate(given, given.flip(0), 3).shape == (3, 3, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"levels": (8, 2)},
            r"levels: expected a whole number of 3 or more for each channel of the code, got \[8, 2\]",
        ),
        ({"levels": (8, 4.5)}, r"levels: expected a whole number of 3 or more .*, got \[8, 4.5\]"),
        ({"levels": ()}, "levels: expected a whole number of 3 or more"),
        ({"width": 0}, "width: expected 1 or more, got 0"),
        ({"halvings": 0}, "halvings: expected 1 or more, got 0"),
        ({"halvings": 3}, "halvings: 3 of them need a size that is a multiple of 8, got 28"),
        ({"size": 40}, "halvings: size 40 has no default"),
        ({"likelihood": "poisson"}, "likelihood"),
    ],
)
def test_wrong_options_are_told_in_one_line(options, said):
    with pytest.raises(MetagenError, match=said) as caught:
        Tokenizer(**options)
    assert "\n" not in str(caught.value)
