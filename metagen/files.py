"""Writing that leaves either the old thing or the new one, never half of one."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from metagen.errors import MetagenError


def cache_folder(given: str | None = None) -> Path:
    """Where metagen keeps what it can make again: the folder given, else $METAGEN_CACHE, else ~/.cache/metagen."""
    return Path(given or os.environ.get("METAGEN_CACHE") or "~/.cache/metagen").expanduser().absolute()


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file beside its place and move it there once it is whole; missing parent folders are made.

    Raises:
        MetagenError: it cannot be written there; what stood there before is untouched.
    """
    temporary = _beside(path)
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

    overwrite: replace a folder that has something in it, instead of refusing it at the start.

    Raises:
        MetagenError: `path` is taken, holds the current or the home folder, or cannot be written.
    """
    place = Path(os.path.realpath(path))  # a link to a folder stays, and the folder behind it is replaced
    check_free(path, overwrite)
    temporary = _beside(place)
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


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse early what `fresh_folder` would refuse.

    Raises:
        MetagenError: see `fresh_folder`.
    """
    place = Path(os.path.realpath(path))
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
    if taken and not overwrite:
        raise MetagenError(f"{path}: exists and is not empty; choose another folder, or say to overwrite it")


def _move_into_place(temporary: Path, place: Path, overwrite: bool) -> None:
    if not place.exists():
        os.rename(temporary, place)
    elif not overwrite:
        place.rmdir()  # fails when somebody has written into it meanwhile, as it should
        os.rename(temporary, place)
    else:
        old = _beside(place)
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


def _beside(path: Path) -> Path:
    # Short and hidden: a name made from a long one could be too long, and no reader of images takes it up.
    return path.parent / f".metagen-{uuid.uuid4().hex[:12]}.tmp"


def _cannot_write(path: Path, error: OSError) -> MetagenError:
    return MetagenError(f"{path}: cannot write there ({error.strerror or error})")
