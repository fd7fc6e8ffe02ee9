"""Runs of `metagen fit` in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def command(tiny, monkeypatch):
    """The command line of a run: (run_dir, *more options)."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def words(run_dir, *options):
        return [sys.executable, "-m", "metagen.cli", "fit", *tiny, "--run_dir", str(run_dir), *options]

    return words


@pytest.fixture
def process(command):
    """Do such a run to its end: (run_dir, *more options, code=...) -> the process."""

    def run(run_dir, *options, code=0):
        done = subprocess.run(command(run_dir, *options), capture_output=True, text=True, env=os.environ)
        assert done.returncode == code, done.stderr
        return done

    return run
