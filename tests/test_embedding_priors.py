"""Who makes up new tasks: a GAN and a Gaussian over embeddings, and their scores beside real train tasks."""

from __future__ import annotations

import pytest
import torch

from metagen.core.energy_distance import energy_distance
from metagen.embeddings import EmbeddingGAN, embedder
from metagen.embeddings.embedder import Places, distances
from metagen.embeddings.prior import gaussian


def test_two_clusters_are_learnt_better_than_by_one_gaussian():
    rng = torch.Generator().manual_seed(0)

    def clusters(n: int) -> torch.Tensor:
        side = 2.0 * (torch.rand(n, 1, generator=rng) < 0.5) - 1
        return 7 + 3 * torch.cat([side, torch.zeros(n, 1)], 1) + 0.3 * torch.randn(n, 2, generator=rng)

    train, held_out = clusters(300), clusters(300)
    made = EmbeddingGAN(steps=600).fit(train).sample(500)
    single = gaussian(train, 500)
    assert 3 * energy_distance(made, held_out) < energy_distance(single, held_out)
    share = float((made[:, 0] > 7).double().mean())
    assert 0.25 < share < 0.75


def test_the_gaussian_has_mean_and_covariance():
    points = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ torch.randn(3, 3) + 4
    drawn = gaussian(points, 40_000)
    torch.testing.assert_close(drawn.mean(0), points.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(drawn.T.cov(), points.T.cov(), rtol=0.1, atol=0.1)


def test_scores_are_means_of_seeds_beside_the_floor_of_real_train_tasks(monkeypatch):
    class Points:
        """A prior whose draws lie at a distance that its seed says."""

        def __init__(self, seed):
            self.away = {4: 1.0, 5: 9.0, 6: 2.0}[seed]

        def fit(self, embeddings):
            return self

        def sample(self, n, seed):
            return torch.tensor([[self.away, 0.0]]).expand(n, 2)

    monkeypatch.setattr(embedder, "EmbeddingGAN", Points)
    train, held_out = torch.tensor([[0.0, 0.0], [0.0, 2.0], [0.0, 4.0]]), torch.zeros(2, 2)
    priors = Places(train, held_out, held_out).priors(seed=4)
    # 2 E|x - y| - E|x - x'|, and no two held-out tasks differ
    assert priors["gan"] == {"mean": pytest.approx(8), "low": 2, "high": 18, "seeds": 3}
    assert priors["train_tasks"]["mean"] == pytest.approx(2 * (0 + 2 + 4) / 3 - (2 + 4 + 2) / 3)
    gauss = [float(energy_distance(gaussian(train, 1000, seed), held_out)) for seed in (4, 5, 6)]
    assert priors["gaussian"]["mean"] == pytest.approx(sum(gauss) / 3)
    assert distances(priors)[::2] == ["8.000 ±8.000", "1.333"]


def test_draws_are_those_of_the_seed_and_disturb_no_other():
    points = torch.randn(20, 2)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, other = (EmbeddingGAN(steps=3, seed=1).fit(points).sample(5, seed=2) for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(one, other)
