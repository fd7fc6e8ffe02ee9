"""The task set `celeba`: 202,599 photographs of 10,177 people (Liu 2015, arXiv:1411.7766), one task per identity."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import torch

from metagen.errors import MetagenError, check_at_least, check_choice, some
from metagen.storage.files import placed
from metagen.storage.images import read_files
from metagen.tasks.base import TaskSet, with_enough_images
from metagen.tasks.splits import SPLITS, Split, read_split, split_by_hash

log = logging.getLogger(__name__)

IDENTITIES, OFFICIAL, IMAGES = "identity_CelebA.txt", "list_eval_partition.txt", "img_align_celeba"
CelebAPartition = Literal["identity", "official"]
SIDE = 178  # pixels of the central square of a photograph
SHARES = {"val": 0.1, "test": 0.1}  # of `identity`


class CelebA(TaskSet):
    """Each identity is a task, named by its number as text, such as "2880".

    Of the aligned photographs (178 x 218) the central 178 x 178 are cut out and resized with Lanczos. They are read
    from disk each time a task is asked for; only their file names are kept. The identities that a
    model was trained on are known by their numbers alone, without hashes of photographs.

    `identity`: a hash of each number decides, about a tenth of them val and a tenth test. `official`: the parts of
    list_eval_partition.txt. Identities with fewer than `min_images` files there are left out of either, with a warning.

    Args:
        root: the folder with identity_CelebA.txt, list_eval_partition.txt (for `official`) and img_align_celeba, or
            the one above it, if it is called celeba as torchvision does.
        size: height and width in pixels, 28 to 128.
        channels: 1 (grey) or 3 (RGB).
        partition: "identity" or "official".
        min_images: how many images an identity must have to be a task.
        download: fetch it through torchvision (and gdown) into `root` if it is not there.
        split_file: a split as `Split.to_json` writes it, in place of the partition.
        invert: exchange black and white.

    Raises:
        MetagenError: nothing is there, a list is damaged, an option is refused, or a part of the split is empty.
    """

    streamed = True

    def __init__(
        self,
        root: str,
        size: int = 64,
        channels: int = 3,
        partition: CelebAPartition = "identity",
        min_images: int = 20,
        download: bool = False,
        split_file: str | None = None,
        invert: bool = False,
    ) -> None:
        super().__init__(size, channels, invert)
        check_choice("partition", partition, CelebAPartition)
        check_at_least("min_images", min_images, 1)
        self.root, self.partition, self.min_images, self.download = root, partition, min_images, download
        self.split_file = split_file
        official = partition == "official" and split_file is None
        self._tree = _find(placed(root), (IDENTITIES, IMAGES, *([OFFICIAL] if official else [])), download)
        listed = _files_by_identity(self._tree)
        self._files = with_enough_images(listed, min_images, root, "identities")
        self.left_out = tuple(name for name in listed if name not in self._files)
        self.split = self._make_split()

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """The photographs of one identity in the order of their file names, uint8 [n, C, H, W], read anew each time.

        which: the places of those to read, in this order; None for all.

        Raises:
            MetagenError: there is no such identity, or a photograph cannot be read.
        """
        return self._read(task, which, self.size)

    def originals(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """The same, but uint8 [n, C, 178, 178]: the central squares of aligned photographs as they come."""
        return self._read(task, which, SIDE)

    def _read(self, task: str, which: Sequence[int] | None, size: int) -> torch.Tensor:
        if task not in self._files:
            raise MetagenError(
                f"{self.root}: no identity {task!r} with {self.min_images} or more images; "
                "expected a number as text, such as '2880'"
            )
        names = self._files[task] if which is None else [self._files[task][place] for place in which]
        images = read_files([self._tree / IMAGES / name for name in names], size, self.channels)
        return 255 - images if self.invert else images

    def image_count(self, task: str) -> int:
        """The number of photographs of one identity."""
        return len(self._files[task])

    def _make_split(self) -> Split:
        if self.split_file is not None:
            split = self._read_split(self.split_file)
        elif self.partition == "official":
            split = _official_split(self._files, self._tree / OFFICIAL)
        else:
            split = split_by_hash(self._files, SHARES, seed=0)
        empty = [part for part in SPLITS if not split[part]]
        if empty:
            raise MetagenError(
                f"{self.root}: {len(self._files)} identities have {self.min_images} or more images, but none of them "
                f"is in the split {' and '.join(empty)}; lower --data.min_images, add identities, or name a split_file"
            )
        return split

    def _read_split(self, path: str) -> Split:
        split = read_split(placed(path))
        absent = [name for part in SPLITS for name in split[part] if name not in self._files]
        if absent:
            raise MetagenError(
                f"split file {path}: {len(absent)} identities do not have {self.min_images} or more images under "
                f"{self.root}: {some(absent)}; leave them out of it, lower --data.min_images, or add their images"
            )
        return split


def _files_by_identity(tree: Path) -> dict[str, list[str]]:
    """The names of the images that are there, by identity; of an identity without any, an empty list."""
    identities = _read_list(tree / IDENTITIES, rb"\d{1,9}", "000001.jpg 2880")
    there = sorted(_file_names(tree / IMAGES) & identities.keys())
    if len(there) < len(identities):
        absent = len(identities) - len(there)
        log.warning("%s: %d of %d listed images are not there", tree / IMAGES, absent, len(identities))
    files: dict[str, list[str]] = {str(number): [] for number in sorted(set(identities.values()))}
    for name in there:
        files[str(identities[name])].append(name)
    return files


def _official_split(files: Mapping[str, list[str]], path: Path) -> Split:
    part_of = _read_list(path, b"[012]", "000001.jpg 0")
    parts: tuple[list[str], ...] = ([], [], [])
    for identity in sorted(files):
        unlisted = [name for name in files[identity] if name not in part_of]
        if unlisted:
            raise MetagenError(f"{path}: no line for {unlisted[0]} of identity {identity}; fetch the whole list again")
        of_images = sorted({part_of[name] for name in files[identity]})
        if len(of_images) > 1:
            named = " and ".join(SPLITS[part] for part in of_images)
            raise MetagenError(
                f"{path}: expected each identity in one part, got identity {identity} in {named}; "
                "use --data.partition identity, or fetch the list again"
            )
        parts[of_images[0]].append(identity)
    return Split(*map(tuple, parts))


def _read_list(path: Path, number: bytes, example: str) -> dict[str, int]:
    """The number after each file name, which is a bare one and cannot lead out of its folder."""
    try:
        lines = path.read_bytes().rstrip().splitlines()
    except OSError as error:
        raise MetagenError(f"{path}: cannot read this list ({error.strerror})") from error
    form = re.compile(rb"(\w+\.\w+)[ \t]+(" + number + rb")[ \t]*")
    rows: dict[str, int] = {}
    for at, line in enumerate(lines, start=1):
        match = form.fullmatch(line)
        if match is None:
            got = line[:60].decode(errors="replace")
            raise MetagenError(f"{path}, line {at}: expected a line such as {example!r}, got {got!r}; fetch it again")
        name = match[1].decode()
        if name in rows:
            raise MetagenError(f"{path}, line {at}: {name} is listed twice; remove one of the lines")
        rows[name] = int(match[2])
    return rows


def _file_names(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:  # knows what is a file without asking about each of 200,000
            return {entry.name for entry in entries if entry.is_file()}
    except OSError as error:
        raise MetagenError(f"{folder}: cannot read this folder ({error.strerror})") from error


def _find(root: Path, needed: tuple[str, ...], download: bool) -> Path:
    """The folder that holds all that is needed."""
    absent = _absent(root, needed)
    if download and all(absent.values()):
        _download(root)
        absent = _absent(root, needed)
    tree = min(absent, key=lambda place: len(absent[place]))
    if absent[tree]:
        raise MetagenError(
            f"{root}: expected {', '.join(needed)} in it or in its folder celeba, {' and '.join(absent[tree])} not "
            "found; name the folder above them, or fetch them with --data.download true"
        )
    return tree


def _absent(root: Path, needed: tuple[str, ...]) -> dict[Path, list[str]]:
    places = (root, root / "celeba")
    return {place: [name for name in needed if not (place / name).exists()] for place in places}


def _download(root: Path) -> None:
    from torchvision.datasets import CelebA as Downloads  # checks the hash of what it fetches

    try:
        Downloads(str(root), download=True)
    except Exception as error:  # gdown has exceptions of its own, and is not always there to name them
        reason = " ".join(str(error).split()) or type(error).__name__
        install = "" if find_spec("gdown") else "pip install gdown and try again, or "
        raise MetagenError(
            f"{root}: could not download CelebA ({reason}); {install}put {IDENTITIES}, {OFFICIAL} and the unpacked "
            "img_align_celeba.zip of http://mmlab.ie.cuhk.edu.hk/projects/CelebA.html there by hand"
        ) from error
