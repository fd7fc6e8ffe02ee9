"""What two processes cannot share is said once."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow


def test_tasks_that_cannot_be_shared_evenly_are_one_line(process, tmp_path):
    two = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    done = process(tmp_path / "run", *two, "--data.tasks", "3", code=2)
    assert "3 tasks an episode cannot be shared evenly by 2 processes" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
