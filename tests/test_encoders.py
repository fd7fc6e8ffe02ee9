"""Networks that read a support: what their codes depend on."""

from __future__ import annotations

import pytest
import torch

from metagen.adaptation.encoders import ENCODERS, Attention, encoder_for
from metagen.errors import MetagenError
from tests.doubles import tiny_generator

SUPPORT = torch.rand(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=sorted(ENCODERS))
def encode(request):
    torch.manual_seed(0)
    return encoder_for(request.param, tiny_generator("vae").double(), 6)


def test_the_order_of_a_support_does_not_matter(encode):
    assert encode(SUPPORT).shape == (6,)
    torch.testing.assert_close(encode(SUPPORT.flip(0)), encode(SUPPORT), rtol=1e-12, atol=1e-12)


def test_a_code_tells_supports_apart(encode):
    assert (encode(SUPPORT) - encode(SUPPORT[:2])).abs().max() > 1e-4


def test_an_empty_support_has_a_code(encode):
    assert encode(SUPPORT[:0]).isfinite().all()


def test_attention_is_the_softmax_of_scaled_products():
    torch.manual_seed(0)
    attention = Attention(4).double()
    queries, keys = torch.randn(2, 4).double(), torch.randn(3, 4).double()
    asked, seen = attention.norms[0](queries), attention.norms[1](keys)
    wanted = []
    for n, query in enumerate(asked):
        scores = torch.stack([(attention.query(query) * attention.key(each)).sum() / 2 for each in seen])
        shares = scores.exp() / scores.exp().sum()
        wanted.append(queries[n] + sum(share * attention.value(each) for share, each in zip(shares, seen, strict=True)))
    torch.testing.assert_close(attention(queries, keys), torch.stack(wanted))


def test_an_unknown_encoder_is_told_in_one_line():
    with pytest.raises(MetagenError, match="encoder"):
        encoder_for("bag", tiny_generator("vae"), 6)
    with pytest.raises(MetagenError, match="code: expected"):
        encoder_for("set", tiny_generator("vae"), 0)
