"""Omniglot from a small tree like its publishers': what is read, how it is split, and what is not there."""

from __future__ import annotations

import inspect
import logging
import re
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from metagen.errors import MetagenError
from metagen.tasks import Omniglot, task_sets
from metagen.tasks.omniglot import BACKGROUND, EVALUATION, RANDOM_VAL, VAL_ALPHABETS, OmniglotPartition, whole_split
from metagen.tasks.splits import SPLITS, Split

# Of each alphabet the first few characters, and which part of the canonical split it is in.
TREE = {
    "images_background": {"Greek": 3, "Latin": 2, "Asomtavruli_(Georgian)": 0, VAL_ALPHABETS[0]: 2},
    "images_evaluation": {"Tengwar": 2, "ULOG": 1},
}
PEOPLE = 3
SIDE = 105


def drawing(seed: int) -> np.ndarray:
    """Where the ink is, [105, 105]: a thick bar at a place of its own."""
    ink = np.zeros((SIDE, SIDE), dtype=bool)
    top = 15 + 3 * (seed % 20)
    ink[top : top + 15, 30 + seed % 7 : 75] = True
    return ink


def make(root: Path, tree: dict[str, dict[str, int]] = TREE) -> str:
    """1-bit PNGs, ink black on white, as Omniglot has them."""
    seed = 0
    for folder, alphabets in tree.items():
        for alphabet, count in alphabets.items():
            for number in range(1, count + 1):
                character = root / folder / alphabet / f"character{number:02d}"
                character.mkdir(parents=True)
                for person in range(1, PEOPLE + 1):
                    seed += 1
                    Image.fromarray(~drawing(seed)).save(character / f"{seed:04d}_{person:02d}.png")
    return str(root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make(tmp_path_factory.mktemp("omniglot"))


def all_names(split: Split) -> list[str]:
    return [name for part in SPLITS for name in split[part]]


# images


def test_the_drawings_are_one_bit_files(root):
    with Image.open(Path(root, "images_background/Greek/character01/0001_01.png")) as image:
        assert (image.mode, image.size) == ("1", (105, 105))
        assert np.array(image).mean() > 0.5  # mostly paper


def test_ink_comes_out_white_on_black_where_it_was_drawn(root):
    images = Omniglot(root, size=105).images("Greek/character01")
    assert images.dtype == torch.uint8
    assert images.shape == (PEOPLE, 1, 105, 105)
    for i in range(PEOPLE):
        assert np.array_equal(images[i, 0].numpy(), 255 * drawing(i + 1).astype(np.uint8))


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (64, 3), (128, 1)])
def test_sizes_and_channels(root, size, channels):
    images = Omniglot(root, size=size, channels=channels).images("Greek/character02")
    assert images.shape == (PEOPLE, channels, size, size)
    assert torch.equal(images, images[:, :1].expand_as(images))
    ink = torch.from_numpy(drawing(PEOPLE + 1)).float().mean()  # the share of the paper is the same at any size
    assert float(images[0].float().mean() / 255) == pytest.approx(float(ink), rel=0.05)
    middle = round(np.argwhere(drawing(PEOPLE + 1))[:, 0].mean() / SIDE * size), round(52 / SIDE * size)
    assert images[0, 0][middle] > 240
    assert images[0, 0, 0, 0] == 0


def test_invert_exchanges_ink_and_paper(root):
    plain, inverted = (Omniglot(root, invert=invert).images("Latin/character01") for invert in (False, True))
    assert torch.equal(inverted, 255 - plain)


@pytest.mark.parametrize("invert", [False, True])
def test_binarised_drawings_have_ink_where_a_pixel_is_three_tenths_covered(root, invert):
    grey = Omniglot(root).images("Greek/character03")
    found = Omniglot(root, binarise=True, invert=invert).images("Greek/character03")
    assert found.unique().tolist() == [0, 255]
    assert len(grey.unique()) > 2
    ink = 255 - found if invert else found
    assert (ink[grey >= 80] == 255).all()
    assert (ink[grey <= 73] == 0).all()  # 0.3 of 255 is 76.5


def test_images_are_read_once_and_when_asked_for(tmp_path):
    root = make(tmp_path)
    tasks = Omniglot(root)
    assert tasks.images("Latin/character02") is tasks.images("Latin/character02")
    next((tmp_path / "images_evaluation/ULOG/character01").iterdir()).write_bytes(b"damaged")
    with pytest.raises(MetagenError, match="not an image"):
        tasks.images("ULOG/character01")


def test_chosen_drawings_come_in_the_order_asked_for(root):
    tasks = Omniglot(root)
    assert torch.equal(tasks.images("Greek/character01", [2, 0]), tasks.images("Greek/character01")[[2, 0]])


@pytest.mark.parametrize("name", ["Greek/character04", "Greek", "../secret", "Klingon/character01", ""])
def test_an_unknown_character_is_refused(root, name):
    with pytest.raises(MetagenError, match=rf"no character {re.escape(repr(name))}"):
        Omniglot(root).images(name)


# splits


def test_the_canonical_split_is_by_alphabet(root):
    split = Omniglot(root).split
    greek, latin = ([f"{name}/character{i:02}" for i in range(1, n + 1)] for name, n in (("Greek", 3), ("Latin", 2)))
    assert split.train == (*greek, *latin)
    assert split.val == (f"{VAL_ALPHABETS[0]}/character01", f"{VAL_ALPHABETS[0]}/character02")
    assert split.test == ("Tengwar/character01", "Tengwar/character02", "ULOG/character01")


def test_the_whole_has_as_many_characters_as_its_publishers_say():
    assert (len(BACKGROUND), len(EVALUATION)) == (30, 20)
    assert (sum(BACKGROUND.values()), sum(EVALUATION.values())) == (964, 659)
    for partition in get_args(OmniglotPartition):
        names = all_names(whole_split(partition))
        assert len(names) == len(set(names)) == 1623
    assert set(all_names(whole_split("canonical"))) == set(all_names(whole_split("random1200")))


def test_the_whole_canonical_split_holds_out_the_evaluation_alphabets_for_test():
    split = whole_split("canonical")
    alphabets = {part: {name.split("/")[0] for name in split[part]} for part in SPLITS}
    assert alphabets["test"] == set(EVALUATION)
    assert alphabets["val"] == set(VAL_ALPHABETS) < set(BACKGROUND)
    assert alphabets["train"] == set(BACKGROUND) - set(VAL_ALPHABETS)
    assert len(VAL_ALPHABETS) == 5
    assert [len(split[part]) for part in SPLITS] == [806, 158, 659]


def test_the_random_split_is_1200_and_423_and_decided_by_the_seed():
    split = whole_split("random1200")
    assert len(split.train) + len(split.val) == 1200
    assert (len(split.val), len(split.test)) == (RANDOM_VAL, 423)
    assert whole_split("random1200", 0) == split
    other = whole_split("random1200", 1)
    assert len(other.test) == 423
    assert len(set(other.test) & set(split.test)) < 200  # 110 by chance
    for part in SPLITS:
        assert {name.split("/")[0] for name in split[part]} & set(EVALUATION)  # drawn from all alphabets
        assert {name.split("/")[0] for name in split[part]} & set(BACKGROUND)
        assert list(split[part]) == sorted(split[part])


def test_the_random_split_is_the_same_whatever_is_there(tmp_path):
    small = make(tmp_path / "small", {"images_background": {"Greek": 24, "Korean": 20}, "images_evaluation": {}})
    large = make(
        tmp_path / "large", {"images_background": {"Greek": 24, "Korean": 40}, "images_evaluation": {"ULOG": 9}}
    )
    first, second = (Omniglot(place, partition="random1200", seed=2).split for place in (small, large))
    whole = whole_split("random1200", 2)
    assert len(all_names(first)) == 44
    for part in SPLITS:
        assert set(first[part]) <= set(second[part]) <= set(whole[part])
        assert first[part]
    assert whole_split("random1200", 3).test != whole.test


def test_what_is_missing_is_told_and_left_out(root, caplog):
    with caplog.at_level(logging.WARNING, logger="metagen"):
        tasks = Omniglot(root)
    there = 3 + 2 + 2 + 2 + 1
    assert len(all_names(tasks.split)) == there
    assert len(tasks.missing) == 1623 - there
    assert not set(tasks.missing) & set(all_names(tasks.split))
    (record,) = caplog.records
    message = record.getMessage()
    assert f"{1623 - there} of 1623 characters are missing" in message
    assert root in message
    assert "Asomtavruli_(Georgian)" in message
    assert "\n" not in message


def test_a_whole_split_file_is_silent(root, tmp_path, caplog):
    split = Split(("ULOG/character01", "Greek/character02"), ("Tengwar/character01",), ("Latin/character01",))
    (tmp_path / "split.json").write_text(split.to_json())
    tasks = Omniglot(root, split_file=str(tmp_path / "split.json"))
    assert tasks.split == split
    assert tasks.missing == ()
    assert not caplog.records


def test_what_else_lies_there_is_no_character(tmp_path):
    make(tmp_path)
    make(tmp_path, {"images_background": {"Klingon": 2}})
    (tmp_path / "images_background/Greek/notes.txt").touch()
    assert not any("Klingon" in name for name in all_names(Omniglot(str(tmp_path)).split))


def test_it_can_be_written_down_and_built_again(root):
    tasks = Omniglot(root, size=32, channels=3, partition="canonical", binarise=True, invert=True)
    description = task_sets.describe(tasks)
    assert set(description) == {"name", *inspect.signature(Omniglot).parameters}
    again = task_sets.build(description)
    assert again.split == tasks.split
    assert torch.equal(again.images("ULOG/character01"), tasks.images("ULOG/character01"))


# places


@pytest.mark.parametrize("below", ["omniglot-py", "omniglot"])
def test_the_root_may_be_the_folder_above(tmp_path, root, below):
    make(tmp_path / below)
    found = Omniglot(str(tmp_path))
    assert found.split == Omniglot(root).split
    assert torch.equal(found.images("Greek/character01"), Omniglot(root).images("Greek/character01"))


def test_a_root_without_it_is_refused(tmp_path):
    for place in (tmp_path, tmp_path / "absent"):
        with pytest.raises(MetagenError, match=r"expected images_background and images_evaluation .*--data\.download"):
            Omniglot(str(place))


def test_an_empty_part_of_the_split_is_refused(tmp_path):
    with pytest.raises(MetagenError, match="no character of the split val and test is there"):
        Omniglot(make(tmp_path / "a", {"images_background": {"Greek": 2}}))
    with pytest.raises(MetagenError, match="no character of the split train and val is there"):
        Omniglot(make(tmp_path / "b", {"images_evaluation": {"ULOG": 2}}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "canonicle"}, "unknown partition 'canonicle': did you mean canonical"),
        ({"size": 27}, "size: expected"),
        ({"channels": 2}, "channels: expected"),
        ({"split_file": "absent.json"}, "no such file"),
        ({"partition": "random1200", "seed": -1}, "seed: expected 0 or more"),
    ],
)
def test_refused_options(root, options, said):
    with pytest.raises(MetagenError, match=said):
        Omniglot(root, **options)


# downloading


@pytest.fixture
def downloads(monkeypatch):
    """torchvision's Omniglot, which writes the small tree: what was asked of it."""
    asked = []

    class Downloads:
        def __init__(self, root, background=True, transform=None, target_transform=None, download=False):
            asked.append((str(root), background, download))
            folder = "images_background" if background else "images_evaluation"
            if not (Path(root) / "omniglot-py" / folder).is_dir():
                make(Path(root) / "omniglot-py", {folder: TREE[folder]})

    monkeypatch.setattr(torchvision.datasets, "Omniglot", Downloads)
    return asked


def test_downloading_goes_through_torchvision_and_once(tmp_path, downloads):
    place = str(tmp_path / "new")
    tasks = Omniglot(place, download=True)
    assert downloads == [(place, True, True), (place, False, True)]
    assert tasks.images("Tengwar/character01").shape == (PEOPLE, 1, 28, 28)
    assert Omniglot(place, download=True).split == tasks.split
    assert len(downloads) == 2


def test_nothing_is_downloaded_unasked(tmp_path, downloads, root):
    with pytest.raises(MetagenError, match="expected images_background"):
        Omniglot(str(tmp_path))
    Omniglot(root, download=True)
    assert not downloads


@pytest.mark.parametrize("error", [OSError("no route to host"), RuntimeError("File not found or corrupted.")])
def test_a_failing_download_is_one_error(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "Omniglot", fail)
    with pytest.raises(MetagenError, match=r"could not download Omniglot \(.*unpack images_background\.zip") as info:
        Omniglot(str(tmp_path), download=True)
    assert str(error) in str(info.value)
    assert str(tmp_path) in str(info.value)


def test_a_download_that_stops_half_way_is_not_taken_for_the_whole(tmp_path, downloads, monkeypatch):
    whole = torchvision.datasets.Omniglot

    def stops(root, background=True, **options):
        if not background:
            raise OSError("connection lost")
        return whole(root, background, **options)

    monkeypatch.setattr(torchvision.datasets, "Omniglot", stops)
    with pytest.raises(MetagenError, match="connection lost"):
        Omniglot(str(tmp_path), download=True)
    with pytest.raises(MetagenError):
        Omniglot(str(tmp_path), download=True)


def test_a_download_goes_on_where_half_of_it_is_missing(tmp_path, downloads):
    Omniglot(str(tmp_path), download=True)
    shutil.rmtree(tmp_path / "omniglot-py" / "images_evaluation")
    assert Omniglot(str(tmp_path), download=True).split.test
