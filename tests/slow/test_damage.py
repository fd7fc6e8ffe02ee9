"""All the damage of tests/damage.py, and more at random: told in one line, in bounded time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import damage

pytestmark = pytest.mark.slow


def test_all_damage_is_told_in_one_line_and_bounds_are_kept(tmp_path):
    words = [sys.executable, "-m", "tests.damage", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=root, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert found["cases"] > 2000
    assert found["megabytes"] < damage.MEGABYTES


@pytest.mark.parametrize(
    ("fuzz", "examples"),
    [(damage.fuzz_config, 1000), (damage.fuzz_weights, 1000), (damage.fuzz_image, 2000), (damage.fuzz_run, 300)],
)
def test_random_damage_is_told_in_one_line(tmp_path, fuzz, examples):
    damage.write_exports(tmp_path / "sound")

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.data())
    def found(data):
        fuzz(tmp_path / "sound", tmp_path / "place", data)

    found()
