"""Counter-based draws: the published vectors, the moments, and what they do not depend on."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import kstest

from metagen.core.gumbel import gumbel
from metagen.core.philox import Draws, philox, rows_of

ONES = 0xFFFFFFFF
# The known answers that come with Random123 (Salmon 2011): counter, key, four words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
TASKS = range(5)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_words_are_the_published_ones(counter, key, words, device):
    found = philox([torch.tensor([word], device=device) for word in counter], key)
    assert tuple(int(word) for word in found) == words


@pytest.mark.parametrize(("kind", "law"), [("uniform", "uniform"), ("normal", "norm"), ("gumbel", "gumbel_r")])
def test_numbers_are_of_their_law(kind, law):
    draws = Draws((0, "law"), rows_of(range(40)))
    numbers = gumbel(draws, 1000) if kind == "gumbel" else getattr(draws, kind)(1000)
    assert numbers.shape == (40, 1000)
    assert numbers.isfinite().all()
    assert kstest(numbers.flatten().double().numpy(), law).pvalue > 0.01
    correlations = torch.corrcoef(numbers) - torch.eye(40)
    assert correlations.abs().max() < 5 / math.sqrt(1000)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_a_number_depends_on_its_key_row_call_and_place_alone(kind):
    def drawn(tasks, *shape, calls=1, key=(0, "a")):
        draws = Draws(key, rows_of(tasks))
        return [getattr(draws, kind)(*shape) for _ in range(calls)][-1]

    some = drawn(TASKS, 3, 7)
    assert torch.equal(drawn([3], 3, 7)[0], some[3])
    assert torch.equal(drawn(TASKS, 2, 7), some[:, :2])
    assert torch.equal(drawn(TASKS, 21), some.flatten(1))
    for other in (drawn(TASKS, 3, 7, calls=2), drawn(TASKS, 3, 7, key=(1, "a")), drawn(range(5, 10), 3, 7)):
        assert not torch.isclose(other, some).any()
    assert drawn(TASKS).shape == (5,)
    assert drawn([], 2).shape == (0, 2)


def test_where_there_is_no_double_precision_they_are_made_on_the_cpu():
    assert Draws((0,), device="mps").normal(3).device.type == "cpu"


def test_rows_are_tasks_and_numbers_of_each():
    rows = rows_of([4, 9], torch.arange(3))
    assert rows.tolist() == [[[4, 0], [4, 1], [4, 2]], [[9, 0], [9, 1], [9, 2]]]
    assert rows_of([4, 9]).tolist() == [[4, 0], [9, 0]]
    assert rows_of([4, 9], torch.arange(0)).shape == (2, 0, 2)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_numbers_are_those_of_a_cpu(kind, device):
    there = getattr(Draws((0, "d"), rows_of(range(100)), device), kind)(1000)
    assert there.device.type == device.type
    assert torch.equal(there.cpu(), getattr(Draws((0, "d"), rows_of(range(100))), kind)(1000))
