"""Tasks from a tree of images of the user's own: every folder that holds images is a task."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from metagen.archives import ARCHIVE_SUFFIXES, is_archive, unpacked
from metagen.errors import MetagenError, unknown
from metagen.images import image_files, is_image_name, read_folder
from metagen.tasks.base import TaskSet
from metagen.tasks.splits import SPLITS, Split, read_split, split_by_hash

ON_BAD_IMAGE = ("raise", "skip")
MAX_KEPT = 1 << 30  # bytes of all images together


class Folder(TaskSet):
    """Every folder under `root` with images directly in it is a task, named by its path below `root`.

    Images are read when a task is first asked for, and kept; of a tree that would take more than a GiB, read each time.

    Args:
        root: the top of the tree, or a zip or tar file of one; links to folders are followed, each counts once.
        size: height and width in pixels, 28 to 128; other images are cut to a square and resized.
        channels: 1 (grey) or 3 (RGB).
        split_file: a split as `Split.to_json` writes it; without one a hash of each name decides.
        val: the expected share of the val tasks, when a hash decides.
        test: the same for the test tasks.
        seed: another seed, another split, when a hash decides.
        invert: exchange black and white, for ink on paper.
        on_bad_image: "raise", or "skip" those that cannot be read, which a warning names and counts.

    Attributes:
        skipped: the files skipped so far.

    Raises:
        MetagenError: no such folder, no images, a folder that cannot be read, or a split that does not fit.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        channels: int = 3,
        split_file: str | None = None,
        val: float = 0.1,
        test: float = 0.1,
        seed: int = 0,
        invert: bool = False,
        on_bad_image: str = "raise",
    ) -> None:
        super().__init__(size, channels, invert)
        if on_bad_image not in ON_BAD_IMAGE:
            raise unknown("on_bad_image", on_bad_image, ON_BAD_IMAGE)
        if not (val > 0 and test > 0 and val + test < 1):
            raise MetagenError(f"val, test: expected two shares above 0 that add up to less than 1, got {val}, {test}")
        self.root = root
        self.split_file = split_file
        self.val = val
        self.test = test
        self.seed = seed
        self.on_bad_image = on_bad_image
        self.skipped: list[Path] = []
        self._folders = _find_tasks(unpacked(Path(root)) if is_archive(Path(root)) else Path(root))
        self._images: dict[str, torch.Tensor] = {}
        self._counts = {task: len(image_files(folder)) for task, folder in self._folders.items()}
        self.streamed = sum(self._counts.values()) * channels * size**2 > MAX_KEPT
        self.split = self._make_split()

    def images(self, task: str) -> torch.Tensor:
        """All images of one task in the order of their file names, uint8 [n, C, H, W].

        Raises:
            MetagenError: there is no such task, or an image cannot be read.
        """
        if task not in self._folders:
            raise MetagenError(f"{self.root}: no task {task!r}; expected the path below it of a folder with images")
        if task in self._images:
            return self._images[task]
        skipped = self.skipped if self.on_bad_image == "skip" else None
        images = read_folder(self._folders[task], self.size, self.channels, skipped)
        images = 255 - images if self.invert else images
        if not self.streamed:
            self._images[task] = images
        return images

    def image_count(self, task: str) -> int:
        """How many images one task has, those included that cannot be read."""
        return self._counts[task]

    def _make_split(self) -> Split:
        if self.split_file is None:
            split = split_by_hash(self._folders, {"val": self.val, "test": self.test}, self.seed)
            mend = "add tasks, raise val or test, choose another seed, or name a split_file"
        else:
            split = read_split(Path(self.split_file))
            mend = "name at least one task for each split there"
        absent = [name for part in SPLITS for name in split[part] if name not in self._folders]
        if absent:
            named = ", ".join(map(repr, absent[:3])) + (" ..." if len(absent) > 3 else "")
            raise MetagenError(f"split file {self.split_file}: {len(absent)} tasks are not under {self.root}: {named}")
        empty = [part for part in SPLITS if not split[part]]
        if empty:
            found = f"{len(self._folders)} tasks under {self.root}"
            raise MetagenError(f"{found}, but none of them in the split {' and '.join(empty)}: {mend}")
        return split


def _find_tasks(root: Path) -> dict[str, Path]:
    """Every folder that holds images directly, by its posix path relative to root."""
    if not root.is_dir():
        archives = ", ".join(ARCHIVE_SUFFIXES)
        problem = f"is a file, expected a folder or an archive ({archives})" if root.exists() else "no such folder"
        raise MetagenError(f"{root}: {problem}")
    tasks: dict[str, Path] = {}
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(here)
        if real in seen:  # a link back up would never end; one sideways would put the same images into two splits
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if any(map(is_image_name, files)):
            tasks[_task_name(Path(here), root)] = Path(here)
    if not tasks:
        raise MetagenError(f"{root}: no images in it or in any folder below; expected one folder of images a task")
    return tasks


def _task_name(folder: Path, root: Path) -> str:
    name = folder.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise MetagenError(f"{root}: the folder name {name!r} is not valid UTF-8; rename it") from None
    return name


def _unreadable(error: OSError) -> None:
    raise MetagenError(f"{error.filename}: cannot read this folder ({error.strerror})") from error
