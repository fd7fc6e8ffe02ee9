"""What models are told apart by: against plain loops, scipy, and what it has to put in order."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from scipy.stats import energy_distance as scipy_energy_distance

from metagen.core.energy_distance import blurred, energy_distance, energy_score, spread
from metagen.errors import MetagenError
from metagen.evaluation.criterion import ByLoss, BySamples
from metagen.learners import MAML, adapt_tasks
from metagen.tasks.episodes import Episodes
from tests.doubles import Blobs, tiny_generator, tiny_vae


def test_the_energy_distance_is_that_of_a_plain_loop():
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 3), torch.randn(2, 4, 3) + 1
    for task in range(2):
        between = [(x - y).norm().item() for x, y in product(a[task], b[task])]
        within = [
            [(x - y).norm().item() for i, x in enumerate(s[task]) for j, y in enumerate(s[task]) if i != j]
            for s in (a, b)
        ]
        expected = 2 * sum(between) / 20 - sum(within[0]) / 20 - sum(within[1]) / 12
        assert energy_distance(a, b)[task].item() == pytest.approx(expected, rel=1e-6)
        assert energy_score(a, b)[task].item() == pytest.approx(expected + sum(within[1]) / 12, rel=1e-6)


def test_the_energy_distance_of_many_points_is_scipys():
    torch.manual_seed(0)
    a, b = torch.randn(3000, 1), 0.5 * torch.randn(3000, 1) + 1
    expected = scipy_energy_distance(a.flatten().numpy(), b.flatten().numpy()) ** 2
    assert energy_distance(a, b).item() == pytest.approx(expected, abs=3e-3)


def test_it_is_unbiased_and_its_score_takes_one_real_image():
    torch.manual_seed(0)
    a, b = torch.randn(4000, 3, 2), torch.randn(4000, 3, 2)
    found = energy_distance(a, b)
    assert abs(found.mean().item()) < 4 * found.std().item() / 4000**0.5
    assert energy_score(a, b[:, :1]).isfinite().all()
    with pytest.raises(MetagenError, match="2 or more images a side, got 1"):
        spread(a[:, :1])


def test_blurred_pixels_keep_their_mean_and_every_leading_axis():
    images = torch.rand(2, 3, 1, 8, 8)
    assert blurred(images).shape == (2, 3, 64)
    torch.testing.assert_close(blurred(torch.ones(1, 1, 8, 8)), torch.ones(1, 64))


def test_a_game_is_judged_by_its_samples_and_others_by_their_loss():
    episode, key = Episodes(Blobs(), 3, 4).first("val", 3), (0, "val")
    torch.manual_seed(0)
    gan = MAML(tiny_generator("r3", size=28), steps=1)
    adapted = adapt_tasks(gan, episode.support, key, episode.numbers)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            ByLoss()(adapted, episode.query, key, episode.numbers),
            BySamples()(adapted, episode.query, key, episode.numbers),
        )
    for task in range(3):  # of one task alone
        alone = BySamples()(adapted[task], episode.query[task : task + 1], key, episode.numbers[task : task + 1])
        torch.testing.assert_close(alone, BySamples()(adapted, episode.query, key, episode.numbers)[task : task + 1])
    assert (gan.generator.comparable, tiny_vae().comparable) == (False, True)


def test_diverged_samples_are_infinitely_far():
    episode, key = Episodes(Blobs(), 3, 4).first("val", 2), (0, "val")
    adapted = adapt_tasks(MAML(tiny_vae(size=28), steps=1), episode.support, key, episode.numbers)
    for difference in adapted.difference.values():
        difference[1] = math.nan
    found = BySamples()(adapted, episode.query, key, episode.numbers)
    assert found.isfinite().tolist() == [True, False]
    assert found[1] == math.inf
