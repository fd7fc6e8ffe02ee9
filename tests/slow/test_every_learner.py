"""Every registered learner through `metagen fit` in processes of its own; a new one is picked up by itself."""

from __future__ import annotations

import pytest

from metagen.learners import learners
from tests.doubles import class_of, pairs
from tests.test_training import INTERRUPT, assert_same_run

pytestmark = pytest.mark.slow


@pytest.fixture(params=list(learners))
def learner(request):
    """The options that choose it, over the first generator that it takes."""
    generator = next(class_of(of) for name, of in pairs() if name == request.param).__name__
    small = ("--model.generator.latent", "2", "--model.generator.widths", "[2, 4]")
    return ("--model.generator", generator, *small, "--model.learner", learners[request.param].__name__)


def test_stopped_in_mid_epoch_and_continued_is_never_stopped(process, tmp_path, learner):
    process(tmp_path / "whole", *learner)
    process(tmp_path / "parts", *learner, *INTERRUPT, "6", code=130)
    process(tmp_path / "parts", *learner, "--ckpt_path", "last")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Where the run of one process lies, by learner: made once for every number of processes."""
    return tmp_path_factory.mktemp("alone")


@pytest.mark.parametrize("processes", [2, 3])
def test_many_processes_learn_what_one_learns(process, tmp_path, alone, learner, processes):
    # In float64: at a small inner rate, displacements drown in the rounding of float32 weights, and the outer Adam
    # makes what is left as large as any step.
    options = (*learner, "--trainer.precision", "64-true", "--data.tasks", "6", "--data.episodes", "5")
    one = alone / learner[-1]
    if not one.exists():
        process(one, *options)
    ddp = ("--trainer.strategy", "ddp", "--trainer.devices", str(processes))
    process(tmp_path, *options, *ddp)
    assert_same_run(one, tmp_path, atol=1e-9)
