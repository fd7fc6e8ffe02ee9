"""Commands of experiments: which run again and which not, and the revision noted; and a page of embeddings."""

from __future__ import annotations

import json

import pytest

from experiments import embeddings, runs
from metagen.cli import main
from metagen.report.tables import short
from tests.test_embeddings import place, words  # noqa: F401 - fixtures

LESS = ("less pixels", "less extractor")


@pytest.fixture
def making(monkeypatch, tmp_path):
    """The module; its verb notes what it was asked for, and the project is at revision r1."""

    def verb(*asked):
        with (tmp_path / "product").open("a") as file:
            file.write(f"{' '.join(map(str, asked))};")

    monkeypatch.setattr(runs, "metagen", verb)
    monkeypatch.setattr(runs, "revision", lambda: "r1")
    return runs


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


def test_a_page_of_embeddings_shows_every_figure_and_its_files_have_them(words, tmp_path):  # noqa: F811
    assert main([*words, "--ways", "gradient", "filtering"]) == 0
    found = json.loads((tmp_path / "map/embeddings.json").read_text()) | {"revision": "r1"}
    by_pixels = {row["row"]: row["figures"] for row in found["differences"]}
    figure = {"mean": -31.25, "low": -40.25, "high": -22.25, "tasks": 12}  # as if there were an extractor
    found["differences"].append({"row": "gradient - extractor", "figures": {"group": figure}})
    text = "\n".join(embeddings.page_lines({"one": found, "other": found | {"revision": "r2"}}))
    assert "at r1 and r2, DIR" in text.replace("\n", " ")
    said = "the same 16 train characters, but filtering on 8, since it adapts models to the other 8; seed 0"
    assert said in text.replace("\n", " ")
    assert "over 2 whole alphabets" in text.replace("\n", " ")
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n") if line.startswith("|")]
    assert {len(row) for row in table} == {len(table[0])} == {11}
    assert table[0] == ["", "d", *("same group %", *LESS), *("itself %", *LESS), "GAN", "Gaussian", "train tasks"]
    assert table[2][2] == short(found["rows"][0]["figures"]["group"])
    assert table[2][3].removesuffix(" *") == short(by_pixels["gradient - pixels"]["group"])
    assert table[2][4] == "-31.2 ±9.0 *"
    assert table[2][-1] == f"{found['rows'][0]['priors']['train_tasks']['mean']:.3f}"
    kept = embeddings.cut("one", found)
    assert (kept["rows"], kept["differences"], kept["revision"]) == (found["rows"], found["differences"], "r1")
    assert str(tmp_path) not in json.dumps(kept)
    assert "(one.json)" in text
