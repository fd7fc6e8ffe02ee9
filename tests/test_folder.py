"""Task sets from trees of images, as users have them."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from metagen.core.registry import Registry
from metagen.errors import MetagenError
from metagen.storage import images
from metagen.storage.images import read_image
from metagen.tasks import folder
from metagen.tasks.base import TaskSet
from metagen.tasks.episodes import Episodes
from metagen.tasks.folder import Folder
from metagen.tasks.splits import SPLITS, Split
from metagen.training.episode_data import EpisodeData

SHARES = {"val": 0.3, "test": 0.3}


def make(root: Path, names: list[str], count: int = 2) -> str:
    """Tasks whose images are flat, with 10 * task + image as their value."""
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for j in range(count):
            Image.new("L", (28, 28), 10 * i + j).save(root / name / f"{j}.png")
    return str(root)


def names_of(tasks: Folder) -> list[str]:
    return sorted(name for part in SPLITS for name in tasks.split[part])


TWELVE = [f"t{i:02}" for i in range(12)]


def test_every_leaf_is_a_task_with_its_own_images(tmp_path):
    tasks = Folder(make(tmp_path, TWELVE, count=3), size=28, channels=1, **SHARES)
    assert names_of(tasks) == TWELVE
    for i, name in enumerate(TWELVE):
        images = tasks.images(name)
        assert images.dtype == torch.uint8
        assert images.shape == (3, 1, 28, 28)
        assert images[:, 0, 3, 4].tolist() == [10 * i, 10 * i + 1, 10 * i + 2]


def test_names_are_posix_paths_with_spaces_and_unicode_at_any_depth(tmp_path):
    names = ["Ελληνικά/alpha beta", "日本/仮名/あ", "flat", "flat/below", "a'b\"c", "ü" * 60, *TWELVE]
    tasks = Folder(make(tmp_path, names), **SHARES)
    assert names_of(tasks) == sorted(names)
    assert tasks.images("日本/仮名/あ").shape == (2, 3, 64, 64)


def test_images_directly_in_the_root_are_a_task_too(tmp_path):
    make(tmp_path, [*TWELVE, "."])
    assert names_of(Folder(str(tmp_path), **SHARES)) == [".", *TWELVE]


def test_other_files_and_hidden_folders_are_no_tasks(tmp_path):
    make(tmp_path, [*TWELVE, ".thumbnails"])
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "notes.txt").touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "._0.png").touch()
    assert names_of(Folder(str(tmp_path), **SHARES)) == TWELVE


def test_images_are_read_once_and_when_asked_for(tmp_path):
    root = make(tmp_path, TWELVE)
    (tmp_path / "t03" / "0.png").write_bytes(b"damaged")
    tasks = Folder(root, **SHARES)
    assert tasks.images("t00") is tasks.images("t00")
    with pytest.raises(MetagenError, match=r"t03/0\.png: not an image"):
        tasks.images("t03")


def test_invert_exchanges_black_and_white(tmp_path):
    root = make(tmp_path, TWELVE)
    plain, inverted = Folder(root, **SHARES), Folder(root, invert=True, **SHARES)
    assert torch.equal(inverted.images("t05"), 255 - plain.images("t05"))


def test_the_split_depends_on_the_seed_and_not_on_other_tasks(tmp_path):
    root = make(tmp_path, TWELVE)
    first = Folder(root, **SHARES).split
    assert Folder(root, **SHARES).split == first
    assert any(Folder(root, seed=seed, **SHARES).split != first for seed in (1, 2, 3))
    make(tmp_path, ["u", "v", "w"])
    later = Folder(root, **SHARES).split
    for part in SPLITS:
        assert set(first[part]) <= set(later[part])


def test_a_split_file_decides(tmp_path):
    root = make(tmp_path / "images", TWELVE)
    split = Split(train=("t05", "t01"), val=("t02",), test=("t00",))
    path = tmp_path / "split.json"
    path.write_text(split.to_json(), encoding="utf-8")
    assert Folder(root, split_file=str(path)).split == split
    path.write_text(Split(train=("t05", "gone", "lost"), val=("t02",), test=("t00",)).to_json())
    with pytest.raises(MetagenError, match=r"split\.json: 2 tasks are not under .*'gone', 'lost'$"):
        Folder(root, split_file=str(path))
    path.write_text(Split(train=("t05",), val=(), test=("t00",)).to_json())
    with pytest.raises(MetagenError, match="none of them in the split val: name at least one"):
        Folder(root, split_file=str(path))


def test_an_empty_split_says_how_to_mend_it(tmp_path):
    with pytest.raises(
        MetagenError, match=r"3 tasks under .* none of them in the split .*: add tasks,.* seed.*split_file"
    ):
        Folder(make(tmp_path, TWELVE[:3]))


def test_links_are_followed_once_and_loops_end(tmp_path):
    root = tmp_path / "root"
    make(root, TWELVE)
    make(tmp_path / "elsewhere", ["linked"])
    (root / "there").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "t00" / "up").symlink_to(root, target_is_directory=True)
    (root / "t01" / "self").symlink_to(root / "t01" / "self")
    (root / "zz_again").symlink_to(root / "t02", target_is_directory=True)  # the same images must not be two tasks
    assert names_of(Folder(str(root), **SHARES)) == [*TWELVE, "there/linked"]


def test_an_unreadable_folder_is_named(tmp_path, monkeypatch):
    root, scandir = make(tmp_path, TWELVE), os.scandir

    def refuse(path):
        if os.fspath(path).endswith("t07"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MetagenError, match=r"t07: cannot read this folder \(Permission denied\)"):
        Folder(root, **SHARES)


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    make(tmp_path, TWELVE)
    try:
        os.mkdir(os.fsencode(tmp_path) + b"/\xff\xfe")
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    (tmp_path / "t00" / "0.png").rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")) / "0.png")
    with pytest.raises(MetagenError, match="not valid UTF-8"):
        Folder(str(tmp_path), **SHARES)


def test_wrong_places(tmp_path):
    (tmp_path / "archive.tar").touch()
    (tmp_path / "empty").mkdir()
    for name, problem in (("absent", "no such folder"), ("archive.tar", "unpack"), ("empty", "no images in it")):
        with pytest.raises(MetagenError, match=problem) as info:
            Folder(str(tmp_path / name))
        assert name in str(info.value)
        assert "\n" not in str(info.value)


def test_an_unknown_task(tmp_path):
    with pytest.raises(MetagenError, match=r"no task '\.\./t01'"):
        Folder(make(tmp_path, TWELVE), **SHARES).images("../t01")


@pytest.mark.parametrize(
    "options", [{"size": 27}, {"size": 129}, {"channels": 2}, {"val": 0.0}, {"test": -0.1}, {"val": 0.5, "test": 0.5}]
)
def test_refused_options(tmp_path, options):
    with pytest.raises(MetagenError, match="expected"):
        Folder(make(tmp_path, TWELVE), **options)


def test_a_folder_can_be_written_down_and_built_again(tmp_path):
    registry: Registry[TaskSet] = Registry("task set", folder=Folder)
    tasks = Folder(make(tmp_path, TWELVE), size=32, channels=1, seed=3, invert=True, **SHARES)
    description = registry.describe(tasks)
    assert set(description) == {"name", *inspect.signature(Folder).parameters}
    assert registry.build(description).split == tasks.split


def test_bad_images_are_raised_or_skipped_and_counted(tmp_path, caplog):
    root = Path(make(tmp_path / "tree", [f"t{i}" for i in range(30)], count=3))
    for task in ("t3", "t9"):
        (root / task / "bad.png").write_bytes(b"\x89PNG no more")
    with pytest.raises(MetagenError, match=r"t3/bad\.png"):
        Folder(str(root), size=28).images("t3")
    tasks = Folder(str(root), size=28, on_bad_image="skip")
    assert [len(tasks.images(task)) for task in ("t3", "t4", "t9", "t3")] == [3, 3, 3, 3]
    assert tasks.skipped == [root / "t3/bad.png", root / "t9/bad.png"]
    assert [message.split(":")[0] for message in caplog.messages] == ["skipped image 1", "skipped image 2"]


def test_a_task_of_bad_images_alone_is_too_small_not_a_crash(tmp_path):
    root = Path(make(tmp_path / "tree", [f"t{i}" for i in range(30)], count=0))
    for task in range(30):
        (root / f"t{task}").mkdir(parents=True, exist_ok=True)
        (root / f"t{task}" / "bad.png").write_bytes(b"")
    tasks = Folder(str(root), size=28, on_bad_image="skip")
    with pytest.raises(MetagenError, match=r"has 0 images"):
        Episodes(tasks, 1, 1).train(0, 2)


def test_a_tree_too_large_to_keep_is_read_each_time(tmp_path, monkeypatch):
    root = make(tmp_path, TWELVE)
    monkeypatch.setattr(folder, "MAX_KEPT", 12 * 2 * 3 * 28**2)
    assert not Folder(root, size=28, **SHARES).streamed
    monkeypatch.setattr(folder, "MAX_KEPT", 12 * 2 * 3 * 28**2 - 1)
    tasks = Folder(root, size=28, **SHARES)
    assert tasks.streamed
    assert tasks.images("t03")[:, 0, 0, 0].tolist() == [30, 31]
    Image.new("L", (28, 28), 99).save(tmp_path / "t03" / "1.png")
    assert tasks.images("t03")[:, 0, 0, 0].tolist() == [30, 99]


def opened(monkeypatch) -> list[Path]:
    """The image files read from now on."""
    paths: list[Path] = []

    def watched(path, size, channels, **more):
        paths.append(path)
        return read_image(path, size, channels, **more)

    monkeypatch.setattr(images, "read_image", watched)
    monkeypatch.setattr(folder, "read_image", watched)
    return paths


@pytest.mark.parametrize("streamed", [False, True])
def test_chosen_images_come_in_the_order_asked_for(tmp_path, monkeypatch, streamed):
    monkeypatch.setattr(folder, "MAX_KEPT", 0 if streamed else 1 << 30)
    tasks = Folder(make(tmp_path, TWELVE, count=5), size=28, invert=True, **SHARES)
    assert tasks.images("t02", [3, 0, 4])[:, 0, 0, 0].tolist() == [255 - 23, 255 - 20, 255 - 24]


@pytest.mark.parametrize("on_bad_image", ["raise", "skip"])
def test_a_streamed_tree_gives_the_same_episodes(tmp_path, monkeypatch, on_bad_image):
    root = make(tmp_path, TWELVE, count=6)
    if on_bad_image == "skip":
        for task, image in (("t00", 0), ("t05", 3), ("t11", 5)):
            (tmp_path / task / f"{image}.png").write_bytes(b"damaged")
    kept = Folder(root, size=28, on_bad_image=on_bad_image, **SHARES)
    monkeypatch.setattr(folder, "MAX_KEPT", 0)
    streamed = Folder(root, size=28, on_bad_image=on_bad_image, **SHARES)
    assert (kept.streamed, streamed.streamed) == (False, True)
    for split in SPLITS:
        names = range(len(kept.split[split]))
        one, other = (Episodes(tasks, 2, 3).of(split, names) for tasks in (kept, streamed))
        assert torch.equal(one.support, other.support)
        assert torch.equal(one.query, other.query)
    assert sorted(kept.skipped) == sorted(streamed.skipped)
    assert len(kept.skipped) == (3 if on_bad_image == "skip" else 0)


def test_an_episode_of_a_streamed_tree_opens_its_own_images_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MAX_KEPT", 0)
    tasks = Folder(make(tmp_path, TWELVE, count=9), size=28, **SHARES)
    paths = opened(monkeypatch)
    episode = Episodes(tasks, 2, 3).first("train", 1)
    assert len(paths) == len(set(paths)) == 2 + 3
    assert {path.parent.name for path in paths} == set(episode.tasks)


def test_what_is_skipped_is_tried_once_and_counted_no_more(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder, "MAX_KEPT", 0)
    root = make(tmp_path, TWELVE, count=9)
    (tmp_path / "t00" / "4.png").write_bytes(b"damaged")
    tasks = Folder(root, size=28, on_bad_image="skip", **SHARES)
    paths = opened(monkeypatch)
    assert tasks.image_count("t00") == 9
    assert not paths
    assert tasks.readable_count("t00") == tasks.image_count("t00") == 8
    assert len(paths) == 9
    assert tasks.images("t00", [4])[0, 0, 0, 0] == 5
    assert len(paths) == 10
    assert [message.split(":")[0] for message in caplog.messages] == ["skipped image 1"]


def of_sizes(root: Path, counts: dict[str, int]) -> str:
    for name, count in counts.items():
        make(root, [name], count)
    return str(root)


def test_tasks_with_too_few_images_are_left_out_before_the_split_and_told_once(tmp_path, caplog):
    root = of_sizes(tmp_path, {name: 3 if i % 4 else 2 for i, name in enumerate(TWELVE)})
    whole = Folder(root, **SHARES).split
    assert not caplog.messages
    tasks = Folder(root, min_images=3, **SHARES)
    small = {"t00", "t04", "t08"}
    assert {part: set(tasks.split[part]) for part in SPLITS} == {part: set(whole[part]) - small for part in SPLITS}
    told = f"{root}: 3 of 12 tasks are left out, with fewer than 3 images there: 't00', 't04', 't08'"
    assert caplog.messages == [told]
    with pytest.raises(MetagenError, match=r"no task 't04'; expected .* a folder with 3 or more images$"):
        tasks.images("t04")


def test_many_tasks_that_are_left_out_are_counted(tmp_path, caplog):
    Folder(of_sizes(tmp_path, {**{f"s{i:02}": 1 for i in range(20)}, **dict.fromkeys(TWELVE, 2)}), min_images=2)
    assert "20 of 32 tasks" in caplog.text
    assert caplog.messages[0].endswith("'s06', 's07' and 12 more")


def test_a_split_file_that_names_a_task_too_small_is_refused(tmp_path):
    root = of_sizes(tmp_path / "tree", {"a": 3, "b": 3, "c": 3, "d": 2})
    path = tmp_path / "split.json"
    path.write_text(Split(train=("a", "d"), val=("b",), test=("c",)).to_json())
    assert Folder(root, split_file=str(path), min_images=2).split.train == ("a", "d")
    with pytest.raises(MetagenError, match=r"^split file .*: 1 tasks have fewer than 3 images under .*: 'd'; leave"):
        Folder(root, split_file=str(path), min_images=3)


def test_no_task_large_enough_is_one_line(tmp_path):
    root = of_sizes(tmp_path, {"a": 3, "b": 5})
    with pytest.raises(MetagenError, match=r"^\S+: none of 2 tasks has 6 or more .* has 5: lower --data.min_images.*$"):
        Folder(root, min_images=6)


def test_an_impossible_smallest_number_is_refused(tmp_path):
    with pytest.raises(MetagenError, match="min_images: expected 1 or more, got 0"):
        Folder(make(tmp_path, TWELVE), min_images=0)


def test_a_run_says_how_to_leave_small_tasks_out_and_then_does(tmp_path):
    counts = {f"t{i:02}": 5 if i % 4 else 2 for i in range(40)}
    options = {"root": of_sizes(tmp_path, counts), "shots": 2, "queries": 3, "tasks": 2}
    with pytest.raises(MetagenError, match=r"'t\d\d' has 2.* leave those tasks out with --data.min_images 5$"):
        EpisodeData("folder", **options).check(1)
    data = EpisodeData("folder", min_images=5, **options)
    data.check(1)
    assert data.description["min_images"] == 5
