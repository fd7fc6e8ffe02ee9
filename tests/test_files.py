"""Writing is all or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metagen.errors import MetagenError
from metagen.storage.files import fresh_folder, write_atomically


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() if p.is_file() else "/" for p in folder.rglob("*")}


def written_before(folder: Path) -> None:
    """A folder such as metagen compare writes."""
    folder.mkdir()
    for ending in ("csv", "json", "md"):
        (folder / f"league.{ending}").write_text("old")


def fail(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_file_is_written_and_replaced(tmp_path):
    for data in (b"first", b"second"):
        write_atomically(tmp_path / "made" / "a.bin", data)
        assert (tmp_path / "made" / "a.bin").read_bytes() == data
    assert set(tree(tmp_path)) == {"made", "made/a.bin"}


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, step):
    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, step, fail)
    with pytest.raises(MetagenError, match=r"a\.txt: cannot write there \(No space left on device\)"):
        write_atomically(path, b"new")
    assert tree(tmp_path) == {"a.txt": "old"}


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    (tmp_path / "a.txt").write_text("old")
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", b"new")
    assert tree(tmp_path) == {"a.txt": "old"}


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_atomically(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_file_cannot_take_the_place_of_a_folder(tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "taken", tmp_path / "file" / "a"):
        (tmp_path / "file").touch()
        with pytest.raises(MetagenError, match="cannot write there"):
            write_atomically(path, b"")
    assert set(tree(tmp_path)) == {"taken", "file"}


@pytest.mark.parametrize("there", [None, "empty"])
def test_a_fresh_folder_appears_at_the_end(tmp_path, there):
    path = tmp_path / "out"
    if there:
        path.mkdir()
    with fresh_folder(path) as folder:
        (folder / "a.txt").write_text("a")
        assert folder.parent == path.parent
        assert not (path / "a.txt").exists()
    assert tree(tmp_path) == {"out": "/", "out/a.txt": "a"}


def test_missing_parents_are_made(tmp_path):
    with fresh_folder(tmp_path / "one" / "two") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "one" / "two" / "a.txt").read_text() == "a"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_failure_leaves_nothing_new(tmp_path, overwrite):
    if overwrite:
        written_before(tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(ZeroDivisionError), fresh_folder(tmp_path / "out", overwrite) as folder:
        (folder / "a.txt").write_text("a")
        raise ZeroDivisionError
    assert tree(tmp_path) == before


def test_a_folder_that_is_taken_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.txt").write_text("old")
    with pytest.raises(MetagenError, match="not empty"), fresh_folder(tmp_path / "out"):
        pytest.fail("the block ran")
    with pytest.raises(MetagenError, match="got a file"), fresh_folder(tmp_path / "out" / "old.txt", overwrite=True):
        pytest.fail("the block ran")


def test_overwriting_replaces_the_whole_folder(tmp_path):
    written_before(tmp_path / "out")
    with fresh_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
        assert (tmp_path / "out" / "league.md").read_text() == "old"
    assert tree(tmp_path) == {"out": "/", "out/new.txt": "new"}


def test_a_failed_exchange_brings_the_old_folder_back(tmp_path, monkeypatch):
    written_before(tmp_path / "out")
    before, rename = tree(tmp_path), os.rename

    def fail_for_the_new(source, target):
        return fail() if (source / "new.txt").exists() else rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_the_new)
    with pytest.raises(MetagenError, match="No space left"), fresh_folder(tmp_path / "out", overwrite=True) as folder:
        (folder / "new.txt").write_text("new")
    assert tree(tmp_path) == before


def test_somebody_else_was_faster(tmp_path):
    with pytest.raises(MetagenError, match="cannot write there"), fresh_folder(tmp_path / "out") as folder:
        (folder / "ours.txt").write_text("ours")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "theirs.txt").write_text("theirs")
    assert tree(tmp_path) == {"out": "/", "out/theirs.txt": "theirs"}


def test_the_current_and_the_home_folder_are_never_replaced(tmp_path, monkeypatch):
    here = tmp_path / "project" / "inside"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for path in (Path("."), Path(".."), tmp_path / "project", tmp_path / "home"):
        with pytest.raises(MetagenError, match="name a new folder"), fresh_folder(path, overwrite=True):
            pytest.fail("the block ran")


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    with fresh_folder(tmp_path / "link") as folder:
        (folder / "a.txt").write_text("a")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "a.txt").read_text() == "a"
