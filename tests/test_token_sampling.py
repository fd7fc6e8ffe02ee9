"""Drawing codes: by a plain reference, guided, and one image whatever is drawn beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagen.core.philox import Draws
from metagen.generators.tokens.token_sampling import Sampling, draw, draw_codes
from metagen.learners import MAML, Amortised, adapt_tasks, batched
from tests.test_token_vae import PLAIN, images, made, noise_of


@pytest.fixture
def vae():
    return made()


# drawing
def reference(logits: np.ndarray, uniform: float, temperature: float, top_p: float) -> int:
    """One code by NumPy, in double precision."""
    scaled = logits / temperature
    chances = np.exp(scaled - scaled.max())
    chances /= chances.sum()
    order = np.argsort(-chances)
    keep = order[: np.searchsorted(chances[order].cumsum(), top_p) + 1]
    kept = np.zeros_like(chances)
    kept[keep] = chances[keep]
    return int(np.searchsorted(kept.cumsum() / kept.sum(), uniform, side="right"))


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3, 1e-6])
def test_draws_agree_with_a_plain_reference(temperature, top_p):
    rng = torch.Generator().manual_seed(0)
    logits, uniform = 2 * torch.randn(300, 11, generator=rng), torch.rand(300, generator=rng)
    expected = [
        reference(row, u, temperature, top_p) for row, u in zip(logits.double().numpy(), uniform.tolist(), strict=True)
    ]
    found = draw(logits, uniform, temperature, top_p)
    assert torch.equal(draw(logits[None], uniform[None], temperature, top_p)[0], found)  # as of several tasks
    assert found.tolist() == expected
    if top_p == 1e-6:
        assert torch.equal(found, logits.argmax(-1))


@pytest.mark.parametrize("uniform", [0.0, 1e-30, 1 - 2**-24, 1.0])
@pytest.mark.parametrize("top_p", [1.0, 0.99])
def test_no_code_without_a_chance_is_drawn_at_the_ends(uniform, top_p):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 240, generator=rng)
    logits[:, [0, 1, 100, 238, 239]] = -torch.inf
    found = draw(logits, torch.full((200,), uniform), 1.0, top_p)
    assert logits.gather(1, found[:, None]).isfinite().all()
    if top_p == 1:
        assert (found == (2 if uniform < 0.5 else 237)).all()


@torch.no_grad()
def test_guided_codes_are_those_of_a_plain_loop(vae):
    support = images(2)
    uniform = torch.rand(24, 4, generator=torch.Generator().manual_seed(2))
    codes, _ = draw_codes(vae.prior, uniform, vae.prior.memory(support), None, Sampling(1.5, 0.8, 0.9))
    for own, draws in zip(codes, uniform.tolist(), strict=True):
        known = torch.zeros(1, 4, dtype=torch.long)
        for place, u in enumerate(draws):
            seeing, blind = (
                vae.prior(known, vae.prior.memory(each), None)[0, place].numpy() for each in (support, support[:0])
            )
            known[0, place] = reference(2.5 * seeing - 1.5 * blind, u, 0.8, 0.9)
        assert own.tolist() == known[0].tolist()
    plain, _ = draw_codes(vae.prior, uniform, vae.prior.memory(support), None, PLAIN)
    assert not torch.equal(plain, codes)


def test_a_prior_that_has_diverged_makes_no_images(vae):
    with torch.no_grad():
        vae.prior.positions[2] = torch.nan
    assert vae.generate(noise_of(vae, 3), images(2)).isnan().all()
    assert vae.generate({"codes": noise_of(vae, 3)["codes"][None]}, images(2)[None]).isnan().all()


def test_a_place_that_no_later_one_looks_at_counts_too(vae, monkeypatch):
    """The last layers may overflow at one place alone."""
    step = vae.prior.step

    def overflowing(place, *rest):
        return step(place, *rest) + (torch.inf if place == 1 else 0)

    monkeypatch.setattr(vae.prior, "step", overflowing)
    assert vae.generate(noise_of(vae, 3), images(2)).isnan().all()


# one image whatever is beside it
def tasks(learner, count: int, shots: int = 2):
    support = images(count * shots, 3, 8).float().unflatten(0, (count, shots))
    return adapt_tasks(learner, support, (0, "x"))


def uniforms(adapted, n: int) -> dict[str, torch.Tensor]:
    each = [adapted.generator.noise(n, Draws((seed,))) for seed in range(len(adapted))]
    return {name: torch.stack([e[name] for e in each]) for name in each[0]}


LEARNERS = {
    "amortised": lambda: Amortised(made(8, guidance=1.0).float()),
    "maml": lambda: MAML(made(8, guidance=1.0).float(), steps=1, rate=0.01, adapted_params=("head", "cross_attention")),
}


@pytest.mark.parametrize("kind", LEARNERS)
def test_an_image_is_the_same_for_every_number_of_images(kind):
    adapted = tasks(LEARNERS[kind]().eval(), 3)
    noise = uniforms(adapted, 64)
    most = adapted.generate(noise)
    assert len(most[0].flatten(1).unique(dim=0)) > 10
    for n in (1, 5, 8, 9):
        assert torch.equal(adapted.generate({name: x[:, :n] for name, x in noise.items()}), most[:, :n])


@pytest.mark.parametrize("kind", LEARNERS)
def test_an_image_is_the_same_whatever_tasks_are_beside_it(kind, monkeypatch):
    adapted = tasks(LEARNERS[kind]().eval(), 5)
    noise = uniforms(adapted, 9)
    most = adapted.generate(noise)
    for task in (0, 4):
        alone = adapted[task].generate({name: x[task : task + 1] for name, x in noise.items()})
        assert torch.equal(alone[0], most[task])
    monkeypatch.setattr(batched, "TASKS_AT_ONCE", 2)
    assert torch.equal(adapted.generate(noise), most)


def test_processes_that_share_tasks_make_the_images_of_one():
    learner = LEARNERS["amortised"]().eval()
    support = images(8, 3, 8).float().unflatten(0, (4, 2))

    def of(numbers):
        return adapt_tasks(learner, support[numbers], (0, "x"), numbers).sample(5, (0, "y"), numbers)

    assert torch.equal(torch.stack([of([0, 2]), of([1, 3])], 1).flatten(0, 1), of([0, 1, 2, 3]))
