"""What scripts make: what is made again and what not, in which state of the project; and a page of embeddings."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def making(monkeypatch, tmp_path):
    """The module; its verb notes what it was asked for, and the project is at revision r1."""
    monkeypatch.syspath_prepend(SCRIPTS)
    module = importlib.import_module("making")

    def verb(*words):
        with (tmp_path / "product").open("a") as file:
            file.write(f"{' '.join(map(str, words))};")

    monkeypatch.setattr(module, "metagen", verb)
    monkeypatch.setattr(module, "revision", lambda: "r1")
    return module


def test_what_is_made_keeps_the_revision_that_made_it(making, monkeypatch, tmp_path):
    product = making.made(tmp_path / "product", ["verb", 5], "weights")
    monkeypatch.setattr(making, "revision", lambda: "r2")
    assert making.made(product, ["verb", 5], "weights") == product
    assert making.revision_of(product) == "r1"
    assert product.read_text() == "verb 5;"
    making.made(product, ["verb", 6], "weights")
    assert (product.read_text(), making.revision_of(product)) == ("verb 5;verb 6;", "r2")
    making.made(product, ["verb", 6], "other weights")
    assert product.read_text() == "verb 5;verb 6;verb 6;"


def test_what_was_made_before_revisions_were_noted_stands(making, tmp_path):
    (tmp_path / "made.json").write_text(json.dumps({"words": ["verb", "5"], "of": ""}))
    (tmp_path / "product").write_text("old")
    product = making.made(tmp_path / "product", ["verb", 5])
    assert (product.read_text(), making.revision_of(product)) == ("old", "r1")
    making.made(product, ["verb", 6])
    assert product.read_text() == "oldverb 6;"
