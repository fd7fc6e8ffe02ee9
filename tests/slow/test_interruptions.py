"""Runs in processes of their own that are stopped, at any moment and by force: nothing is lost, and nothing is bent."""

from __future__ import annotations

import random
import signal
import subprocess
import time

import pytest

import metagen
from metagen.training.checkpoints import read_checkpoint
from tests.test_training import assert_same_run, checkpoint

pytestmark = pytest.mark.slow


def test_ctrl_c_from_outside_is_one_line_and_the_run_goes_on(command, process, tmp_path):
    run, options = tmp_path / "parts", ("--data.episodes", "60")
    started = subprocess.Popen(command(run, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(run / "checkpoints" / "last.ckpt", started)
    started.send_signal(signal.SIGINT)
    _, said = started.communicate()
    assert started.returncode == 130, said
    step = checkpoint(run)["global_step"]
    assert 4 <= step < 60
    proposal = f"metagen fit --config {run / 'config.yaml'} --ckpt_path last"
    assert said == f"metagen: stopped at step {step}; next: {proposal}\n"
    assert metagen.load(run / "export").info["training"]["meta_steps"] == step
    process(run, *options, "--ckpt_path", "last")
    process(tmp_path / "whole", *options)
    assert_same_run(tmp_path / "whole", run)


def test_a_killed_run_leaves_whole_files_and_goes_on(command, process, tmp_path):
    rng, options = random.Random(0), ("--data.episodes", "400", "--trainer.val_check_interval", "1")  # noqa: S311
    process(tmp_path / "whole", *options)
    run, last = tmp_path / "killed", tmp_path / "killed" / "checkpoints" / "last.ckpt"
    reached = 0
    for _ in range(20):
        more = ("--ckpt_path", "last") if last.is_file() else ("--overwrite",)
        before = last.stat().st_mtime_ns if last.is_file() else None
        started = subprocess.Popen(command(run, *options, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for(last, started, before)
        time.sleep(rng.uniform(0, 0.3))
        started.kill()
        _, said = started.communicate()
        assert started.returncode == -signal.SIGKILL, said or "the run is too short to be killed 20 times"
        for path in (run / "checkpoints").glob("*.ckpt"):
            state = read_checkpoint(path)
            assert all(w.isfinite().all() for w in state["state_dict"].values())
        assert checkpoint(run)["global_step"] > reached
        reached = checkpoint(run)["global_step"]
    process(run, *options, "--ckpt_path", "last")
    assert_same_run(tmp_path / "whole", run)
    metagen.load(run / "export")


def wait_for(path, started, before=None):
    """Until a file was written after the moment `before`, or the process has ended."""
    while started.poll() is None and (not path.is_file() or path.stat().st_mtime_ns == before):
        time.sleep(0.02)
    assert path.is_file()
