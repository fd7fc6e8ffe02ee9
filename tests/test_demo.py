"""The demo from end to end: pictures, a table and the next command; short, and never over what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from metagen.cli import main

WORDS = ("demo", "--minutes", "0.02", "--tasks", "20")


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
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--tasks", "2"]])
def test_numbers_out_of_range_are_one_line(words, tmp_path, capsys):
    assert main(["demo", "--out", str(tmp_path / "out"), *words]) == 2
    assert words[0].removeprefix("--") in capsys.readouterr().err
    assert not Path(tmp_path / "out").exists()
