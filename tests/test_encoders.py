"""Networks that read a support: what their codes depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metagen.adaptation.draws import draw_alike
from metagen.adaptation.encoders import ENCODERS, encoder_for
from metagen.errors import MetagenError
from tests.doubles import tiny_generator

SUPPORT = torch.rand(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=sorted(set(ENCODERS) - {"gradient"}))
def encode(request):
    torch.manual_seed(0)
    return encoder_for(request.param, tiny_generator("vae").double(), 6)


@pytest.fixture
def supports():
    """Tasks of two kinds, dark and light, that are told apart by a direction of the gradient."""
    noise = torch.rand(12, 4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return 0.2 * noise + 0.6 * (torch.arange(12) % 2)[:, None, None, None, None]


def test_the_gradient_encoder_is_the_principal_components_of_plain_gradients(supports):
    torch.manual_seed(0)
    vae = tiny_generator("vae").double()
    made = encoder_for("gradient", vae, 2)
    made.prepare(vae, supports)
    noise = draw_alike(vae, ("gradient",), range(4), 4)["vae"]["latent"].double()
    rows = []
    for support in supports:
        vae.zero_grad()
        sum(vae.support_loss("vae", support, {"latent": each}) for each in noise).div(4).backward()
        rows.append(torch.cat([w.grad.flatten() for w in vae.parameters()]).numpy())
    centred = np.stack(rows) - np.mean(rows, 0)
    left, *_ = np.linalg.svd(centred, full_matrices=False)
    codes = torch.stack([made(support) for support in supports]).numpy()
    wanted = left[:, :2] * np.sqrt(len(rows) - 1)
    np.testing.assert_allclose(np.abs(codes), np.abs(wanted), rtol=1e-6, atol=1e-8)
    kinds = codes[:, 0] > 0
    assert (kinds == kinds[0]).tolist() == [n % 2 == 0 for n in range(12)]


def test_what_reads_gradients_stays_as_it_was_prepared(supports):
    torch.manual_seed(0)
    vae = tiny_generator("vae").double()
    made = encoder_for("gradient", vae, 2)
    made.prepare(vae, supports)
    before = made(supports[0])
    with torch.no_grad():
        for weight in vae.parameters():
            weight.add_(1)
    assert torch.equal(made(supports[0]), before)
    assert not list(made.parameters())
    torch.testing.assert_close(made(supports[0].flip(0)), before)


def test_the_order_of_a_support_does_not_matter(encode):
    assert encode(SUPPORT).shape == (6,)
    torch.testing.assert_close(encode(SUPPORT.flip(0)), encode(SUPPORT), rtol=1e-12, atol=1e-12)


def test_a_code_tells_supports_apart(encode):
    assert (encode(SUPPORT) - encode(SUPPORT[:2])).abs().max() > 1e-4


def test_an_empty_support_has_a_code(encode):
    assert encode(SUPPORT[:0]).isfinite().all()


def test_an_unknown_encoder_is_told_in_one_line():
    for name, code, said in (
        ("bag", 6, "encoder"),
        ("prototype", 0, "code: expected 1"),
        ("set", 2, "code: expected 3"),
    ):
        with pytest.raises(MetagenError, match=said) as refused:
            encoder_for(name, tiny_generator("vae"), code)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_smallest_code_hears_of_the_support_too(name):
    torch.manual_seed(0)
    generator, images = tiny_generator("vae"), torch.rand(8, 3, 1, 8, 8)
    encoder = encoder_for(name, generator, ENCODERS[name].least)
    encoder.prepare(generator, images)
    codes = torch.stack([encoder(support) for support in images]).detach()
    assert len(codes.unique(dim=0)) == len(images)
