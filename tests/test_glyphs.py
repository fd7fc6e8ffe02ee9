"""The glyph task set: what is drawn, what is held out, what is kept, and what is refused."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, label

from metagen.errors import MetagenError
from metagen.storage.files import cache_folder
from metagen.tasks import glyphs
from metagen.tasks.glyph_drawing import thin
from metagen.tasks.glyphs import Faces, Glyphs, draw_letter, letter_of, matplotlib_fonts, render
from metagen.tasks.splits import Split

FEW = Split(("GREEK/U+03A9", "LATIN/U+0042"), ("LAO/U+0E82",), ("HEBREW/U+05D0", "TIFINAGH/U+2D63"))


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces(matplotlib_fonts())


@pytest.fixture
def few(tmp_path: Path) -> dict[str, str]:
    """Options of a task set of five letters with its own cache."""
    path = tmp_path / "few.json"
    path.write_text(FEW.to_json(), encoding="utf-8")
    return {"split_file": str(path), "cache_dir": str(tmp_path / "cache")}


@pytest.fixture
def font_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "fonts"
    folder.mkdir()
    for path in matplotlib_fonts():
        if path.name in ("cmr10.ttf", "cmtt10.ttf"):
            shutil.copy(path, folder)
    return folder


def names(split: Split) -> list[str]:
    return [*split.train, *split.val, *split.test]


# --- the fixed split ---


def test_split_has_many_letters_of_many_scripts() -> None:
    split = Glyphs().split
    scripts = Counter(name.split("/")[0] for name in names(split))
    assert len(names(split)) >= 1000
    assert len(scripts) >= 10
    assert 60 <= len(split.val) <= 120
    assert 80 <= len(split.test) <= 150


def test_whole_scripts_are_held_out() -> None:
    split = Glyphs().split
    train, val, test = ({name.split("/")[0] for name in split[part]} for part in ("train", "val", "test"))
    assert len(test) >= 4
    assert not train & val
    assert not train & test
    assert not val & test


def plain_shape(letter: str, faces: Faces) -> np.ndarray:
    """The first face's letter, cropped and stretched to a square: judged without the pipeline's own comparison."""
    mask = render(faces.for_lines(letter)[0], letter)
    assert mask is not None
    rows, columns = np.nonzero(mask > 127)
    crop = mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return np.asarray(Image.fromarray(crop).resize((24, 24), Image.Resampling.BOX)).ravel() > 127


def overlaps(a: list[str], b: list[str], faces: Faces) -> np.ndarray:
    one, other = (np.stack([plain_shape(c, faces) for c in letters]).astype(float) for letters in (a, b))
    both = one @ other.T
    return np.asarray(both / (one.sum(1)[:, None] + other.sum(1)[None] - both))


def test_no_held_out_letter_looks_like_a_train_letter(faces: Faces) -> None:
    split = Glyphs().split
    train, val, test = ([letter_of(n) for n in split[part]] for part in ("train", "val", "test"))
    assert overlaps(["\u0391", "\u0555"], ["A", "O"], faces).diagonal().min() > 0.85  # what the measure is to find
    for held, seen in ((val, train), (test, train), (test, val)):
        found = overlaps(held, seen, faces)
        assert found.max() < 0.85, [f"{held[i]}~{seen[j]}" for i, j in np.argwhere(found >= 0.85)]


def test_no_letter_is_there_twice() -> None:
    kept = set(names(Glyphs().split))
    for twins in (("LATIN/U+0041", "GREEK/U+0391", "CYRILLIC/U+0410"), ("LATIN/U+0043", "LATIN/U+0063")):
        assert len(kept & set(twins)) == 1


def test_no_placeholder_font() -> None:
    fonts = [path.name for path in matplotlib_fonts()]
    assert "DejaVuSans.ttf" in fonts
    assert not [name for name in fonts if "LastResort" in name or name.startswith(("cmsy", "cmex"))]


# --- the drawings ---


def test_drawings_are_the_same_bit_for_bit_and_independent_of_each_other(faces: Faces) -> None:
    twice = [draw_letter("HEBREW/U+05D0", faces, 28, 4, seed) for seed in (0, 0, 1)]
    assert (twice[0] == twice[1]).all()
    assert (twice[0] != twice[2]).any((1, 2)).all()
    assert (draw_letter("HEBREW/U+05D0", Faces(matplotlib_fonts()), 28, 2, 0) == twice[0][:2]).all()


def test_drawings_differ_and_stay_recognisable(faces: Faces) -> None:
    split = Glyphs().split
    tasks = [*split.test[::9], *split.train[::90]]
    drawn = np.stack([draw_letter(task, faces, 28, 20, 0) for task in tasks]).astype(float) / 255
    flat = drawn.reshape(len(tasks), 20, -1)
    for images in flat:
        gaps = np.abs(images[:, None] - images[None]).mean(-1)[np.triu_indices(20, 1)]
        assert gaps.min() > 0.02
        assert gaps.mean() > 0.08
    blurred = gaussian_filter(drawn, (0, 0, 2, 2)).reshape(len(tasks) * 20, -1)
    blurred -= blurred.mean(1, keepdims=True)
    blurred /= np.linalg.norm(blurred, axis=1, keepdims=True)
    alike, owner = blurred @ blurred.T, np.repeat(np.arange(len(tasks)), 20)
    same = owner[:, None] == owner[None]
    np.fill_diagonal(alike, -1)
    assert alike[same & (alike > -1)].mean() > alike[~same].mean() + 0.15
    right = (owner[alike.argmax(1)] == owner).mean()
    assert right > 0.6, f"nearest other drawing is the same letter in {right:.0%}; chance is {1 / len(tasks):.0%}"


def test_drawings_fill_the_canvas_without_touching_its_edge(faces: Faces) -> None:
    split = Glyphs().split
    for size in (28, 64):
        for task in split.test[::15]:
            for image in draw_letter(task, faces, size, 10, 0):
                rows, columns = np.nonzero(image > 127)
                assert max(np.ptp(rows), np.ptp(columns)) > 0.55 * size
                edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
                assert (edge > 127).sum() <= 0.05 * size
                assert 0.01 < image.mean() / 255 < 0.6
                assert ((image > 20) & (image < 235)).any()


def test_dots_are_kept(faces: Faces) -> None:
    parts = [label(image > 100)[1] for image in draw_letter("ARABIC/U+062B", faces, 64, 20, 0)]
    assert np.median(parts) == 4  # a bowl and three dots


def test_thinning_leaves_one_line_of_one_pixel_and_no_part_lost() -> None:
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 5:35, 10:18] = True
    mask[0, 5:8, 30:33] = True
    thinned = thin(mask)[0]
    assert label(thinned, np.ones((3, 3)))[1] == 2
    assert not (thinned & ~mask[0]).any()
    assert thinned[12:28].sum(1).tolist() == [1] * 16


# --- the task set ---


def test_ink_channels_and_sizes(few: dict[str, str]) -> None:
    white = Glyphs(drawings=3, **few).images("LATIN/U+0042")
    assert white.shape == (3, 1, 28, 28)
    assert white.dtype == torch.uint8
    assert white[:, :, 0, 0].max() == 0
    assert white.max() == 255
    black = Glyphs(drawings=3, invert=True, channels=3, **few).images("LATIN/U+0042")
    assert black.shape == (3, 3, 28, 28)
    assert (black == 255 - white).all()
    assert Glyphs(drawings=2, size=64, **few).images("LATIN/U+0042").shape == (2, 1, 64, 64)
    assert Glyphs(drawings=1, size=128, **few).images("LATIN/U+0042").shape == (1, 1, 128, 128)


def test_changing_what_images_gave_changes_nothing(few: dict[str, str]) -> None:
    tasks = Glyphs(drawings=2, **few)
    before = tasks.images("LATIN/U+0042").clone()
    assert (tasks.images("LATIN/U+0042", [1, 0]) == before.flip(0)).all()
    tasks.images("LATIN/U+0042").zero_()
    tasks.images("LATIN/U+0042", [1, 0]).zero_()
    assert (tasks.images("LATIN/U+0042") == before).all()


def test_arguments_are_attributes() -> None:
    tasks = Glyphs(size=32, channels=3, invert=True, drawings=2, seed=7, cache_dir="somewhere")
    kept = (tasks.size, tasks.channels, tasks.invert, tasks.drawings, tasks.seed, tasks.cache_dir)
    assert kept == (32, 3, True, 2, 7, "somewhere")
    assert tasks.root is None
    assert tasks.split_file is None


# --- the cache ---


def no_drawing(*_: object) -> None:
    raise AssertionError("drawn again")


def test_cache_is_used_and_keyed(few: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    first = Glyphs(drawings=2, **few).images("HEBREW/U+05D0")
    files = list(Path(few["cache_dir"]).iterdir())
    assert [file.suffix for file in files] == [".safetensors"]
    monkeypatch.setattr(glyphs, "draw_letter", no_drawing)
    assert (Glyphs(drawings=2, invert=True, **few).images("HEBREW/U+05D0") == 255 - first).all()
    for changed in ({"drawings": 3}, {"drawings": 2, "seed": 1}, {"drawings": 2, "size": 29}):
        with pytest.raises(AssertionError, match="drawn again"):
            Glyphs(**changed, **few).images("HEBREW/U+05D0")  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["empty", "cut", "bit"])
def test_damaged_cache_is_drawn_again(few: dict[str, str], damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = Glyphs(drawings=2, **few).images("HEBREW/U+05D0")
    (file,) = Path(few["cache_dir"]).iterdir()
    whole = file.read_bytes()
    broken = {"empty": b"", "cut": whole[: len(whole) // 2], "bit": whole[:-1] + bytes([whole[-1] ^ 1])}[damage]
    file.write_bytes(broken)
    assert (Glyphs(drawings=2, **few).images("HEBREW/U+05D0") == first).all()
    assert file.read_bytes() == whole
    assert "drawing again" in caplog.text


def test_cache_file_is_whole_or_absent(few: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", interrupted)
    Glyphs(drawings=1, **few).images("HEBREW/U+05D0")
    assert not list(Path(few["cache_dir"]).iterdir())


def test_unwritable_cache_is_no_error(few: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    Path(few["cache_dir"]).write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        assert Glyphs(drawings=1, **few).images("HEBREW/U+05D0").max() == 255
    assert "cannot be written" in caplog.text


def test_cache_folder_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path))
    assert cache_folder(None) == tmp_path
    assert cache_folder("given") == Path("given").absolute()


# --- the user's own fonts ---


def test_own_fonts(font_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Glyphs(root=str(font_folder), cache_dir=str(tmp_path / "cache"), drawings=2)
    assert {name.split("/")[0] for name in names(tasks.split)} == {"LATIN"}
    assert 20 <= len(names(tasks.split)) < 52
    assert tasks.images(tasks.split.test[0]).shape == (2, 1, 28, 28)
    monkeypatch.setattr(glyphs, "split_own", no_drawing)
    assert Glyphs(root=str(font_folder), cache_dir=str(tmp_path / "cache")).split == tasks.split


def test_own_fonts_with_a_split_file(font_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    own = Split(("LATIN/U+0041",), ("LATIN/U+0042",), ("LATIN/U+0043",))
    path.write_text(own.to_json(), encoding="utf-8")
    options = {"root": str(font_folder), "split_file": str(path), "cache_dir": str(tmp_path)}
    assert Glyphs(**options).split == own  # type: ignore[arg-type]
    path.write_text(FEW.to_json(), encoding="utf-8")
    with pytest.raises(MetagenError, match="in none of the fonts, the first 'GREEK/U"):
        Glyphs(**options)  # type: ignore[arg-type]


def refused(match: str, **options: object) -> None:
    with pytest.raises(MetagenError, match=match) as caught:
        Glyphs(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_font_errors(font_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("nowhere: no such folder", root=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    refused("empty: no .ttf, .otf, .ttc file", root=str(tmp_path / "empty"))
    (font_folder / "false.otf").write_text("no font")
    refused("false.otf: not a font", root=str(font_folder))
    (font_folder / "false.otf").unlink()
    monkeypatch.setattr(glyphs, "FEWEST", 60)
    refused("expected 60 or more", root=str(font_folder), cache_dir=str(tmp_path / "cache"))


def test_option_errors(few: dict[str, str], tmp_path: Path) -> None:
    refused("drawings: expected 1 or more", drawings=0)
    refused("seed: expected 0 or more", seed=-1)
    refused("size: expected 28 to 128", size=20)
    refused("no such file", split_file=str(tmp_path / "none.json"))
    with pytest.raises(MetagenError, match="unknown task 'LATIN/U\\+0058'") as caught:
        Glyphs(**few).images("LATIN/U+0058")  # type: ignore[arg-type]
    assert len(str(caught.value)) < 300
    for name in ("X", "LATIN/U+", "LATIN/U+110000", "LATIN/U+-1"):
        with pytest.raises(MetagenError, match="not a letter's name"):
            letter_of(name)
