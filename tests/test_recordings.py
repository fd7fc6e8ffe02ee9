"""Recordings of functions of tensors: the same results, none of the operations of no use."""

from __future__ import annotations

import pytest
import torch
from torch.func import grad

from metagen.core.recording import Recordings
from metagen.learners import MAML, Adapted, adapt_after
from tests.doubles import pairs, tiny_learner, tiny_vae

STATIONARY = sorted({name for name, generator in pairs() if generator == "vae" and tiny_learner(name).stationary})


def operations(recordings: Recordings) -> set[str]:
    (graph,) = recordings._graphs.values()
    return {str(node.target) for node in graph.graph.nodes}  # type: ignore[attr-defined]


def test_a_gradient_needs_no_value():
    def slope(x: torch.Tensor) -> torch.Tensor:
        return grad(lambda x: x.square().sum() + x.detach().clone().exp_().sum())(x)

    recordings, x = Recordings(after=0), torch.randn(5)
    assert torch.equal(recordings.call(slope, x), 2 * x)
    assert not operations(recordings) & {"aten.exp_.default", "aten.exp.default", "aten.sum.default"}


def test_it_waits_for_so_many_calls_of_a_shape():
    recordings = Recordings(after=2)
    for call in range(4):
        assert torch.equal(recordings.call(torch.neg, torch.ones(3)), -torch.ones(3))
        assert len(recordings) == (call >= 2)
    recordings.call(torch.neg, torch.ones(4))
    assert len(recordings) == 1


def test_each_layout_in_memory_has_its_own():
    recordings, x = Recordings(after=0), torch.randn(3, 4)
    for own in (x, x.mT.contiguous().mT, x[:1].expand(3, 4)):
        assert torch.equal(recordings.call(lambda x: x.view(x.shape) if x.is_contiguous() else x.clone(), own), own)
    assert len(recordings) == 3


def test_what_cannot_be_recorded_runs_and_is_told():
    def decides(x: torch.Tensor) -> torch.Tensor:
        return -x if x.sum() > 0 else x

    with pytest.warns(UserWarning, match="runs unrecorded"):
        assert torch.equal(Recordings(after=0).call(decides, torch.ones(3)), -torch.ones(3))


def along(learner, recordings) -> dict[int, Adapted]:
    images = torch.rand(5, 3, learner.generator.channels, learner.generator.size, learner.generator.size)
    return adapt_after(learner, (images > 0.6).float(), (0, "test"), range(5), (0, 1, 5), recordings=recordings)


def test_plain_gradient_descent_is_stationary():
    assert set(STATIONARY) == {"maml", "fomaml", "reptile", "anil", "adjoint", "low_rank", "auxiliary"}
    assert not MAML(tiny_vae(), steps=1, optimiser="adam").stationary


@pytest.mark.parametrize(
    ("learner", "generator"),
    [*((name, "vae") for name in STATIONARY), *(("maml", other) for one, other in pairs() if one == "maml")],
)
def test_recorded_steps_adapt_alike(learner, generator):
    torch.manual_seed(0)
    made = tiny_learner(learner, generator)
    made.eval()
    recordings = Recordings(after=1)
    torch.manual_seed(1)
    expected = along(made, None)
    torch.manual_seed(1)
    found = along(made, recordings)
    assert bool(len(recordings)) == made.stationary
    for steps in (0, 1, 5):
        for name, difference in expected[steps].difference.items():
            torch.testing.assert_close(found[steps].difference[name], difference, rtol=1e-4, atol=1e-6)


def test_a_learner_that_counts_its_steps_is_not_recorded():
    recordings = Recordings(after=0)
    along(MAML(tiny_vae(), steps=1, optimiser="adam"), recordings)
    assert not len(recordings)
