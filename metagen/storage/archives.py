"""Images from an archive that may come from anywhere: unpacked once, safely, into metagen's cache."""

from __future__ import annotations

import hashlib
import logging
import lzma
import re
import shutil
import tarfile
import zipfile
import zlib
from itertools import islice
from pathlib import Path, PurePosixPath

from metagen.errors import MetagenError, some
from metagen.storage.files import cache_folder, fresh_folder
from metagen.storage.images import IMAGE_SUFFIXES, is_image_name, is_other, needed

log = logging.getLogger(__name__)

ARCHIVE_SUFFIXES = (".tar", ".tar.bz2", ".tar.gz", ".tar.xz", ".tbz2", ".tgz", ".txz", ".zip")
MAX_BYTES = 64 << 30  # of all images in an archive together
MAX_FILES = 5_000_000
BLOCK = 1 << 20

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")

# Raised by the readers on damaged archives.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,
    OSError,
)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its suffix."""
    return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)


def unpacked(archive: Path) -> Path:
    """The folder that holds the images of a zip or tar file; other files in it, links and devices are left out.

    It lies in the cache under the hash of the archive and of what can be read, so the same archive is unpacked once.

    Raises:
        MetagenError: the archive is damaged, encrypted or too large, a member lies outside it, or nothing can be
            written.
    """
    place = cache_folder() / "archives" / _hash(archive)[:32]
    if place.is_dir():
        return place
    try:
        with fresh_folder(place) as folder:
            others = _unpack(archive, folder)
        if others:
            listed = some([name + needed(name) for name in others])
            log.warning("%s: %d files passed over, as no images that can be read: %s", archive, len(others), listed)
    except MetagenError:
        if not place.is_dir():  # where another process was faster, its images are the same, and may be in use
            raise
    return place


def _unpack(archive: Path, folder: Path) -> list[str]:
    """Unpack the images, and say what else there is."""
    try:
        return (_unzip if archive.name.lower().endswith(".zip") else _untar)(archive, folder)
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        hint = "" if getattr(error, "errno", None) else "; it may be damaged"  # else a full disk, for example
        raise MetagenError(f"{archive}: cannot unpack this archive ({reason}){hint}") from error


def _unzip(archive: Path, folder: Path) -> list[str]:
    with zipfile.ZipFile(archive) as packed:
        sizes = _Sizes(archive)
        members = [member for member in packed.infolist() if sizes.admit(member.filename, member.file_size)]
        sizes.check_room()
        for member in members:
            member.filename = _slashed(member.filename)
            packed.extract(member, folder)  # never more than the stated size, which was counted
    return sizes.others


def _untar(archive: Path, folder: Path) -> list[str]:
    with tarfile.open(archive) as packed:
        sizes = _Sizes(archive)
        members = [
            member for member in packed if sizes.admit(member.name + "/" * member.isdir(), member.size, member.isreg())
        ]
        sizes.check_room()
        for member in members:
            member.name = _slashed(member.name)
        packed.extractall(folder, members, filter="data")
        rest = iter(lambda: packed.fileobj and packed.fileobj.read(BLOCK), b"")
        for _ in islice(rest, MAX_BYTES // BLOCK):  # checksums stand at the very end
            pass
    return sizes.others


class _Sizes:
    """Counts what an archive says it holds, one member after the other, so that a bomb is refused as it unfolds."""

    def __init__(self, archive: Path) -> None:
        self.archive, self.files, self.bytes = archive, 0, 0
        self.others: list[str] = []
        self._names: set[PurePosixPath] = set()

    def admit(self, name: str, size: int, whole: bool = True) -> bool:
        """Whether the member is named as an image is; members that lie outside or are too much are refused.

        whole: it is a file, not a link or a device.
        """
        path = PurePosixPath(_slashed(name))
        if path.is_absolute() or ".." in path.parts or "\0" in name or _DRIVE.match(name):
            raise MetagenError(
                f"{self.archive}: its member {name!r} lies outside it; not safe, so nothing was unpacked"
            )
        self.files, self.bytes = self.files + 1, self.bytes + max(size, 0)
        if self.files > MAX_FILES or self.bytes > MAX_BYTES:
            raise MetagenError(
                f"{self.archive}: more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB; unpack it yourself and name "
                "the folder"
            )
        hidden = any(part.startswith(".") for part in path.parts[:-1])
        image = is_image_name(path.name) and not hidden
        if (is_other(path.name) or (image and not whole)) and not name.endswith("/"):
            self.others.append(str(path))
        elif image and whole and path in self._names:
            self.others.append(f"{path} (of two of this name the last one counts)")
        self._names.add(path)
        return image and whole

    def check_room(self) -> None:
        """Refuse to fill the disk."""
        place = cache_folder()
        free = shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free
        if self.bytes > free:
            raise MetagenError(
                f"{self.archive}: {self.bytes} bytes to unpack, {free} free for {place}; name a roomier place in the "
                "environment variable METAGEN_CACHE"
            )


def _slashed(name: str) -> str:
    """The name of a member as it should be: some programs of Windows part folders by backslashes."""
    return name.replace("\\", "/")


def _hash(archive: Path) -> str:
    digest = hashlib.sha256(" ".join(IMAGE_SUFFIXES).encode())
    try:
        with archive.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except OSError as error:
        raise MetagenError(f"{archive}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
