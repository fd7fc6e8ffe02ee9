"""Distance consistency: what an adapted generator keeps of its start."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.special import softmax
from scipy.stats import entropy
from torch.autograd import gradgradcheck

from metagen.generators.consistency import distance_consistency


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def consistency(before, after):
    """Ojha 2021, eqs. 1 and 2, one image and one pair at a time."""
    total = 0.0
    for i in range(len(before)):
        sides = []
        for images in (after, before):
            cosines = [1 - cosine(images[i].ravel(), images[j].ravel()) for j in range(len(images)) if j != i]
            sides.append(softmax(cosines))
        total += entropy(*sides)
    return total / len(before)


def test_distance_consistency_is_that_of_a_loop():
    before, after = rand(5, 1, 3, 3) - 0.5, rand(5, 1, 3, 3, seed=1) - 0.5
    found = distance_consistency(before, after).item()
    assert found == pytest.approx(consistency(before.numpy(), after.numpy()), rel=1e-9)
    assert found > 1e-3
    each = torch.func.vmap(distance_consistency)(torch.stack([before, after]), torch.stack([after, after]))
    torch.testing.assert_close(each, torch.tensor([found, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("n", [1, 2])
def test_of_one_image_or_two_there_is_nothing_to_keep(n):
    after = rand(n, 1, 3, 3, seed=1).requires_grad_()
    found = distance_consistency(rand(n, 1, 3, 3), after)
    found.backward()
    assert found == 0
    assert not after.grad.any()


def test_distance_consistency_is_differentiable_also_at_blank_images():
    before, blank = rand(3, 4), torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    distance_consistency(before, blank).backward()
    assert blank.grad.isfinite().all()
    assert gradgradcheck(lambda x: distance_consistency(before, x), (rand(3, 4, seed=1).requires_grad_(),))
