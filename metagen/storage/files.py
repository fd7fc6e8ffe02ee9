"""Writing that leaves either the old thing or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from metagen.errors import MetagenError, some

LONGEST = 200  # characters of a path in a message
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")  # what systems leave in any folder


TEMPORARY = r"\.metagen-[0-9a-f]{12}\.tmp"  # see `_temporary_path`


class Kind(NamedTuple):
    """A kind of folder that metagen writes: the files that are always there, and a pattern of all that may be."""

    always: tuple[str, ...]
    pattern: str


CARD = r"config\.json|README\.md"
KINDS = (
    Kind(
        ("config.json", "model.safetensors"), rf"{CARD}|model\.safetensors|(split|seen)\.json"
    ),  # a model or an extractor
    Kind(
        ("config.json", "difference.safetensors"),
        rf"{CARD}|(difference|support)\.safetensors|rule\.(json|png)|base",
    ),
    Kind(("config.json", "deltas.safetensors"), rf"{CARD}|deltas\.safetensors|seen\.json"),
    Kind(("grid.png",), r"\d{4,}\.png|grid\.png"),
    Kind(("result.json", "values.safetensors"), r"result\.json|values\.safetensors|(samples|curve)\.png"),
    Kind(("league.csv", "league.json", "league.md"), r"league\.(csv|json|md)"),
    Kind(("rule.json", "rule.png"), r"rule\.(json|png)"),
    Kind(("embeddings.json", "embeddings.safetensors"), r"embeddings\.(json|safetensors)|embedding\.png"),
)


def is_litter(name: str) -> bool:
    """Whether a file is one that systems, or a write that was killed, leave in any folder, by its name."""
    return name in LITTER or name.startswith("._") or bool(re.fullmatch(TEMPORARY, name))


def placed(name: str | Path) -> Path:
    """A path as a user writes it, with ~ for the home folder.

    Raises:
        MetagenError: it is empty, or so that nothing can stand there: it is too long, say.
    """
    if not os.fspath(name):
        raise MetagenError("expected a path, got an empty text")
    path = Path(os.path.expanduser(name))
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise MetagenError(f"{_cut(path)}: cannot look there ({error.strerror})") from error
    except ValueError as error:
        raise MetagenError(f"{_cut(path)!r}: no path ({error})") from error
    return path


def cache_folder(given: str | None = None) -> Path:
    """Where metagen keeps what it can make again: the folder given, else $METAGEN_CACHE, else ~/.cache/metagen."""
    return placed(given or os.environ.get("METAGEN_CACHE") or "~/.cache/metagen").absolute()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there once it is whole; missing parent folders are made.

    Raises:
        MetagenError: it cannot be written there; what stood there before is untouched.
    """
    temporary = _temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync(path.parent)
        finally:
            with suppress(OSError):  # gone when all went well
                temporary.unlink()
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextmanager
def fresh_folder(path: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place when the block ends well, and is removed otherwise.

    overwrite: replace a folder that metagen wrote, instead of refusing it at the start.

    Raises:
        MetagenError: `path` is taken, holds the current or the home folder, or cannot be written.
    """
    place = Path(os.path.realpath(path))  # a link to a folder stays, and the folder behind it is replaced
    check_free(path, overwrite)
    temporary = _temporary_path(place)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        try:
            _move_into_place(temporary, place, overwrite)
            _sync(place.parent)
        except OSError as error:
            raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(path: Path, overwrite: bool, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse early what `fresh_folder` would refuse, and to replace what is read.

    inputs: files and folders that are read; those that are None, or are not there, do not count.

    Raises:
        MetagenError: see `fresh_folder`; or `path` is, holds or is part of an input.
    """
    place = Path(os.path.realpath(path))
    near = next((each for each in place.parents if each.exists()), place)
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise MetagenError(f"{path}: cannot write there; {near} is {'read-only' if near.is_dir() else 'a file'}")
    if not place.exists():
        return
    if not place.is_dir():
        raise MetagenError(f"{path}: expected a folder, got a file; choose another place")
    for kept in (Path(os.path.realpath(os.curdir)), Path(os.path.realpath(Path.home()))):
        if place == kept or place in kept.parents:
            raise MetagenError(f"{path}: would replace {kept}; name a new folder, for example {path / 'out'}")
    try:
        taken = any(place.iterdir())
    except OSError as error:
        raise _cannot_write(path, error) from error
    if not taken:
        return
    given = [each for each in inputs if each]
    check_no_input(path, given)
    for read in (Path(os.path.realpath(placed(each))) for each in given):
        if read in place.parents and _is_part(place, read):
            raise MetagenError(f"{path}: would replace a part of {read}, which is read; choose another place")
    if strange := strangers(place):
        hint = f"holds {some(strange)}, which metagen did not write, so choose another folder"
        raise MetagenError(f"{path}: exists and is not empty; {hint}")
    if not overwrite:
        raise MetagenError(f"{path}: exists and is not empty; choose another folder, or say to overwrite it")


def check_no_input(path: Path, inputs: Iterable[str | Path | None]) -> None:
    """Refuse to replace what is read.

    Raises:
        MetagenError: `path` is or holds a file or folder among `inputs`.
    """
    place = Path(os.path.realpath(path))
    for given in inputs:
        read = _and_linked(Path(os.path.realpath(placed(given)))) if given else []
        if any(each.exists() and _inside(each, place) for each in read):
            raise MetagenError(f"{path}: would replace {given}, which is read; choose another place")


def strangers(folder: Path, pattern: str | None = None) -> list[str]:
    """The names in a folder that metagen did not write there: all of them, where it wrote no such folder.

    pattern: what it writes there; None to tell the kind of folder by the files in it.
    """
    names = sorted(path.name for path in folder.iterdir() if not is_litter(path.name))
    pattern = pattern or _pattern(folder, names)
    return [name for name in names if not (pattern and re.fullmatch(pattern, name) and _is_own(folder / name))]


def remove(place: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link alone."""
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink()


def remove_own(folder: Path, pattern: str) -> None:
    """Remove the files in a folder whose names fit a pattern, and the folder where nothing else is in it."""
    for path in folder.iterdir():
        if path.is_file() and re.fullmatch(pattern, path.name):
            path.unlink()
    with suppress(OSError):  # something else is in it
        folder.rmdir()


def _pattern(folder: Path, names: Sequence[str]) -> str | None:
    """Of what metagen writes into a folder with files of these names; None where it writes no such folder."""
    kinds = [kind for kind in KINDS if {*kind.always} <= {*names}]
    return kinds[0].pattern if kinds and _is_signed(folder, names) else None


def _is_signed(folder: Path, names: Sequence[str]) -> bool:
    """Whether a file that others write under the same name, too, is metagen's: a config, or a grid of images."""
    if "config.json" in names:
        with suppress(OSError, ValueError, RecursionError):
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            return isinstance(config, dict) and config.get("format") == "metagen"
        return False
    return "grid.png" not in names or _is_grid(folder, [name for name in names if name[:1].isdigit()])


def _is_grid(folder: Path, images: Sequence[str]) -> bool:
    """Whether grid.png is as wide as one of so many images is, two pixels apart."""
    columns = min(len(images), max(1, round(len(images) ** 0.5)))
    return bool(images) and _width(folder / "grid.png") == 2 + columns * (_width(folder / images[0]) + 2)


def _width(png: Path) -> int:
    try:
        with png.open("rb") as file:
            return int(struct.unpack(">8xI4sI", file.read(20))[2])
    except (OSError, struct.error):
        return -1


def _is_own(path: Path) -> bool:
    """Whether an entry of a folder that metagen wrote is a file or, as a base is, such a folder itself."""
    return not strangers(path) if path.is_dir() else path.is_file()


def _and_linked(read: Path) -> list[Path]:
    """A place that is read, and what links directly in it lead to."""
    return [read, *(Path(os.path.realpath(path)) for path in _entries(read) if path.is_symlink())]


def _entries(folder: Path) -> list[Path]:
    with suppress(OSError):  # a file, or nobody may look
        return sorted(folder.iterdir())
    return []


def _inside(inner: Path, outer: Path) -> bool:
    """Whether a place is another one or lies in it, however the two are spelled."""
    return outer.exists() and any(each.exists() and os.path.samefile(each, outer) for each in (inner, *inner.parents))


def _is_part(place: Path, read: Path) -> bool:
    """Whether a folder below one that is read is a part of it: of one that metagen wrote, few are."""
    pattern = _pattern(read, [path.name for path in _entries(read)])
    return pattern is None or bool(re.fullmatch(pattern, place.relative_to(read).parts[0]))


def _move_into_place(temporary: Path, place: Path, overwrite: bool) -> None:
    if not place.exists():
        os.rename(temporary, place)
    elif not overwrite:
        place.rmdir()  # fails when somebody has written into it meanwhile, as it should
        os.rename(temporary, place)
    else:
        old = _temporary_path(place)
        os.rename(place, old)  # two renames: the only moment at which nothing stands there
        try:
            os.rename(temporary, place)
        except BaseException:
            os.rename(old, place)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Have the disk keep the names in a folder, too, before going on."""
    with suppress(OSError):  # some systems cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _temporary_path(path: Path) -> Path:
    # Short and hidden: a name made from a long one could be too long, and no reader of images takes it up.
    return path.parent / f".metagen-{uuid.uuid4().hex[:12]}.tmp"


def _cut(path: Path) -> str:
    return str(path) if len(str(path)) <= LONGEST else f"{str(path)[:LONGEST]} ..."


def _cannot_write(path: Path, error: OSError) -> MetagenError:
    return MetagenError(f"{path}: cannot write there ({error.strerror or error})")
