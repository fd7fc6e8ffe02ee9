"""Photographs and scans made into tasks: drawings as they were drawn, bad pictures left out, nothing overwritten."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import metagen
from experiments.photographs import CONDITIONS, Shot, overlap, photographed, sheet_of
from experiments.shifts import letter, photograph
from metagen.cli import main
from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError
from metagen.preparation import faces
from metagen.preparation.faces import Face
from metagen.preparation.ink import inked, squared
from metagen.preparation.pictures import is_ink
from metagen.tasks import Folder
from metagen.tasks.glyphs import matplotlib_fonts
from metagen.tasks.splits import SPLITS

CELL = 160  # pixels of a cell of the sheets here
CLOSE = 0.6  # intersection over union, at least
SHADED = Shot(shadow=True)
TWELVE = "ABCiEFGHJjLM"  # two of them in two parts


@pytest.fixture(scope="module")
def letters():
    face = ImageFont.truetype(next(font for font in matplotlib_fonts() if font.stem == "DejaVuSans"), 224)
    return {character: letter(character, face).numpy() for character in TWELVE}


@pytest.fixture(scope="module")
def sheet(letters):
    return sheet_of([*letters.values()], cell=CELL)


def page(ink, shot=CONDITIONS["plain"], number=0):
    return photographed(ink, shot, numpy_rng("test", number), CELL)


@pytest.fixture
def alone(letters):
    """A photograph of one letter, well lit or not."""

    def made(character, shot=SHADED, number=0):
        return page(sheet_of([letters[character]], 1, CELL), shot, number)

    return made


@pytest.mark.parametrize("condition", CONDITIONS)
def test_drawings_on_a_sheet_are_found_as_they_were_drawn_in_reading_order(condition, letters, sheet):
    found = inked(np.asarray(page(sheet, CONDITIONS[condition])))
    assert len(found.drawings) == 12
    close = [overlap(squared(each, 56), ink) for each, ink in zip(found.drawings, letters.values(), strict=True)]
    assert min(close) > CLOSE, close


@pytest.mark.parametrize("sheet_is", ["auto", True])
def test_a_frame_of_squares_around_drawings_is_none(sheet_is, letters, sheet):
    found = inked(np.asarray(page(sheet, Shot(squares=True, turn=2))), sheet_is)
    assert len(found.drawings) == 12
    assert found.steps == ["marks of another size passed over, 1 of them"]
    assert all(overlap(squared(d, 56), ink) > CLOSE for d, ink in zip(found.drawings, letters.values(), strict=True))


@pytest.mark.parametrize("character", "iMG")
def test_one_drawing_on_ruled_paper_stays_one(character, letters):
    drawing = (255 * letters[character]).astype(np.uint8)
    grey = (255 * photograph(drawing, numpy_rng("test", character))).astype(np.uint8)
    (found,) = inked(np.repeat(grey[:, :, None], 3, 2)).drawings
    assert overlap(squared(found, 56), letters[character]) > CLOSE


def test_several_drawings_are_one_where_the_user_says_so(sheet):
    assert len(inked(np.asarray(page(sheet)), sheet=False).drawings) == 1


def test_a_drawing_stands_dark_in_the_middle_of_a_white_square():
    square = squared(np.ones((10, 30), np.float32), 56)
    rows, columns = np.nonzero(square < 128)
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (54, 55)
    assert columns.max() - columns.min() + 1 == 40  # 20/28 of 56, and 13 rows
    assert square[0, 0] == 255


def test_a_picture_is_turned_as_its_camera_held_it(alone, letters, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    alone("F").transpose(Image.Transpose.ROTATE_90).save(tmp_path / "f.jpg", exif=exif)
    (image,) = metagen.prepare(tmp_path / "f.jpg").support
    assert overlap(np.asarray(image.resize((56, 56))), letters["F"]) > CLOSE


def test_light_ink_on_a_dark_ground_becomes_dark(letters, tmp_path):
    Image.fromarray((255 * letters["F"]).astype(np.uint8)).save(tmp_path / "f.png")
    made = metagen.prepare(tmp_path / "f.png")
    assert made.sources[0].steps == ["light ink made dark"]
    assert overlap(np.asarray(made.support[0].resize((56, 56))), letters["F"]) > CLOSE


def test_ink_is_told_from_photographs(alone, sheet):
    assert is_ink(np.asarray(alone("G")))
    assert is_ink(np.asarray(page(sheet, CONDITIONS["all"])))
    assert not is_ink(np.asarray(coarse()))


def coarse():
    """A photograph of nothing in particular: patches of many colours."""
    patches = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(patches).resize((240, 180), Image.Resampling.NEAREST)


@pytest.fixture
def photos(alone, tmp_path):
    """Two letters, and four pictures that should not become images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, character in enumerate("FG"):
        alone(character, number=number).save(folder / f"{character}.jpg")
    alone("F", Shot(grain=0.03, quality=40), 7).save(folder / "late.jpg")
    alone("M").filter(ImageFilter.GaussianBlur(14)).save(folder / "shaken.jpg")
    Image.new("RGB", (90, 90), "white").save(folder / "white.png")
    (folder / "damaged.jpg").write_bytes((folder / "F.jpg").read_bytes()[:400])
    (folder / "list.txt").write_text("no picture")
    return folder


REASONS = {
    "F.jpg": None,
    "late.jpg": "late.png is nearly the same as F.png",
    "shaken.jpg": "blurred",
    "white.png": "no ink found",
    "damaged.jpg": "cannot read this image",
    "list.txt": "no image that can be read",
}


def test_what_is_left_out_is_told_and_listed_with_the_reason(photos, tmp_path, capsys):
    assert main(["prepare", str(photos), str(tmp_path / "out")]) == 0
    told = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"F.png", "G.png"}
    listed = {each["file"]: each for each in json.loads((tmp_path / "out.json").read_text())["pictures"]}
    assert listed["G.jpg"]["images"] == ["G.png"]
    for name, reason in REASONS.items():
        left = listed[name]["left_out"]
        assert not left if reason is None else reason in left[0], left
        assert reason is None or f"left out {name}: {left[0]}" in told
    assert "2 images of 128 x 128 px from 7 pictures, as ink" in told


class Page(HTMLParser):
    """The pictures on a page, and the tags that are open."""

    def __init__(self):
        super().__init__()
        self.open, self.images = [], []

    def handle_starttag(self, tag, attrs):
        self.images += [dict(attrs)] if tag == "img" else []
        self.open += [tag] if tag not in ("img", "meta") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_contact_sheet_is_one_whole_page(photos, tmp_path):
    (photos / "G.jpg").rename(photos / "<G> & co.jpg")
    metagen.prepare(photos, tmp_path / "out")
    text = (tmp_path / "out.html").read_text(encoding="utf-8")
    seen = Page()
    seen.feed(text)
    assert not seen.open
    assert "http" not in text
    assert "color-scheme: light dark" in text
    assert len(seen.images) == 5 + 2  # that could be read, and that were made
    assert all(image["src"].startswith("data:image/") and image["alt"] for image in seen.images)
    assert "<G> & co.jpg, before" in {image["alt"] for image in seen.images}


def test_nothing_is_overwritten(photos, tmp_path, capsys):
    before = {path: path.read_bytes() for path in photos.iterdir()}
    for taken in ("out/mine.txt", "other.html", "third.json"):
        (tmp_path / taken).parent.mkdir(exist_ok=True)
        (tmp_path / taken).write_text("mine")
        assert main(["prepare", str(photos), str(tmp_path / taken.partition("/")[0].partition(".")[0])]) == 2
        assert "exists" in capsys.readouterr().err
        assert (tmp_path / taken).read_text() == "mine"
    assert main(["prepare", str(photos), str(photos / "out")]) == 2
    assert "lies in" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out", "other.html", "third.json"}


def test_folders_become_a_task_set(alone, tmp_path, caplog):
    for task in ("a", "b", "c/d"):
        (tmp_path / "photos" / task).mkdir(parents=True)
        for number, character in enumerate("FGM"):
            alone(character, number=number).save(tmp_path / "photos" / task / f"{character}.jpg")
    metagen.prepare(tmp_path / "photos", tmp_path / "tasks", size=64)
    tasks = Folder(str(tmp_path / "tasks"), 64, 1, val=1, test=1)
    assert {len(tasks.images(task)) for task in "ab"} == {3}
    assert sorted(task for part in SPLITS for task in tasks.split[part]) == ["a", "b", "c/d"]
    assert not caplog.records


def test_files_of_one_stem_keep_their_names_apart(alone, tmp_path):
    alone("F").save(tmp_path / "one.jpg")
    alone("G").save(tmp_path / "one.png")
    assert [[*source.images] for source in metagen.prepare(tmp_path).sources] == [["one.png"], ["one-png.png"]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "out"], "no such folder"),
        (["white.png", "out"], "nothing is left to prepare: white.png: no ink found"),
        (["white.png", "out", "--kind", "inc"], "did you mean ink"),
        (["white.png"], "out"),
        (["white.png", "out", "--size", "2"], "size: expected 8 or more"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (90, 90), "white").save("white.png")
    kind = [] if "--kind" in words else ["--kind", "ink"]
    assert main(["prepare", *words, *kind]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not Path("out").exists()


def test_adapt_prepares_first(sheet, tmp_path, capsys):
    page(sheet, CONDITIONS["all"]).save(tmp_path / "page.jpg")
    words = ["--support", str(tmp_path / "page.jpg"), "--out", str(tmp_path / "mine"), "--prepare", "auto"]
    assert main(["adapt", "--model", "omniglot-redraw", *words]) == 0
    told = capsys.readouterr().out
    assert "prepared 12 images of 128 x 128 px from 1 picture, as ink; page cut from its table: 1" in told
    assert "adapted to 12 images" in told


def test_a_prepared_page_is_read_as_the_drawings_are(sheet, letters, tmp_path):
    page(sheet, CONDITIONS["all"]).save(tmp_path / "page.jpg")
    model = metagen.load("omniglot-redraw")
    true = model.read([Image.fromarray(squared(_boxed(ink), 128)) for ink in letters.values()])
    prepared = model.read(metagen.prepare(tmp_path / "page.jpg").support)
    raw = model.read(tmp_path / "page.jpg")
    assert (prepared - true).abs().mean() < 0.05 < (raw - true).abs().mean()


def _boxed(ink):
    rows, columns = np.nonzero(ink > 0.5)
    return ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def test_a_face_is_cut_out_and_turned_level(monkeypatch, tmp_path):
    picture = Image.new("RGB", (400, 300), "grey")
    draw = ImageDraw.Draw(picture)
    for x, y in ((170, 130), (230, 150)):  # eyes, of which the right one hangs
        draw.ellipse([x - 6, y - 6, x + 6, y + 6], fill="black")
    picture.save(tmp_path / "face.png")
    angle = float(np.degrees(np.arctan2(20, 60)))
    monkeypatch.setattr(faces, "find_face", lambda image: Face(200, 160, 140, angle))
    made = metagen.prepare(tmp_path / "face.png", kind="faces")
    grey = np.asarray(made.support[0].convert("L"))
    labels = [np.argwhere(half < 60).mean(0) for half in (grey[:, :64], grey[:, 64:])]
    assert abs(labels[0][0] - labels[1][0]) < 1.5
    assert made.sources[0].steps == ["face cut out, turned by 18 degrees"]


def test_without_a_face_a_picture_is_left_out(monkeypatch, tmp_path):
    coarse().save(tmp_path / "coarse.png")
    monkeypatch.setattr(faces, "find_face", lambda image: None)
    with pytest.raises(MetagenError, match=r"nothing is left to prepare: coarse\.png: no face found"):
        metagen.prepare(tmp_path, kind="faces")


def test_without_a_detector_one_line_says_how_to_install_one(monkeypatch, tmp_path):
    coarse().save(tmp_path / "coarse.png")
    monkeypatch.setattr(faces, "is_installed", lambda: False)
    faces._cascade.cache_clear()
    with pytest.raises(MetagenError, match=r"pip install 'metagen\[faces\]'"):
        metagen.prepare(tmp_path, kind="faces")
    made = metagen.prepare(tmp_path)
    assert made.kind == "photo"
    assert "metagen[faces]" in made.notes[0]
    assert np.asarray(made.support[0]).shape == (128, 128, 3)


def test_the_detector_finds_no_face_in_noise():
    pytest.importorskip("cv2")
    rng = np.random.default_rng(0)
    assert faces.find_face(rng.integers(0, 256, (200, 200, 3), np.uint8)) is None


def test_preparing_is_the_same_each_time(photos):
    first, second = (metagen.prepare(photos).support for _ in range(2))
    assert torch.equal(*(torch.from_numpy(np.stack([np.asarray(image) for image in each])) for each in (first, second)))
    assert "cv2" not in sys.modules or faces.is_installed()
