"""Archives of images: what is read from them, and what is refused before anything is written."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from metagen.errors import MetagenError
from metagen.storage import archives
from metagen.storage.archives import unpacked
from metagen.tasks import Folder

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), grey).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in members.items():
                packed.writestr(name, data)
        return path
    mode = "w:" + {".tar": "", ".tgz": "gz"}.get(path.suffix, path.suffix[1:])
    with tarfile.open(path, mode) as packed:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return path


def pack_special(path: Path, kind: bytes, target: str) -> Path:
    """A tar with a link or device named as an image is, and something written through it."""
    with tarfile.open(path, "w") as packed:
        member = tarfile.TarInfo("a/link.png")
        member.type, member.linkname = kind, target
        packed.addfile(member)
        real = tarfile.TarInfo("a/real.png")
        real.size = len(png(5))
        packed.addfile(real, io.BytesIO(png(5)))
    return path


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_archive_is_the_tree_it_holds(tmp_path: Path, suffix: str) -> None:
    tasks = [f"deep/tâche {i}" for i in range(20)]
    members = {f"{name}/{n}.png": png(10 * i + n) for i, name in enumerate(tasks) for n in range(3)}
    archive = pack(tmp_path / f"images{suffix}", {**members, "notes.txt": b"hello", "__MACOSX/.hidden/x.png": png(0)})
    found, names = Folder(str(archive), size=28, channels=1, val=0.3, test=0.3), [name[5:] for name in tasks]
    assert sorted([*found.split.train, *found.split.val, *found.split.test]) == sorted(names)  # as of the folder packed
    assert found.images(names[7])[:, 0, 0, 0].tolist() == [70, 71, 72]
    assert "notes.txt" not in files_under(unpacked(archive))


def test_an_archive_is_unpacked_once_and_again_when_it_changes(tmp_path: Path, cache: Path) -> None:
    archive = pack(tmp_path / "images.zip", {"a/1.png": png(1)})
    first = unpacked(archive)
    stamp = (first / "a/1.png").stat().st_mtime_ns
    assert unpacked(archive) == first
    assert (first / "a/1.png").stat().st_mtime_ns == stamp
    pack(archive, {"a/1.png": png(2)})
    assert unpacked(archive) != first
    assert cache in first.parents


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/out.png", "..\\out.png", "\\out.png"])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_members_outside_are_refused(tmp_path: Path, cache: Path, name: str, suffix: str) -> None:
    archive = pack(tmp_path / f"evil{suffix}", {"a/good.png": png(1), name: png(2)})
    with pytest.raises(MetagenError, match=r"lies outside it; not safe"):
        unpacked(archive)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_left_out(tmp_path: Path, kind: bytes) -> None:
    (tmp_path / "secret.png").write_bytes(png(9))
    folder = unpacked(pack_special(tmp_path / "links.tar", kind, str(tmp_path / "secret.png")))
    assert files_under(folder) == ["a/real.png"]


def test_a_link_in_a_zip_is_a_file_that_is_no_image(tmp_path: Path) -> None:
    member = zipfile.ZipInfo("a/link.png")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as packed:
        packed.writestr(member, "/etc/passwd")
    link = unpacked(tmp_path / "link.zip") / "a/link.png"
    assert not link.is_symlink()
    assert link.read_text() == "/etc/passwd"


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
@pytest.mark.parametrize(("cap", "value"), [("MAX_BYTES", 999_999), ("MAX_FILES", 2)])
def test_what_unfolds_to_too_much_is_refused(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, cap: str, value: int
) -> None:
    archive = pack(tmp_path / f"bomb{suffix}", {"a.png": bytes(400_000), "b.png": bytes(400_000), "c": bytes(400_000)})
    assert archive.stat().st_size < 10_000
    monkeypatch.setattr(archives, cap, value)
    with pytest.raises(MetagenError, match=r"more than .* unpack it yourself"):
        unpacked(archive)
    assert not list(tmp_path.rglob("*.png"))


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / "images.zip", {"a/1.png": png(1)})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(MetagenError, match=r"bytes to unpack, 3 free .* METAGEN_CACHE"):
        unpacked(archive)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def garbled(data: bytes) -> bytes:
    middle = len(data) // 3
    return data[:middle] + bytes(b ^ 0x5A for b in data[middle : middle + 200]) + data[middle + 200 :]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("damage", [cut, garbled, lambda data: b"", lambda data: b"no archive at all"])
def test_a_damaged_archive_is_one_line_and_leaves_nothing(
    tmp_path: Path, cache: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    noise = torch.randint(0, 256, (20_000,), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    archive = pack(tmp_path / f"images{suffix}", {f"a/{i}.png": noise.numpy().tobytes() for i in range(3)})
    archive.write_bytes(damage(archive.read_bytes()))
    if suffix == ".tar" and damage is garbled:  # has no checksums over files: the image's reader notices
        assert unpacked(archive).is_dir()
        return
    with pytest.raises(MetagenError) as caught:
        unpacked(archive)
    assert str(archive) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.png"))
