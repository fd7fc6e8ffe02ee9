"""Images that a model cannot adapt to as they are: turned, or told."""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter

import metagen
from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation.evaluator import load_for_tasks
from metagen.learners import Joint
from metagen.learners.model_files import save_model
from metagen.model import Model
from metagen.storage import images
from metagen.storage.images import save_pngs
from metagen.tasks import Folder
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs, tiny_vae

DARK = {"data": {"task_set": "omniglot", "invert": False}}


def stroke(number=0, size=105, ink=255, paper=0):
    """A made-up character."""
    rng = np.random.RandomState(number)
    image = Image.new("L", (size, size), paper)
    points = [tuple(point) for point in np.random.RandomState(7).rand(4, 2) * size * 0.7 + size * 0.15]
    ImageDraw.Draw(image).line([(x + rng.randint(3), y) for x, y in points], fill=ink, width=max(2, size // 17))
    return image


def strokes(**options):
    return [stroke(number, **options) for number in range(4)]


def tiny(info, channels=1):
    torch.manual_seed(0)
    return Model(Joint(tiny_vae(size=28, channels=channels), test_steps=2, rate=0.01), info)


@pytest.fixture
def model():
    """A small model, which says of itself that it knows light ink on a dark ground."""
    return tiny(DARK)


def told(caplog):
    return " / ".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)


def as_given(model, pictures):
    return model.read(pictures, invert=False)


# ink


def clear(ink, mode):
    """Ink on transparency."""
    masks = strokes()
    made = [Image.new("RGBA", mask.size, (ink,) * 3 + (0,)) for mask in masks]
    for image, mask in zip(made, masks, strict=True):
        image.putalpha(mask)
    return [image.convert(mode) for image in made]


def jpeg(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer)


def photographed(image):
    """As a camera sees a sheet of paper: grey, and lighter at one side."""
    shade = 0.45 + 0.35 * np.linspace(0, 1, image.width)
    return Image.fromarray((np.asarray(image) * shade + 25).astype(np.uint8))


PAPER = {
    "plain": lambda: strokes(ink=0, paper=255),
    "one": lambda: stroke(ink=0, paper=255),
    "grey paper": lambda: strokes(ink=0, paper=110),
    "faded ink": lambda: strokes(ink=150, paper=255),
    "one bit": lambda: [each.convert("1") for each in strokes(ink=0, paper=255)],
    "palette": lambda: [each.convert("P") for each in strokes(ink=0, paper=255)],
    "blue ink": lambda: [Image.merge("RGB", (e, e, Image.new("L", e.size, 255))) for e in strokes(ink=0, paper=255)],
    "jpeg": lambda: [jpeg(each) for each in strokes(ink=0, paper=255)],
    "blurred": lambda: [each.filter(ImageFilter.GaussianBlur(3)) for each in strokes(ink=0, paper=255)],
    "photographed": lambda: [photographed(each) for each in strokes(ink=0, paper=255)],
    "a tight crop": lambda: [each.crop((8, 8, 98, 98)) for each in strokes(ink=0, paper=255)],
    "sixteen bits": lambda: [Image.fromarray(np.asarray(e).astype(np.uint16) * 257) for e in strokes(ink=0, paper=255)],
    "black on transparency": lambda: clear(0, "RGBA"),
    "grey with alpha": lambda: clear(0, "LA"),
}


@pytest.mark.parametrize("paper", PAPER)
def test_dark_ink_is_turned_for_a_model_that_knows_light_ink(model, caplog, paper):
    pictures = PAPER[paper]()
    read = model.read(pictures)
    assert torch.equal(read, 1 - as_given(model, pictures))
    assert read[:, :, 0].median() < read.amax() - 0.3  # the upper rim is darker than the ink now
    assert len(caplog.records) == 1


def test_files_are_turned_too_and_it_is_the_same_as_if_they_had_been(model, tmp_path, caplog):
    for number, image in enumerate(strokes(ink=0, paper=255)):
        image.save(tmp_path / f"{number}.png")
    turned = model.adapt(tmp_path).sample(3)
    assert len(caplog.records) == 1
    assert torch.allclose(turned, model.adapt(strokes()).sample(3), atol=1e-6)
    assert not torch.equal(turned, model.adapt(tmp_path, invert=False).sample(3))
    assert len(caplog.records) == 1


LIGHT = {
    "plain": strokes,
    "dim": lambda: strokes(ink=120),
    "dark grey ground": lambda: strokes(paper=60),
    "one": stroke,
    "jpeg": lambda: [jpeg(each) for each in strokes()],
    "a tight crop": lambda: [each.crop((8, 8, 98, 98)) for each in strokes()],
}


@pytest.mark.parametrize("paper", LIGHT)
def test_light_ink_stays_as_it_is_to_the_bit(model, caplog, paper):
    pictures = LIGHT[paper]()
    assert torch.equal(model.read(pictures), as_given(model, pictures))
    assert not caplog.records


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_white_ink_on_transparency_is_seen(model, caplog, tmp_path, mode):
    if mode == "P":
        pictures = []
        for number, mask in enumerate(strokes()):
            bits = mask.point(lambda level: level > 127, "L")
            image = Image.fromarray(np.asarray(bits), "P")
            image.putpalette([9, 9, 9, 255, 255, 255])
            image.save(tmp_path / f"{number}.png", transparency=0)
        pictures = tmp_path
    else:
        pictures = clear(255, mode)
    read = model.read(pictures)
    assert (read.amax((1, 2, 3)) > 0.8).all()
    assert read[:, :, 0].max() < 0.2
    assert "transparen" in told(caplog)


def test_the_shipped_model_draws_the_same_of_black_on_white(caplog):
    shipped = metagen.load("omniglot")
    white = shipped.adapt(strokes())
    assert not caplog.records
    black = shipped.adapt([Image.eval(each, lambda level: 255 - level) for each in strokes()])
    assert torch.equal(white.sample(2), black.sample(2))


def noise(number):
    return Image.fromarray(np.random.RandomState(number).randint(0, 256, (40, 40), np.uint8)).resize((105, 105))


DOUBTFUL = {
    "photographs": lambda: [noise(number) for number in range(4)],
    "both kinds": lambda: [*strokes()[:2], *strokes(ink=0, paper=255)[2:]],
    "nearly all of one kind": lambda: [*strokes(ink=0, paper=255), stroke()],
    "framed": lambda: [Image.fromarray(np.pad(np.zeros((90, 90), np.uint8), 8, constant_values=255))] * 2,
}


@pytest.mark.parametrize("pictures", DOUBTFUL)
def test_in_doubt_it_stays_and_is_told(model, caplog, pictures):
    given = DOUBTFUL[pictures]()
    assert torch.equal(model.read(given), as_given(model, given))
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("info", "turned", "said"),
    [
        ({"data": {"task_set": "omniglot", "invert": True}}, True, True),
        ({"data": {"task_set": "glyphs", "invert": False}}, False, False),
        ({"ground": "light"}, True, True),
        ({"ground": "dark"}, False, False),
        ({"ground": "none"}, False, False),
        ({"data": {"task_set": "celeba", "invert": False}}, False, False),
        ({"data": {"task_set": "folder", "invert": False}}, False, True),
        ({}, False, True),
        ({"data": 3}, False, True),
    ],
)
def test_it_depends_on_what_the_model_was_trained_on(caplog, info, turned, said):
    model = tiny(info)
    read = model.read(strokes())
    assert torch.equal(read, 1 - as_given(model, strokes()) if turned else as_given(model, strokes()))
    assert bool(caplog.records) == said


def test_it_can_be_forced(model, caplog):
    plain = as_given(model, strokes())
    assert torch.equal(model.read(strokes(), invert=True), 1 - plain)
    assert torch.equal(model.adapt(strokes(), invert=True).sample(2), model.adapt(1 - plain, invert=False).sample(2))
    assert not caplog.records
    for wrong in ("yes", None, 1):
        with pytest.raises(MetagenError):
            model.read(strokes(), invert=wrong)


def test_a_tensor_is_never_turned_but_told(model, caplog):
    paper = as_given(model, strokes(ink=0, paper=255))
    assert torch.equal(model.adapt(paper).sample(2), model.adapt(paper, invert=False).sample(2))
    assert len(caplog.records) == 1
    model.adapt(1 - paper)
    assert len(caplog.records) == 1
    assert torch.equal(model.adapt_many(paper[None]).sample(2)[0], model.adapt(paper, invert=False).sample(2))
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("words", "turned"),
    [
        ([], True),
        (["--invert"], True),
        (["--invert", "auto"], True),
        (["--invert", "false"], False),
        (["--invert=true"], True),
    ],
)
def test_the_command_line_says_so(model, tmp_path, words, turned):
    model.save(tmp_path / "model")
    save_pngs(as_given(model, strokes(ink=0, paper=255)), tmp_path / "five")
    given = ["--model", tmp_path / "model", "--support", tmp_path / "five", "--out", tmp_path / "mine", *words]
    assert main(["adapt", *map(str, given)]) == 0
    expected = model.adapt(tmp_path / "five", invert=turned).sample(2)
    assert torch.equal(metagen.load(tmp_path / "mine").sample(2), expected)


def folder_of(root, blobs, invert=False):
    for task in [name for part in ("train", "val", "test") for name in blobs.split[part]]:
        save_pngs(255 - blobs.images(task) if invert else blobs.images(task), root / "tasks" / task)
    (root / "split.json").write_text(blobs.split.to_json())
    return {"task_set": "folder", "root": str(root / "tasks"), "split_file": str(root / "split.json")}


def test_evaluate_tells_a_difference_and_turns_nothing(tmp_path, caplog):
    blobs = Blobs(tasks=16, images=4)
    options = folder_of(tmp_path, blobs, invert=True)
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 2, "queries": 2}
    save_model(tmp_path / "model", tiny({}).learner, {"data": data, "ground": "dark"}, blobs.split)
    words = ["--model", tmp_path / "model", "--out", tmp_path / "out", "--baselines", "false", "--curve", "[0]"]
    words += ["--extractor", "none", "--data.root", options["root"], "--data.split_file", options["split_file"]]
    assert main(["evaluate", *map(str, words)]) == 0
    assert "light" in told(caplog)
    caplog.clear()
    assert main(["evaluate", *map(str, words), "--overwrite", "--data.invert"]) == 0
    assert "light" not in told(caplog)


@pytest.mark.parametrize(("invert", "ground"), [(False, "dark"), (True, "light")])
def test_an_export_tells_what_ink_stood_on(tmp_path, invert, ground):
    options = folder_of(tmp_path, Blobs(tasks=8, images=4))
    assert EpisodeData(**options, invert=invert).ground == ground


def test_fit_keeps_it(exported):
    assert metagen.load(exported).info["ground"] == "dark"


def test_photographs_have_no_ground(tmp_path):
    for number in range(40):
        (tmp_path / f"task-{number}").mkdir()
        noise(number).save(tmp_path / f"task-{number}/a.png")
    assert EpisodeData("folder", root=str(tmp_path)).ground == "none"


# images that show nothing


def beside():
    """Ink at the left of a wide sheet."""
    image = Image.new("L", (300, 100))
    ImageDraw.Draw(image).rectangle((5, 20, 60, 80), fill=255)
    return image


NOTHING = {
    "black": lambda: Image.new("L", (105, 105)),
    "white": lambda: Image.new("L", (105, 105), 255),
    "one colour": lambda: Image.new("RGB", (105, 105), (200, 30, 90)),
    "faint": lambda: stroke(ink=15),
    "twelve bits in sixteen": lambda: Image.fromarray(np.asarray(stroke()).astype(np.uint16) * 16),
    "eight bits in thirty-two": lambda: Image.fromarray(np.asarray(stroke()).astype(np.int32)),
    "ink beside the central square": lambda: beside(),
    "a speck": lambda: Image.fromarray(np.pad(np.full((1, 1), 255, np.uint8), 250)),
    "clear": lambda: Image.new("RGBA", (50, 50), (0, 0, 0, 0)),
}


@pytest.mark.parametrize("nothing", NOTHING)
def test_an_image_that_shows_nothing_is_named(model, tmp_path, caplog, nothing):
    for number, image in enumerate(strokes()):
        image.save(tmp_path / f"{number}.png")
    NOTHING[nothing]().save(tmp_path / "nothing.tiff")
    model.adapt(tmp_path)
    assert "nothing.tiff" in told(caplog)
    assert "0.png" not in told(caplog)


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.png", "a.webp"])
@pytest.mark.parametrize("opened", [False, True])
def test_of_several_frames_one_is_read_and_that_is_told(model, tmp_path, caplog, name, opened):
    first, *others = strokes()
    first.save(tmp_path / name, save_all=True, append_images=others)
    assert len(model.read([Image.open(tmp_path / name)] if opened else tmp_path)) == 1
    assert len(caplog.records) == 1


@pytest.mark.parametrize("trouble", ["closed", "truncated", "a mode of no colours", "nothing", "a number"])
def test_pictures_that_cannot_be_read_are_one_line(model, trouble):
    buffer = io.BytesIO()
    stroke().save(buffer, "PNG")
    picture = stroke()
    if trouble == "closed":
        picture = Image.open(buffer)
        picture.load()
        picture.close()
    elif trouble == "truncated":
        picture = Image.open(io.BytesIO(buffer.getvalue()[: buffer.tell() // 2]))
    elif trouble == "a mode of no colours":
        picture = Image.new("La", (28, 28))
    given = {"nothing": None, "a number": 3}.get(trouble, [stroke(), picture])
    with pytest.raises(MetagenError):
        model.adapt(given)


@pytest.mark.parametrize(("ink", "paper"), [(0, 255), (255, 0)])
def test_the_odd_one_among_many_is_told(model, caplog, ink, paper):
    pictures = [stroke(number, ink=ink, paper=paper) for number in range(11)]
    model.read(pictures)
    told_of_all = len(caplog.records)
    model.read([*pictures, stroke(ink=paper, paper=ink)])
    assert len(caplog.records) == 2 * told_of_all + 1


@pytest.mark.parametrize("kind", ["a link that leads nowhere", "a folder", "a pipe"])
def test_what_is_only_named_like_an_image_is_told(model, tmp_path, caplog, kind):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        stroke().save(tmp_path / folder / "0.png")
    fake = tmp_path / "a" / "fake.png"
    if kind == "a folder":
        fake.mkdir()
    elif kind == "a pipe":
        os.mkfifo(fake)
    else:
        fake.symlink_to("nowhere")
    assert len(model.read(tmp_path / "a")) == 1
    assert "fake.png" in told(caplog)
    caplog.clear()
    assert Folder(str(tmp_path), 28, 1, val=1, test=1).image_count("a") == 1
    assert kind == "a folder" or "fake.png" in told(caplog)


def test_links_in_an_archive_are_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    for folder in "abcd":
        (tmp_path / "top" / folder).mkdir(parents=True)
        stroke().save(tmp_path / "top" / folder / "0.png")
    os.link(tmp_path / "top/a/0.png", tmp_path / "top/b/twin.png")
    (tmp_path / "top/b/soft.png").symlink_to("0.png")
    with tarfile.open(tmp_path / "top.tar", "w") as packed:
        packed.add(tmp_path / "top", "top")
    assert Folder(str(tmp_path / "top.tar"), 28, 1, val=1, test=1).image_count("b") == 1
    assert "soft.png" in told(caplog)
    assert "twin.png" in told(caplog)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("twin", ["a/0.png", "./a/0.png", "a//0.png", "a\\0.png"])
def test_of_two_members_of_one_name_the_loss_of_one_is_told(tmp_path, monkeypatch, caplog, twin):
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    stroke().save(tmp_path / "0.png")
    with zipfile.ZipFile(tmp_path / "twins.zip", "w") as packed:
        for name in ("a/0.png", "b/0.png", "c/0.png", twin):
            packed.write(tmp_path / "0.png", name)
    Folder(str(tmp_path / "twins.zip"), 28, 1, val=1, test=1)
    assert len(caplog.records) == 1


def test_tasks_that_show_nothing_are_told_by_fit_and_evaluate(fit, exported, tmp_path, caplog):
    for task in "abcd":
        (tmp_path / "tasks" / task).mkdir(parents=True)
        for number in range(8):
            image = Image.new("RGBA", (105, 105), (255, 255, 255, 0))
            image.putalpha(stroke(10 * ord(task) + number))
            image.rotate(ord(task)).save(tmp_path / "tasks" / task / f"{number}.png")
    (tmp_path / "split.json").write_text('{"train": ["a", "b"], "val": ["c"], "test": ["d"]}')
    data = ("--data.root", str(tmp_path / "tasks"), "--data.split_file", str(tmp_path / "split.json"))
    assert fit(tmp_path / "run", *data, "--data.tasks", "2", "--data.val_tasks", "1", "--data.episodes", "1") == 0
    assert "2 of 2 train" in told(caplog)
    load_for_tasks(str(exported), EpisodeData("folder", data[1], 28, 1, split_file=data[3]), "test")
    assert "1 of 1 test" in told(caplog)


def test_pictures_and_tensors_that_show_nothing_are_named_by_number(model, caplog):
    pictures = [*strokes(), NOTHING["black"]()]
    model.adapt(pictures)
    model.adapt(as_given(model, pictures[2:]))
    assert "image 4" in told(caplog)
    assert "image 2" in told(caplog)


def test_all_black_is_told_once(tmp_path, capfd):
    save_pngs(torch.zeros(3, 1, 28, 28), tmp_path / "black")
    words = ["adapt", "--model", "omniglot", "--support", tmp_path / "black", "--out", tmp_path / "out"]
    assert main([*map(str, words)]) == 0
    assert (tmp_path / "out/config.json").is_file()


# files


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.jpe", "A.JPG", "a.TIF", "a.avif", "a.apng", "a.jp2", "a.pbm", "a.Png", "a.dib"]
)
def test_a_file_is_read_whatever_its_suffix(model, tmp_path, caplog, name):
    stroke().convert("1" if name.endswith("pbm") else "L").convert("RGB" if name.endswith("avif") else "L").save(
        tmp_path / name, **({"lossless": True} if name.endswith("jp2") else {})
    )
    assert len(model.read(tmp_path)) == 1
    assert not caplog.records
    assert (model.read(tmp_path) - model.read([stroke()])).abs().max() < 0.35


OTHERS = ["b.heic", "c.txt", ".hidden.png", "d.svg", "e.png.part", "f"]


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_passed_over_is_named(model, tmp_path, caplog, other):
    stroke().save(tmp_path / "a.png")
    (tmp_path / other).write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 64)
    (tmp_path / ".DS_Store").touch()
    assert len(model.read(tmp_path)) == 1
    assert other in told(caplog)
    assert ".DS_Store" not in told(caplog)


def test_folders_and_many_others_are_counted(model, tmp_path, caplog):
    stroke().save(tmp_path / "a.png")
    (tmp_path / "more").mkdir()
    for number in range(20):
        (tmp_path / f"n{number}.txt").touch()
    model.read(tmp_path)
    assert "21" in told(caplog)
    assert "more/" in told(caplog)
    assert "n19" not in told(caplog)


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_heif_says_what_to_install(model, tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 64)
    for given in (tmp_path, tmp_path / name):
        with pytest.raises(MetagenError, match="pip install pillow-heif"):
            model.read(given)


def test_heif_is_read_where_its_plugin_is_installed(monkeypatch, tmp_path):
    def register():
        Image.register_open("HEIF", lambda file, name: stroke(), lambda head: head[4:12] == b"ftypheic")

    monkeypatch.setattr(images, "_HAS_HEIF", True)
    monkeypatch.setattr(images, "IMAGE_SUFFIXES", (*images.COMMON, *images.HEIF))
    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    monkeypatch.setattr(Image, "OPEN", {**Image.OPEN})
    monkeypatch.setattr(Image, "ID", [*Image.ID])
    images._formats.cache_clear()
    (tmp_path / "a.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 64)
    try:
        assert [path.name for path in images.image_files(tmp_path)] == ["a.HEIC"]
        assert images.read_image(tmp_path / "a.HEIC", 28, 1).max() > 100
    finally:
        images._formats.cache_clear()


@pytest.mark.parametrize("packed", [False, True])
def test_a_task_set_names_what_it_passes_over(tmp_path, monkeypatch, caplog, packed):
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    folder_of(tmp_path, Blobs(tasks=30, images=1))
    (tmp_path / "tasks/blob-1/9.heic").touch()
    root = tmp_path / "tasks"
    if packed:
        root = tmp_path / "tasks.zip"
        with zipfile.ZipFile(root, "w") as archive:
            for path in sorted((tmp_path / "tasks").rglob("*")):
                archive.write(path, path.relative_to(tmp_path))
        shutil.rmtree(tmp_path / "tasks")
    Folder(str(root), 28, 1)
    assert str(Path("blob-1/9.heic")) in told(caplog)
    assert "pillow-heif" in told(caplog)
