"""What two processes remember is what one remembers, in the same order."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.test_training import assert_same_run


def test_two_processes_remember_what_one_remembers(fit, tiny, tmp_path):
    options = ["--model.learner", "MemoryLearner", "--model.learner.slots", "6", "--model.learner.steps", "2"]
    options += ["--data.episodes", "6", "--trainer.val_check_interval", "3", "--trainer.accumulate_grad_batches", "2"]
    assert fit(tmp_path / "one", *options) == 0
    command = [sys.executable, "-m", "metagen.cli", "fit", *tiny, *options, "--run_dir", str(tmp_path / "two")]
    command += ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    # The reader of an empty memory has gradients that are rounding alone; Adam scales them up to its rate.
    assert_same_run(tmp_path / "one", tmp_path / "two", atol=1e-3)
