"""What two processes cannot share is said once; what they share is what one would have done."""

from __future__ import annotations

import pytest
import torch

import metagen
from tests.test_training import assert_same_run, checkpoint

pytestmark = pytest.mark.slow


def test_tasks_that_cannot_be_shared_evenly_are_one_line(process, tmp_path):
    two = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    done = process(tmp_path / "run", *two, "--data.tasks", "3", code=2)
    assert "3 tasks an episode cannot be shared evenly by 2 processes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_accumulated_and_clipped_gradients_are_those_of_one_process(process, tmp_path):
    options = ("--trainer.precision", "64-true", "--trainer.accumulate_grad_batches", "2", "--model.clip", "0.5")
    process(tmp_path / "one", *options)
    process(tmp_path / "two", *options, "--trainer.strategy", "ddp", "--trainer.devices", "2")
    assert checkpoint(tmp_path / "one")["global_step"] == 6
    assert_same_run(tmp_path / "one", tmp_path / "two", atol=1e-9)


def test_two_processes_in_bf16_mixed_learn_and_export(process, tmp_path):
    two = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    process(tmp_path, *two, "--trainer.precision", "bf16-mixed")
    samples = metagen.load(tmp_path / "export").adapt(torch.rand(2, 1, 28, 28)).sample(2)
    assert samples.isfinite().all()
