"""Every registered learner through `metagen fit` in processes of its own; a new one is picked up by itself."""

from __future__ import annotations

import pytest

from metagen.generators import generators
from metagen.learners import Amortised, learners
from tests.doubles import pairs
from tests.test_training import INTERRUPT, assert_same_run

pytestmark = pytest.mark.slow


@pytest.fixture(params=list(learners))
def learner(request):
    """The options that choose it, over the first generator that it takes."""
    generator = next(generators[of] for name, of in pairs() if name == request.param).__name__
    small = ("--model.generator.latent", "2", "--model.generator.widths", "[2, 4]")
    return ("--model.generator", generator, *small, "--model.learner", learners[request.param].__name__)


def test_stopped_in_mid_epoch_and_continued_is_never_stopped(process, tmp_path, learner):
    process(tmp_path / "whole", *learner)
    process(tmp_path / "parts", *learner, *INTERRUPT, "6", code=130)
    process(tmp_path / "parts", *learner, "--ckpt_path", "last")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_two_processes_learn_what_one_learns(process, tmp_path, learner):
    # Adam inside moves every weight by about its rate: a displacement that drowns in the rounding of the weights
    # themselves would come out of the outer Adam with any sign.
    inner = ["--model.learner.optimiser", "adam", "--model.learner.rate", "0.01"]
    if learner[-1] == Amortised.__name__:
        inner.clear()
    options = (*learner, *inner, "--data.episodes", "4", "--trainer.val_check_interval", "2")
    process(tmp_path / "one", *options)
    process(tmp_path / "two", *options, "--trainer.strategy", "ddp", "--trainer.devices", "2")
    # redraw bends thin lines: a weight that differs by 1e-6 changes gradients by some 1e-5 of the largest
    assert_same_run(tmp_path / "one", tmp_path / "two", atol=1e-5 if inner else 1e-4)
