"""What choosing by logits is made of."""

from __future__ import annotations

import pytest
import torch

from metagen.core.gumbel import ChoiceName, gumbel
from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_choice


def test_gumbel_draws_are_those_of_the_inverse_distribution():
    drawn = gumbel(Draws((0,)), 100, 100).flatten()
    below = torch.tensor([-1.0, 0.0, 1.0, 3.0])
    found = (drawn[:, None] < below).float().mean(0)
    torch.testing.assert_close(found, (-(-below).exp()).exp(), rtol=0, atol=0.02)


def test_a_draw_of_probability_nothing_is_finite(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda drawn, generator: drawn.zero_())
    assert gumbel(Draws((0,)), 2, 3).isfinite().all()


def test_another_way_to_choose_is_refused():
    with pytest.raises(MetagenError, match=r"unknown choice 'sample': did you mean sampled"):
        check_choice("choice", "sample", ChoiceName)
