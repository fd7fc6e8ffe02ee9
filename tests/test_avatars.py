"""The avatar task set: who is drawn, what a person keeps, what is held out, kept in the cache and refused."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import dicebear
import numpy as np
import pytest
import torch
from PIL import Image

from metagen.errors import MetagenError
from metagen.metrics.recognition import recognisability
from metagen.storage.bundled import resource
from metagen.storage.images import read_folder
from metagen.tasks import Avatars, avatars
from metagen.tasks.avatar_drawing import SHIFT, STYLES, definition_of, draw, people, person, shown_of
from metagen.tasks.splits import SPLITS, Split

QUICK = ("lorelei", "micah", "personas", "toon-head", SHIFT)  # styles whose files are read in no time
DEMO = resource("assets", "demo_avatars")


@pytest.fixture
def few(tmp_path: Path) -> dict[str, object]:
    """Options of a small set in which four people of one style stand in the split, with its own cache."""
    path = tmp_path / "few.json"
    path.write_text(Split(("micah/0000", "micah/0001"), ("micah/0002",), ("micah/0003",)).to_json(), encoding="utf-8")
    return {"identities": 5, "drawings": 2, "split_file": str(path), "cache_dir": str(tmp_path / "cache")}


# --- the split ---


def test_there_are_two_thousand_people_and_one_style_is_held_out_whole():
    split = Avatars().split
    styles = {part: {name.partition("/")[0] for name in split[part]} for part in SPLITS}
    assert sum(len(split[part]) for part in SPLITS) >= 2000
    assert styles["train"] == styles["val"] == styles["test"] - {SHIFT} == {*STYLES} - {SHIFT}
    assert 150 <= len(split.val) <= 300
    assert 150 <= len([name for name in split.test if not name.startswith(SHIFT)]) <= 300


def test_more_people_move_none_and_change_none():
    fewer, more = Avatars(identities=20).split, Avatars(identities=60).split
    assert all({*fewer[part]} < {*more[part]} for part in SPLITS)
    assert people("micah", 12) == people("micah", 20)[:12]


# --- people ---


def test_people_are_those_of_before():
    kept = [people(style, 3) for style in STYLES]
    digest = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
    assert digest == "1e7b289bf1ac05bb7d754fa0bdda673f87c1fbecced900855bf9dbd5bc23739d", (
        "raise VERSION: other people, or other versions of what draws them"
    )


@pytest.mark.parametrize("style", STYLES)
def test_no_two_people_of_a_style_look_nearly_the_same(style):
    shown = [shown_of(style, kept) for kept in people(style, 60)]
    for place, one in enumerate(shown):
        for other in shown[:place]:
            assert sum(one.get(name) != other.get(name) for name in {*one, *other}) >= 2


def test_what_is_not_drawn_does_not_set_two_people_apart():
    one = next(kept for kept in people("micah", 20) if "earringsVariant" not in kept)
    assert "hairColor" in shown_of("micah", one)
    assert shown_of("micah", one) == shown_of("micah", {**one, "earringColor": "#123456", "glassesColor": "#123456"})
    assert shown_of("micah", one) != shown_of("micah", {**one, "earringsVariant": "hoop"})


def test_a_style_with_too_few_people_is_one_line(monkeypatch):
    monkeypatch.setattr("metagen.tasks.avatar_drawing.person", lambda style, number, attempt: person(style, 0))
    with pytest.raises(MetagenError, match="micah has 1 people that differ, expected 3"):
        people("micah", 3)


# --- their images ---


@pytest.mark.parametrize("style", STYLES)
def test_what_varies_is_a_part_and_all_else_is_kept(style):
    definition, kept, looks = definition_of(style), people(style, 1)[0], STYLES[style]
    parts, colours = {*definition["components"]}, {*definition["colors"]} - {"background"}
    assert {*looks.varied} < parts
    assert {name for name in kept if name.endswith("Probability")} == {
        f"{n}Probability" for n in parts - {*looks.varied}
    }
    assert {name for name in kept if name.endswith("Color")} == {f"{name}Color" for name in colours}
    own = ("Variant", "Probability"), ("Color",)
    known = {
        name + what for names, whats in zip((parts, colours), own, strict=True) for name in names for what in whats
    }
    assert {*looks.options} <= known


@pytest.mark.parametrize("style", QUICK)
def test_a_person_keeps_parts_and_colours_from_image_to_image(style, monkeypatch):
    resolved = []

    class Watched(dicebear.Avatar):
        def __init__(self, *given: object) -> None:
            super().__init__(*given)
            resolved.append(self.to_json()["options"])

    monkeypatch.setattr(dicebear, "Avatar", Watched)
    draw(style, 0, people(style, 1)[0], range(8), 28)
    names = {name for each in resolved for name in each if name.endswith(("Variant", "Color"))}
    values = {name: {str(each[name]) for each in resolved if name in each} for name in names}
    changing = {name for name in names if len(values[name]) > 1}
    assert len(changing) >= 2
    assert changing <= {f"{part}Variant" for part in STYLES[style].varied} | {"backgroundColor"}
    assert len(values["backgroundColor"]) == 8


def test_images_are_the_same_in_another_process_and_independent_of_each_other():
    words = "import hashlib; from metagen.tasks.avatar_drawing import draw, people; kept = people('micah', 3)[2]; "
    words += "print(hashlib.sha256(draw('micah', 2, kept, range(3), 40)).hexdigest())"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    kept = people("micah", 5)[2]
    images = draw("micah", 2, kept, range(3), 40)
    assert hashlib.sha256(images).hexdigest() == done.stdout.strip()
    assert (draw("micah", 2, kept, [2], 40) == images[2:]).all()
    assert all((images[one] != images[other]).mean() > 0.2 for one, other in ((0, 1), (0, 2), (1, 2)))


def test_mean_colour_hardly_tells_who_it_is_and_the_face_does():
    drawn = np.stack([draw(s, n, kept, range(5), 28) for s in QUICK for n, kept in enumerate(people(s, 8))])
    images = torch.from_numpy(drawn).float() / 255  # [40, 5, 3, 28, 28]

    def recognised(features: torch.Tensor) -> float:
        return float(recognisability(features[:, 1:], features[:, 0]).mean())

    edges = torch.cat([images.diff(dim=-1)[..., 1:, :], images.diff(dim=-2)[..., 1:]], 2)
    lines = torch.nn.functional.avg_pool2d(edges.abs().flatten(0, 1), 3).unflatten(0, images.shape[:2]).flatten(2)
    assert recognised(images.mean((-1, -2))) < 0.3
    assert recognised(lines) > 0.4


def test_grey_is_that_of_pil(few):
    colour, grey = (Avatars(channels=channels, **few).images("micah/0001", [1])[0] for channels in (3, 1))
    expected = np.asarray(Image.fromarray(colour.permute(1, 2, 0).numpy()).convert("L"))
    assert (grey[0].numpy() == expected).all()


# --- the cache, and what is refused ---


def no_drawing(*_: object) -> None:
    raise AssertionError("drawn again")


def test_cache_is_used_and_keyed(few, monkeypatch):
    first = Avatars(**few).images("micah/0003")
    assert [file.suffix for file in Path(str(few["cache_dir"])).iterdir()] == [".safetensors"]
    monkeypatch.setattr(avatars, "draw", no_drawing)
    assert (Avatars(**few, invert=True).images("micah/0003") == 255 - first).all()
    assert Avatars(**{**few, "identities": 6}).images("micah/0003").shape == first.shape
    for changed in ({"drawings": 3}, {"size": 29}):
        with pytest.raises(AssertionError, match="drawn again"):
            Avatars(**{**few, **changed}).images("micah/0003")
    with pytest.raises(AssertionError, match="drawn again"):
        Avatars(**few).images("micah/0002")  # of another part of the split
    monkeypatch.setattr(avatars, "check_installed", lambda: ["another"])
    with pytest.raises(AssertionError, match="drawn again"):
        Avatars(**few).images("micah/0003")


@pytest.mark.parametrize("package", ["dicebear", "resvg_py"])
def test_without_the_extra_the_error_says_what_to_install(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MetagenError, match=r"pip install 'metagen\[avatars\]'") as refused:
        Avatars()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("options", "said"), [({"identities": 4}, "5 to 900"), ({"drawings": 0}, "drawings")])
def test_numbers_out_of_range_are_one_line(options, said):
    with pytest.raises(MetagenError, match=said):
        Avatars(**options)


def test_people_of_a_split_file_who_are_not_drawn_are_one_line(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(Split(("micah/0000",), ("micah/0300",), ("micah/0001",)).to_json(), encoding="utf-8")
    with pytest.raises(MetagenError, match="1 of its people are not drawn, the first 'micah/0300'"):
        Avatars(split_file=str(path))
    assert Avatars(split_file=str(path), identities=301).split.val == ("micah/0300",)


# --- what is bundled ---


def test_demo_images_are_of_test_people_as_they_are_drawn():
    names = [folder.relative_to(DEMO).as_posix() for folder in sorted(DEMO.glob("*/*"))]
    assert len(names) == 20
    assert {*names} <= {*Avatars().split.test}
    assert sum(file.stat().st_size for file in DEMO.rglob("*.png")) <= 600_000
    for name in names:
        assert definition_of(name.partition("/")[0])["meta"]["license"]["name"] == "CC0 1.0"
        assert read_folder(DEMO / name, 64, 3).shape == (5, 3, 64, 64)
    for name in [name for name in names if name.startswith(("lorelei", SHIFT))]:
        style, number = name.split("/")
        drawn = draw(style, int(number), people(style, Avatars().identities)[int(number)], [0, 4], 64)
        apart = read_folder(DEMO / name, 64, 3)[[0, 4]].numpy().astype(int) - drawn
        assert np.abs(apart).max() <= 2  # another processor may round otherwise


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_credited(style):
    credits = resource("assets", "README.md").read_text(encoding="utf-8")
    meta = definition_of(style)["meta"]
    (line,) = (line for line in credits.splitlines() if line.startswith(f"| `{style}` |"))
    for said in (meta["source"]["name"], meta["source"]["url"], meta["creator"]["name"]):
        assert said in line
    assert meta["license"]["name"] in line
    assert meta["license"]["name"] in ("CC0 1.0", "CC BY 4.0")
