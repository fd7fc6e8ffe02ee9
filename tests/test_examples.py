"""The examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import metagen

PACKAGE = Path(metagen.__file__).parent
FILES = sorted(file for file in PACKAGE.rglob("*.py") if ">>> " in file.read_text(encoding="utf-8"))
NAMES = {"metagen": metagen, "torch": torch}  # that every example has, besides those of its module


def examples():
    for file in FILES:
        module = importlib.import_module(".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts))
        yield from doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=NAMES)


@pytest.mark.parametrize("example", [each for each in examples() if each.examples], ids=lambda each: each.name)
def test_an_example_gives_what_it_says(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example, out=said.append)
    assert result.attempted
    assert not result.failed, "".join(said)
