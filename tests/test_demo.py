"""The demo from end to end: pictures, a table and the next command; short, and never over what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from metagen.cli import main

WORDS = ("demo", "--minutes", "0.02", "--tasks", "3")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    place = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)  # where no config lies
        assert main([*WORDS, "--out", str(place / "out")]) == 0
    return place / "out"


def test_it_leaves_pictures_a_model_and_a_table(shown, capsys):
    for name in ("first.png", "before-and-after.png", "training/samples/step-000000.png"):
        with Image.open(shown / name) as image:
            assert min(image.size) > 200
    assert (shown / "training/export/model.safetensors").is_file()


def test_it_does_not_replace_what_stands_there(shown, capsys):
    assert main([*WORDS, "--out", str(shown)]) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err


def test_it_replaces_an_earlier_demo_when_asked_and_nothing_else(shown, capsys):
    stranger = shown / "training/samples/mine.png"
    stranger.write_bytes(b"mine")
    assert main([*WORDS, "--out", str(shown), "--overwrite", "true"]) == 2
    assert "mine.png" in capsys.readouterr().err
    stranger.unlink()
    assert main([*WORDS, "--out", str(shown), "--overwrite", "true"]) == 0
    table = capsys.readouterr().out
    assert all(f" {row} " in table for row in ("human", "affine x1", "before", "after", "glyphs"))


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--tasks", "2"]])
def test_numbers_out_of_range_are_one_line(words, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "out"), *words]) == 2
    assert words[0].removeprefix("--") in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
