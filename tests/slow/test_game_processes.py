"""A game on two processes is the game on one."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.test_training import assert_same_run


def test_two_processes_play_what_one_plays(fit, tiny, tmp_path):
    game = ["--model.generator", "GAN", "--model.generator.depth", "1", "--model.generator.widths", "[2, 4]"]
    options = [*game, "--model.rate", "{discriminator: 0.002, generator: 0.001}"]
    options += ["--data.episodes", "4", "--trainer.val_check_interval", "2"]
    assert fit(tmp_path / "one", *options) == 0
    command = [sys.executable, "-m", "metagen.cli", "fit", *tiny, *options, "--run_dir", str(tmp_path / "two")]
    command += ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert_same_run(tmp_path / "one", tmp_path / "two", atol=1e-5)
    kept = [(tmp_path / run / "metrics.csv").read_text().splitlines() for run in ("one", "two")]
    columns = kept[0][0].split(",")
    first, other = (dict(zip(columns, lines[1].split(","), strict=True)) for lines in kept)  # three val tasks: 2 and 1
    assert columns == kept[1][0].split(",")
    for name in ("val/energy[pixels]", "val/logit/real", "val/loss/generator", "val/penalty"):
        assert abs(float(first[name]) - float(other[name])) < 1e-4 * (1 + abs(float(first[name]))), name
