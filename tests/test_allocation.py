"""Freed memory is kept where the C library can do so, and nothing else is touched."""

from __future__ import annotations

import ctypes
import sys

import pytest

from metagen.core import allocation


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is not glibc")
def test_the_c_library_takes_every_setting():
    assert allocation.keep_freed_memory()


def test_other_systems_are_left_as_they_are(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not allocation.keep_freed_memory()
