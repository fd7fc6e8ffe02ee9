"""CelebA from a small tree like its publishers': whose images are read, how it is split, and what is not there."""

from __future__ import annotations

import inspect
import logging
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from metagen.errors import MetagenError
from metagen.storage import images
from metagen.storage.images import resized
from metagen.tasks import CelebA, task_sets
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import SPLITS, Split
from metagen.training.episode_data import EpisodeData

# By the hash of their numbers 4 and 8 are val, 1 and 7 test.
IDENTITIES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2880, 10177)
HASHED = {"train": {"2", "3", "5", "6", "9", "10", "2880", "10177"}, "val": {"4", "8"}, "test": {"1", "7"}}
OFFICIAL = dict(zip(IDENTITIES, (0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 2), strict=True))
EACH = 3
SHAPE = (178, 218)


def colour(identity: int) -> tuple[int, int, int]:
    """One that no other identity has, at least 40 away in some channel."""
    at = IDENTITIES.index(identity) if identity in IDENTITIES else len(IDENTITIES)
    return 40 + 60 * (at % 4), 40 + 60 * (at // 4), 128


def photograph(path: Path, rgb: tuple[int, int, int]) -> None:
    Image.new("RGB", SHAPE, rgb).save(path, quality=95)


def make(root: Path, identities=IDENTITIES, each: int = EACH, part_of=OFFICIAL) -> str:
    """The identities take turns, so that neighbouring files are of different people."""
    images = root / "img_align_celeba"
    images.mkdir(parents=True)
    names = [f"{number + 1:06d}.jpg" for number in range(each * len(identities))]
    owners = dict(zip(names, each * tuple(identities), strict=True))
    for name, identity in owners.items():
        photograph(images / name, colour(identity))
    (root / "identity_CelebA.txt").write_text("".join(f"{name} {owners[name]}\n" for name in names))
    parts = "".join(f"{name} {part_of.get(owners[name], 0)}\n" for name in names)
    (root / "list_eval_partition.txt").write_text(parts)
    return str(root)


def celeba(root: str, **options) -> CelebA:
    return CelebA(root, **{"min_images": EACH, **options})


def of(tmp_path: Path, identity: int) -> list[Path]:
    """The files of one identity in a tree as `make` leaves it."""
    first = IDENTITIES.index(identity) + 1
    return [tmp_path / f"img_align_celeba/{first + turn * len(IDENTITIES):06d}.jpg" for turn in range(EACH)]


def parts(split: Split) -> dict[str, set[str]]:
    return {part: set(split[part]) for part in SPLITS}


def refused(root: str, **options) -> str:
    """The one line that this tree or these options are answered with."""
    with pytest.raises(MetagenError) as info:
        celeba(root, **options)
    message = str(info.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make(tmp_path_factory.mktemp("celeba"))


# images


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_image_is_of_its_identity(root, identity):
    images = celeba(root).images(str(identity))
    assert images.dtype == torch.uint8
    assert images.shape == (EACH, 3, 64, 64)
    expected = torch.tensor(colour(identity)).view(3, 1, 1)
    assert (images.int() - expected).abs().max() <= 4  # a JPEG is not exact


@pytest.mark.parametrize("options", [{"size": 64, "channels": 3}, {"size": 28, "channels": 1, "invert": True}])
def test_originals_resized_are_what_is_read(tmp_path, options):
    noise = np.random.default_rng(0).integers(0, 256, (*SHAPE[::-1], 3), np.uint8)
    tasks = celeba(make(tmp_path), **options)
    Image.fromarray(noise).save(of(tmp_path, 2)[1])
    originals = tasks.originals("2", [1, 0])
    assert originals.shape == (2, options["channels"], 178, 178)
    assert (resized(originals, options["size"]).int() - tasks.images("2", [1, 0]).int()).abs().max() <= 1


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (64, 3), (128, 3)])
def test_sizes_and_channels(root, size, channels):
    assert celeba(root, size=size, channels=channels).images("3").shape == (EACH, channels, size, size)


def test_the_central_square_is_cut_out_whole(tmp_path):
    root = make(tmp_path)
    image = Image.new("RGB", SHAPE, "white")
    image.paste("black", (0, 20, 178, 198))
    image.paste("red", (0, 20, 30, 198))
    image.paste("blue", (148, 20, 178, 198))
    image.save(of(tmp_path, 5)[1], quality=100, subsampling=0)
    cut = celeba(root, size=89).images("5")[1].float()
    assert cut[:, 3:-3, 20:-20].max() < 40  # black from top to bottom
    assert cut[1].max() < 90  # none of the white above and below
    assert cut[0, 10:-10, :10].min() > 200  # red and blue are as wide as drawn
    assert cut[2, 10:-10, -10:].min() > 200


def test_images_are_in_the_order_of_their_file_names_whatever_the_list_says(tmp_path):
    root = make(tmp_path)
    for shade, path in zip((50, 120, 190), of(tmp_path, 6), strict=True):
        photograph(path, (shade, shade, shade))
    lines = Path(root, "identity_CelebA.txt").read_text().splitlines(keepends=True)
    Path(root, "identity_CelebA.txt").write_text("".join(reversed(lines)))
    found = celeba(root).images("6").float().mean((1, 2, 3))
    assert found.tolist() == pytest.approx([50, 120, 190], abs=3)


def test_invert_exchanges_black_and_white(root):
    plain, inverted = (celeba(root, invert=invert).images("9") for invert in (False, True))
    assert torch.equal(inverted, 255 - plain)


def test_nothing_is_kept_between_two_questions(tmp_path):
    tasks = celeba(make(tmp_path))
    before = tasks.images("2880")
    first, second, _ = of(tmp_path, 2880)
    photograph(first, (255, 255, 255))
    after = tasks.images("2880")
    assert after[0].min() > 250 > before[0].max()
    assert torch.equal(after[1:], before[1:])
    second.unlink()
    with pytest.raises(MetagenError, match=re.escape(f"{second}: no such file")):
        tasks.images("2880")


def test_chosen_photographs_alone_are_opened_in_the_order_asked_for(tmp_path):
    tasks = celeba(make(tmp_path), invert=True)
    for shade, path in zip((50, 120, 190), of(tmp_path, 6), strict=True):
        photograph(path, (shade, shade, shade))
    of(tmp_path, 6)[1].write_bytes(b"damaged")
    found = 255 - tasks.images("6", [2, 0]).float().mean((1, 2, 3))
    assert found.tolist() == pytest.approx([190, 50], abs=3)


def test_an_episode_opens_its_own_photographs_alone(root, monkeypatch):
    paths, read_image = [], images.read_image

    def watched(path, size, channels):
        paths.append(path)
        return read_image(path, size, channels)

    monkeypatch.setattr(images, "read_image", watched)
    Episodes(celeba(root), 1, 1).first("train", 4)
    assert len(paths) == len(set(paths)) == 4 * 2


def test_no_image_is_opened_before_it_is_asked_for(tmp_path):
    root = make(tmp_path)
    for path in of(tmp_path, 3):
        path.write_bytes(b"damaged")
    tasks = celeba(root)
    assert tasks.image_count("3") == EACH
    assert len(tasks.images("2")) == EACH
    with pytest.raises(MetagenError, match="not an image"):
        tasks.images("3")


@pytest.mark.parametrize("name", ["11", "02880", "../1", "000001.jpg", ""])
def test_an_unknown_identity_is_refused(root, name):
    with pytest.raises(MetagenError, match=rf"no identity {re.escape(repr(name))}.*such as '2880'"):
        celeba(root).images(name)


# splits


def test_a_hash_of_each_number_decides(root):
    assert parts(celeba(root).split) == HASHED


def test_more_identities_move_no_other(root, tmp_path):
    more = celeba(make(tmp_path, (500, 501, *IDENTITIES, 12, 38)))
    assert {part: names & set(map(str, IDENTITIES)) for part, names in parts(more.split).items()} == HASHED
    assert {"12", "38", "500", "501"} < set().union(*parts(more.split).values())


def test_the_official_parts_are_kept(root):
    split = celeba(root, partition="official").split
    expected = {part: {str(i) for i in IDENTITIES if OFFICIAL[i] == n} for n, part in enumerate(SPLITS)}
    assert parts(split) == expected
    assert sum(len(split[part]) for part in SPLITS) == len(IDENTITIES)


def test_an_identity_in_two_official_parts_is_refused(tmp_path):
    root = make(tmp_path)
    listed = tmp_path / "list_eval_partition.txt"
    listed.write_text(listed.read_text().replace(f"{of(tmp_path, 5)[1].name} 0", f"{of(tmp_path, 5)[1].name} 2"))
    message = refused(root, partition="official")
    assert "identity 5 in train and test" in message
    assert str(listed) in message
    assert parts(celeba(root).split) == HASHED  # which does not look at it


def test_an_image_without_an_official_part_is_refused(tmp_path):
    root = make(tmp_path)
    listed = tmp_path / "list_eval_partition.txt"
    name = of(tmp_path, 7)[2].name
    listed.write_text(listed.read_text().replace(f"{name} 0\n", ""))
    assert f"no line for {name} of identity 7" in refused(root, partition="official")


@pytest.mark.parametrize("partition", ["identity", "official"])
def test_a_split_file_overrides_the_partition(root, tmp_path, partition):
    split = Split(("4", "2880"), ("10",), ("1",))
    (tmp_path / "split.json").write_text(split.to_json())
    assert celeba(root, partition=partition, split_file=str(tmp_path / "split.json")).split == split


def test_a_split_file_that_names_others_is_refused(root, tmp_path):
    (tmp_path / "split.json").write_text(Split(("4", "11"), ("10",), ("1", "Greek")).to_json())
    message = refused(root, split_file=str(tmp_path / "split.json"))
    assert "2 identities do not have 3 or more images" in message
    assert "11, Greek" in message


@pytest.mark.parametrize(
    ("identities", "empty"), [((2, 3, 4), "test"), ((1, 4), "train"), ((2, 3), "val and test"), ((), "train and val")]
)
def test_an_empty_part_of_the_split_is_refused(tmp_path, identities, empty):
    assert f"none of them is in the split {empty}" in refused(make(tmp_path, identities))


def test_an_empty_official_part_is_refused(tmp_path):
    root = make(tmp_path, part_of=dict.fromkeys(IDENTITIES, 2))
    assert "in the split train and val;" in refused(root, partition="official")


# too few images


def test_too_small_identities_are_left_out_and_told(tmp_path, caplog):
    root = make(tmp_path)
    of(tmp_path, 2)[0].unlink()
    for path in of(tmp_path, 10177):
        path.unlink()
    with caplog.at_level(logging.WARNING, logger="metagen"):
        tasks = celeba(root)
    assert tasks.left_out == ("2", "10177")
    assert parts(tasks.split) == {**HASHED, "train": HASHED["train"] - {"2", "10177"}}
    files, identities = (record.getMessage() for record in caplog.records)
    assert "4 of 36 listed images are not there" in files
    assert "2 of 12 identities are left out, with fewer than 3 images there: '2', '10177'" in identities
    assert root in identities
    assert "\n" not in files + identities
    with pytest.raises(MetagenError, match="no identity '2' with 3 or more images"):
        tasks.images("2")


def test_an_identity_counts_only_the_files_that_are_there(tmp_path):
    root = make(tmp_path)
    gone, *there = of(tmp_path, 3)
    gone.unlink()
    tasks = celeba(root, min_images=2)
    assert tasks.image_count("3") == len(tasks.images("3")) == len(there)
    assert tasks.left_out == ()


def test_a_whole_tree_is_silent(root, caplog):
    assert celeba(root).left_out == ()
    assert not caplog.records


def test_many_that_are_left_out_are_counted(tmp_path, caplog):
    root = make(tmp_path, (*IDENTITIES, *range(100, 120)), each=1)
    images = tmp_path / "img_align_celeba"
    for path in sorted(images.iterdir())[len(IDENTITIES) :]:
        path.unlink()
    celeba(root, min_images=1)
    assert "20 of 32 identities are left out" in caplog.messages[-1]
    assert "'104', '105', '106', '107' and 12 more" in caplog.messages[-1]


@pytest.mark.parametrize(("each", "kept"), [(19, 0), (20, len(IDENTITIES))])
def test_twenty_images_are_enough_by_default(tmp_path, each, kept):
    root = make(tmp_path, each=each)
    if kept:
        assert sum(map(len, parts(CelebA(root).split).values())) == kept
    else:
        with pytest.raises(MetagenError, match="none of 12 identities has 20 or more images, the largest has 19:"):
            CelebA(root)


def test_the_folder_is_listed_once_and_its_files_are_not_looked_at(tmp_path, monkeypatch):
    root = make(tmp_path)
    listed: list[Path] = []
    looked: list[str] = []
    scandir, stat = os.scandir, Path.stat

    def watched_scandir(path):
        listed.append(path)
        return scandir(path)

    def watched_stat(path, **options):
        looked.append(path.name)
        return stat(path, **options)

    monkeypatch.setattr(os, "scandir", watched_scandir)
    monkeypatch.setattr(Path, "stat", watched_stat)
    celeba(root)
    assert listed == [tmp_path / "img_align_celeba"]
    assert not [name for name in looked if name.endswith(".jpg")]


# damaged lists


@pytest.mark.parametrize(
    "line",
    [
        b"000005.jpg Greek",
        b"000005.jpg",
        b"000005.jpg 5 6",
        b"000005.jpg -5",
        b"000005.jpg 5.0",
        b"000005.jpg 1234567890123",
        "000005.jpg ５".encode(),
        b"",
        b"\xff\xfe\x00",
        b"000\xe9.jpg 5",
        b"../000005.jpg 5",
        b"a/000005.jpg 5",
        b"a\\000005.jpg 5",
        b"/etc/passwd 5",
        b".. 5",
        b"..jpg 5",
        b"C:a.jpg 5",
        b"00\x000005.jpg 5",
    ],
)
@pytest.mark.parametrize(
    ("listed", "example"),
    [("identity_CelebA.txt", "000001.jpg 2880"), ("list_eval_partition.txt", "000001.jpg 0")],
)
def test_a_malformed_line_is_refused_with_its_number(tmp_path, listed, example, line):
    root = make(tmp_path, each=1)
    lines = (tmp_path / listed).read_bytes().splitlines()
    lines[4] = line
    (tmp_path / listed).write_bytes(b"\n".join(lines) + b"\n")
    message = refused(root, min_images=1, partition="official")
    assert f"{tmp_path / listed}, line 5: expected a line such as '{example}', got " in message


@pytest.mark.parametrize("part", [3, 10, "01"])
def test_an_unknown_official_part_is_refused(tmp_path, part):
    message = refused(make(tmp_path, part_of={5: part}), partition="official")
    assert (
        f"list_eval_partition.txt, line 5: expected a line such as '000001.jpg 0', got '000005.jpg {part}'" in message
    )


def test_an_image_of_two_identities_is_refused(tmp_path):
    root = make(tmp_path)
    with (tmp_path / "identity_CelebA.txt").open("a") as file:
        file.write("000002.jpg 9\n")
    assert "identity_CelebA.txt, line 37: 000002.jpg is listed twice" in refused(root)


def test_line_ends_of_windows_and_runs_of_blanks_are_read(tmp_path, root):
    make(tmp_path)
    for name in ("identity_CelebA.txt", "list_eval_partition.txt"):
        text = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(text.replace(b" ", b"  ").replace(b"\n", b" \r\n") + b"\r\n")
    assert celeba(str(tmp_path), partition="official").split == celeba(root, partition="official").split


# places


def test_the_root_may_be_the_folder_above(tmp_path, root):
    make(tmp_path / "celeba")
    found = celeba(str(tmp_path))
    assert found.split == celeba(root).split
    assert torch.equal(found.images("4"), celeba(root).images("4"))


@pytest.mark.parametrize(
    ("gone", "partition"),
    [
        ("identity_CelebA.txt", "identity"),
        ("img_align_celeba", "identity"),
        ("list_eval_partition.txt", "official"),
    ],
)
@pytest.mark.parametrize("below", [".", "celeba"])
def test_a_missing_piece_is_named(tmp_path, gone, partition, below):
    make(tmp_path / below)
    (tmp_path / below / gone).rename(tmp_path / "elsewhere")
    message = refused(str(tmp_path), partition=partition)
    assert f", {gone} not found;" in message
    assert "--data.download true" in message


def test_the_official_list_is_asked_for_only_where_it_is_used(tmp_path):
    root = make(tmp_path)
    (tmp_path / "list_eval_partition.txt").unlink()
    (tmp_path / "split.json").write_text(Split(("2",), ("10",), ("1",)).to_json())
    assert parts(celeba(root).split) == HASHED
    assert celeba(root, partition="official", split_file=str(tmp_path / "split.json")).split.val == ("10",)


@pytest.mark.parametrize("place", [".", "absent"])
def test_a_root_without_it_is_refused(tmp_path, place):
    message = refused(str(tmp_path / place))
    assert message.startswith(str(tmp_path / place))
    assert "identity_CelebA.txt and img_align_celeba not found" in message
    assert "--data.download true" in message


@pytest.mark.parametrize(
    ("piece", "said"),
    [("identity_CelebA.txt", "cannot read this list"), ("img_align_celeba", "cannot read this folder")],
)
def test_a_file_and_a_folder_exchanged_are_refused(tmp_path, piece, said):
    root = make(tmp_path)
    (tmp_path / piece).rename(tmp_path / "elsewhere")
    (tmp_path / piece).touch() if piece == "img_align_celeba" else (tmp_path / piece).mkdir()
    assert f"{tmp_path / piece}: {said}" in refused(root)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "oficial"}, "unknown partition 'oficial': did you mean official"),
        ({"partition": "canonical"}, "choose from identity, official"),
        ({"size": 27}, "size: expected"),
        ({"channels": 2}, "channels: expected"),
        ({"min_images": 0}, "min_images: expected 1 or more, got 0"),
        ({"split_file": "absent.json"}, "no such file"),
    ],
)
def test_refused_options(root, options, said):
    assert said in refused(root, **options)


# as one of the task sets


def test_it_can_be_written_down_and_built_again(root):
    tasks = celeba(root, size=32, channels=1, partition="official", invert=True)
    description = task_sets.describe(tasks)
    assert set(description) == {"name", *inspect.signature(CelebA).parameters}
    assert description["name"] == "celeba"
    again = task_sets.build(description)
    assert again.split == tasks.split
    assert torch.equal(again.images("10"), tasks.images("10"))


def test_episodes_are_of_one_identity_each(tmp_path):
    root = make(tmp_path, each=20)
    data = EpisodeData("celeba", root=root, size=32, channels=3, partition="official", shots=2, queries=3, tasks=4)
    data.check(processes=1)
    episode = data.episodes.train(0, 4)
    assert (episode.support.shape, episode.query.shape) == ((4, 2, 3, 32, 32), (4, 3, 3, 32, 32))
    for name, support, query in zip(episode.tasks, episode.support, episode.query, strict=True):
        expected = torch.tensor(colour(int(name))).view(3, 1, 1) / 255
        assert (torch.cat([support, query]) - expected).abs().max() < 0.02


# downloading


@pytest.fixture
def downloads(monkeypatch):
    """torchvision's CelebA, which writes the small tree: what was asked of it."""
    asked = []

    class Downloads:
        def __init__(self, root, split="train", target_type="attr", download=False):
            asked.append((str(root), download))
            make(Path(root) / "celeba")

    monkeypatch.setattr(torchvision.datasets, "CelebA", Downloads)
    return asked


def test_downloading_goes_through_torchvision_and_once(tmp_path, downloads):
    place = str(tmp_path / "new")
    tasks = celeba(place, download=True)
    assert downloads == [(place, True)]
    assert tasks.images("8").shape == (EACH, 3, 64, 64)
    assert celeba(place, download=True).split == tasks.split
    assert len(downloads) == 1


def test_nothing_is_downloaded_unasked(tmp_path, downloads, root):
    refused(str(tmp_path))
    celeba(root, download=True)
    assert not downloads


def test_a_download_goes_on_where_a_piece_is_missing(tmp_path, downloads):
    (tmp_path / "identity_CelebA.txt").touch()
    assert parts(celeba(str(tmp_path), download=True).split) == HASHED


@pytest.mark.parametrize(
    "error",
    [
        OSError("no route to host"),
        RuntimeError("File not found or corrupted."),
        ModuleNotFoundError("No module named 'gdown'"),
        Exception("Failed to retrieve file url:\n\n\tToo many users have viewed or downloaded this file recently."),
        ValueError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_failing_download_is_one_line_that_says_what_to_do(tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.datasets, "CelebA", fail)
    message = refused(str(tmp_path), download=True)
    assert message.startswith(f"{tmp_path}: could not download CelebA (")
    assert (" ".join(str(error).split()) or "ValueError") in message
    for piece in ("identity_CelebA.txt", "list_eval_partition.txt", "img_align_celeba.zip", "http://mmlab", "by hand"):
        assert piece in message
    assert ("pip install gdown" in message) == (find_spec("gdown") is None)


def test_without_gdown_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)  # torchvision's own class, which cannot import it
    message = refused(str(tmp_path), download=True)
    assert "; pip install gdown and try again, or put identity_CelebA.txt" in message
