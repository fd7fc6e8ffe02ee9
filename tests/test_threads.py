"""Work on several threads: in the mode of the caller, with the same results."""

from __future__ import annotations

import threading

import pytest
import torch

from metagen.adaptation import in_chunks
from metagen.core.threads import in_threads, workers_for
from metagen.evaluation.studies.cost import LiveBytes
from metagen.learners import MAML
from tests.doubles import tiny_vae
from tests.test_meta_gradients import batch_for, meta_of


def test_each_item_has_a_thread_with_a_share_of_those_of_torch():
    before = torch.get_num_threads()
    both = threading.Barrier(2, timeout=10)

    def seen(item: int) -> tuple[int, int, str]:
        both.wait()  # nobody passes alone
        return item, torch.get_num_threads(), threading.current_thread().name

    (first, share, one), (second, _, other) = in_threads(seen, [1, 2])
    assert (first, second) == (1, 2)
    assert share == max(1, before // 2)
    assert one != other != threading.current_thread().name
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("cast", [True, False])
def test_the_mode_is_that_of_the_caller(grad, cast):
    with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16, cast):
        modes = in_threads(lambda _: (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")), [1, 2])
    assert modes == [(grad, cast)] * 2


def test_an_error_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda x: 1 / x, [1, 0])


def test_threads_are_for_the_cpu_for_enough_items_and_unwatched(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    cpu = torch.device("cpu")
    assert [workers_for(cpu, n, 4) for n in (0, 7, 8, 12, 100)] == [1, 1, 2, 3, 3]
    assert workers_for(torch.device("cuda"), 100, 4) == 1
    with LiveBytes():
        assert workers_for(cpu, 100, 4) == 1


def test_shares_of_a_batch_change_nothing(monkeypatch):
    torch.manual_seed(0)
    learner = MAML(tiny_vae().double(), steps=2, rate=0.1)
    images = torch.rand(9, 5, 1, 8, 8, dtype=torch.float64)
    batch, meta = batch_for(learner, images[:, :2], images[:, 2:]), meta_of(learner)
    expected = in_chunks(learner.meta_gradient, learner, meta, batch, 1)
    monkeypatch.setattr("metagen.adaptation.meta_gradients.base.workers_for", lambda *_: 2)
    found = in_chunks(learner.meta_gradient, learner, meta, batch)
    for name, g in expected.gradients.items():
        torch.testing.assert_close(found.gradients[name], g, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-10, atol=1e-13)
