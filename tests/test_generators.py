"""One test for every registered generator; a new one is picked up by itself."""

from __future__ import annotations

import pytest
import torch
from torch.utils._pytree import tree_leaves

from metagen.core.functional import with_weights
from metagen.core.philox import Draws
from metagen.generators import generators
from tests.doubles import VARIANTS, tiny_generator


@pytest.fixture(params=VARIANTS)
def generator(request, device):
    torch.manual_seed(0)
    return tiny_generator(request.param, size=28).to(device)


@pytest.fixture
def support_and_query(device):
    rng = torch.Generator().manual_seed(1)
    return torch.rand(3, 1, 28, 28, generator=rng).to(device), torch.rand(4, 1, 28, 28, generator=rng).to(device)


def noise_of(generator, n, seed=0):
    at = next(generator.parameters()).device
    return {name: draw.to(at) for name, draw in generator.noise(n, Draws((seed,))).items()}


def test_noise_is_seeded_and_leads_with_n(generator):
    first, again, other = (generator.noise(4, Draws((seed,))) for seed in (0, 0, 1))
    for name, draw in first.items():
        assert len(draw) == 4
        assert torch.equal(draw, again[name])
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_losses_are_finite_scalars_and_samples_are_images(generator, support_and_query):
    support, query = support_and_query
    noise = noise_of(generator, 4)
    for player in generator.players:
        loss = generator.query_loss(player, query, noise, support)
        assert loss.ndim == 0
        assert loss.isfinite()
    images = generator.generate(noise, support)
    assert images.shape == query.shape
    assert ((images >= 0) & (images <= 1)).all()


def test_every_parameter_has_a_player_and_every_player_a_parameter(generator):
    found = {generator.player_of(name) for name, _ in generator.named_parameters()}
    assert found == set(generator.players)
    assert list(generator.buffers()) == []


def test_a_description_builds_the_same_generator(generator, support_and_query):
    twin = generators.build(generators.describe(generator)).to(next(generator.parameters()).device)
    assert [(n, w.shape) for n, w in twin.named_parameters()] == [(n, w.shape) for n, w in generator.named_parameters()]
    twin.load_state_dict(generator.state_dict())
    support, _ = support_and_query
    noise = noise_of(generator, 2)
    assert torch.equal(twin.generate(noise, support), generator.generate(noise, support))


def test_losses_are_pure_functions_of_weights_and_noise(generator, support_and_query):
    support, query = support_and_query
    noise = noise_of(generator, 4)
    weights = {name: w.detach() for name, w in generator.named_parameters()}
    state = torch.random.get_rng_state()
    for player in generator.players:
        first, second = (with_weights(generator, weights).query_loss(player, query, noise, support) for _ in range(2))
        assert torch.equal(first, second)
    assert torch.equal(state, torch.random.get_rng_state())


def test_second_derivatives_exist_under_vmap(generator, support_and_query):
    support, _ = support_and_query
    noise = noise_of(generator, 3)
    weights = {name: w.detach() for name, w in generator.named_parameters()}

    def steepness(scale, player):
        def loss(w):
            return with_weights(generator, w).support_loss(player, support, noise)

        g = torch.func.grad(loss)({name: w * scale for name, w in weights.items()})
        return sum(x.square().sum() for x in g.values())

    for player in generator.players:
        curvature = torch.func.vmap(torch.func.grad(lambda s, p=player: steepness(s, p)))(
            support.new_tensor([0.9, 1.1])
        )
        assert curvature.isfinite().all()
        assert (curvature != 0).all()


def test_methods_that_take_tasks_at_once_give_what_vmap_gives(generator, device):
    rng = torch.Generator().manual_seed(1)
    support, query = (torch.rand(3, n, 1, 28, 28, generator=rng).to(device) for n in (2, 4))
    each = [noise_of(generator, 4, seed) for seed in range(3)]
    noise = {name: torch.stack([e[name] for e in each]) for name in each[0]}
    own = {
        "query_loss": {"player": generator.players[-1], "query": query, "noise": noise, "support": support},
        "generate": {"noise": noise, "support": support},
        "diagnostics": {"images": query, "noise": noise, "support": support},
    }
    for method in generator.batched:
        at_once = getattr(generator, method)(**own[method])
        lifted = torch.func.vmap(
            lambda own, m=method: getattr(generator, m)(**own),
            in_dims=({name: None if name == "player" else 0 for name in own[method]},),
        )(own[method])
        for first, second in zip(tree_leaves(at_once), tree_leaves(lifted), strict=True):
            assert first.shape[0] == 3
            assert torch.allclose(first, second, atol=1e-5)
