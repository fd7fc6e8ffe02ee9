"""Freed memory is kept where the C library can do so, and nothing else is touched."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from metagen.core import allocation

CHURN = """
import resource, sys, torch
from metagen.core.allocation import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(20):
    held = [torch.zeros(2 * 2**20) for _ in range(6)]  # 8 MiB each
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is not glibc")
def test_a_tensor_takes_the_pages_that_another_left():
    faults = {}
    for how in ("keep", "return"):
        run = subprocess.run([sys.executable, "-c", CHURN, how], capture_output=True, text=True, check=True)
        faults[how] = int(run.stdout)
    assert faults["return"] - faults["keep"] > 15 * 6 * 2048  # 8 MiB are 2,048 pages


def test_other_systems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocation.keep_freed_memory()
