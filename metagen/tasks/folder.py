"""Tasks from a tree of images of the user's own: every folder that holds images is a task."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from metagen.errors import MetagenError, check_at_least, check_choice, some
from metagen.storage.archives import ARCHIVE_SUFFIXES, is_archive, unpacked
from metagen.storage.files import placed
from metagen.storage.images import image_files, is_image_name, is_other, needed, read_files, read_image, whole_pixels
from metagen.tasks.base import TaskSet, with_enough_images
from metagen.tasks.seen import pixel_print
from metagen.tasks.splits import SPLITS, Split, as_named_there, plain, read_split, split_by_count, split_by_hash

log = logging.getLogger(__name__)

OnBadImage = Literal["raise", "skip"]
MAX_KEPT = 1 << 30  # bytes of all images together


class Folder(TaskSet):
    """Every folder under `root` with images directly in it is a task, named by its path below `root`, in Unicode's NFC.

    The one top folder of an archive is its `root`, so that it reads like the folder that was packed. Images are read
    when a task is first asked for, and kept; of a tree that would take more than a GiB, read each time. Which files
    there are is looked up once, at the start. Their sizes are their own, so that `originals` are `images`; hashes are
    taken of their pixels as they were decoded, but of a tree that is read each time none.

    Args:
        root: the top of the tree, or a zip or tar file of one; links to folders are followed, each counts once.
        size: height and width in pixels, 28 to 128; other images are cut to a square and resized.
        channels: 1 (grey) or 3 (RGB).
        split_file: a split as `Split.to_json` writes it; without one a hash of each name decides.
        val: when a hash decides, the expected share of the val tasks, below 1, or how many there are, 1 or more; with
            such a number adding tasks may move others.
        test: the same for the test tasks.
        seed: another seed, another split, when a hash decides.
        invert: exchange black and white, for ink on paper.
        on_bad_image: "raise", or "skip" those that cannot be read, which a warning names and counts.
        min_images: folders with fewer image files are no tasks, with a warning.

    Attributes:
        skipped: the files skipped so far.

    Raises:
        MetagenError: an option is refused, no such folder, too few images, a folder that cannot be read, or a split
            that does not fit.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        channels: int = 3,
        split_file: str | None = None,
        val: int | float = 0.1,
        test: int | float = 0.1,
        seed: int = 0,
        invert: bool = False,
        on_bad_image: OnBadImage = "raise",
        min_images: int = 1,
    ) -> None:
        super().__init__(size, channels, invert)
        check_choice("on_bad_image", on_bad_image, OnBadImage)
        self._counted = _counted(val, test)
        check_at_least("min_images", min_images, 1)
        self.root = root
        self.split_file = split_file
        self.val = val
        self.test = test
        self.seed = seed
        self.on_bad_image = on_bad_image
        self.min_images = min_images
        self.skipped: list[Path] = []
        self._folders, others = find_tasks(root)
        if others:
            log.warning(
                "%s: %d files passed over, as no images that can be read: %s", *(root, len(others), some(others))
            )
        self._images: dict[str, torch.Tensor] = {}
        self._prints: dict[str, tuple[str, ...]] = {}
        files = {task: [path.name for path in image_files(folder)] for task, folder in self._folders.items()}
        self._files = with_enough_images(files, min_images, root)
        self._untried = set(self._files if on_bad_image == "skip" else ())
        self.streamed = sum(map(len, self._files.values())) * channels * size**2 > MAX_KEPT
        self.split = self._make_split()

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """Images of one task in the order of their file names, uint8 [n, C, H, W].

        which: the places of the n images among those that can be read, in this order; None for all.

        Raises:
            MetagenError: there is no such task, or an image cannot be read.
        """
        if task not in self._files:
            raise MetagenError(
                f"{self.root}: no task {task!r}; expected the path below it of a folder with {self.min_images} or more "
                "images"
            )
        if which is None or not self.streamed:
            images = self._all(task)
            return images if which is None else images[list(which)]
        self.readable_count(task)  # from here on a place is one among the readable files
        paths = [self._folders[task] / self._files[task][place] for place in which]
        images = read_files(paths, self.size, self.channels)
        return 255 - images if self.invert else images

    def prints(self, task: str) -> tuple[str, ...]:
        """Hashes of one task's images as they were decoded, before they are cut, resized and inverted."""
        if self.streamed:
            return ()
        self._all(task)
        return self._prints[task]

    def image_count(self, task: str) -> int:
        """The number of images of one task, with those that cannot be read and were not tried yet."""
        return len(self._files[task])

    def readable_count(self, task: str) -> int:
        """The number of images of one task that can be read: where bad ones are skipped, all are tried at first."""
        if task in self._untried:
            self._all(task)
        return self.image_count(task)

    def _all(self, task: str) -> torch.Tensor:
        """Every image of a task; the files that are skipped are taken out of it for good."""
        if task in self._images:
            return self._images[task]
        prints: list[str] = []
        tried = {name: self._read(self._folders[task] / name, prints) for name in self._files[task]}
        read = {name: image for name, image in tried.items() if image is not None}
        none = torch.empty(0, self.channels, self.size, self.size, dtype=torch.uint8)
        images = torch.stack(list(read.values())) if read else none
        self._files[task] = list(read)
        self._untried.discard(task)
        if not self.streamed:
            self._images[task], self._prints[task] = images, tuple(filter(None, prints))
        return images

    def _read(self, path: Path, prints: list[str]) -> torch.Tensor | None:
        """One image, whose hash is put to the others, or None where it is skipped."""

        def look(image: Image.Image) -> None:
            prints.append(pixel_print(whole_pixels(image)))

        try:
            image = read_image(path, self.size, self.channels, look=None if self.streamed else look)
        except MetagenError as error:
            if self.on_bad_image == "raise":
                raise
            self.skipped.append(path)
            log.warning("skipped image %d: %s", len(self.skipped), error)
            return None
        return 255 - image if self.invert else image

    def _make_split(self) -> Split:
        if self.split_file is None:
            by = split_by_count if self._counted else _split_by_share
            split = by(self._files, self.val, self.test, self.seed)
            mend = "add tasks, say how many with --data.val 1 --data.test 1 (Folder takes another seed, too), or "
            mend += "name a --data.split_file"
            if len(self._files) < len(SPLITS):
                mend = f"expected {len(SPLITS)} tasks or more, one folder of images each; add some"
            elif self._counted:
                mend = "add tasks, or ask for fewer with --data.val and --data.test"
        else:
            split = self._read_split(self.split_file)
            mend = f"name at least one task for each split in {self.split_file}"
        empty = [part for part in SPLITS if not split[part]]
        if empty:
            count = f"{len(self._files)} tasks under {self.root}"
            raise MetagenError(f"{count}, but none of them in the split {' and '.join(empty)}: {mend}")
        if self.split_file is None and (shared := _namesakes(split)):
            log.warning(
                "%s: tasks of one name stand under several folders and in several splits, %s; if they are one class, "
                "put its images together, or name a --data.split_file",
                self.root,
                some(map(repr, shared)),
            )
        return split

    def _read_split(self, path: str) -> Split:
        split = as_named_there(read_split(placed(path)), self._folders, path)
        named = [name for part in SPLITS for name in split[part]]
        if absent := [repr(name) for name in named if name not in self._folders]:
            raise MetagenError(f"split file {path}: {len(absent)} tasks are not under {self.root}: {some(absent)}")
        if small := [repr(name) for name in named if name not in self._files]:
            raise MetagenError(
                f"split file {path}: {len(small)} tasks have fewer than {self.min_images} images under {self.root}: "
                f"{some(small)}; leave them out of it, lower --data.min_images, or add images"
            )
        if idle := sorted(self._files.keys() - {*named}):
            log.warning("%s: %d tasks are in no split of %s and not used: %s", self.root, len(idle), path, some(idle))
        return split


def _counted(val: float, test: float) -> bool:
    """Whether a number of tasks is given in place of a share."""
    if not all(0 < n < 1 or (1 <= n < math.inf and n == int(n)) for n in (val, test)):
        raise MetagenError(f"val, test: expected shares between 0 and 1, or whole numbers of tasks, got {val}, {test}")
    shares = [n for n in (val, test) if n < 1]
    if sum(shares) >= 1:
        raise MetagenError(f"val, test: expected two shares above 0 that add up to less than 1, got {val}, {test}")
    return len(shares) < 2


def _split_by_share(names: Iterable[str], val: float, test: float, seed: int) -> Split:
    return split_by_hash(names, {"val": val, "test": test}, seed)


def _namesakes(split: Split) -> list[str]:
    """The names of folders that stand in more than one split; not numbered ones, which mean something else in each."""
    parts: dict[str, set[str]] = {}
    for part in SPLITS:
        for task in split[part]:
            parts.setdefault(task.rpartition("/")[2], set()).add(part)
    return [name for name, several in parts.items() if len(several) > 1 and not any(map(str.isdigit, name))]


def _below_top(root: Path) -> Path:
    """The one folder in which all of an archive lies, as it was packed with its name, or the archive's own top."""
    inside = list(root.iterdir())
    nested = len(inside) == 1 and inside[0].is_dir() and not any(is_image_name(p.name) for p in inside[0].iterdir())
    return inside[0] if nested else root


def find_tasks(name: str) -> tuple[dict[str, Path], list[str]]:
    """Every folder that holds images directly, by its posix path relative to the root, and the other files below it.

    name: of the root, a folder or an archive of one.

    Raises:
        MetagenError: there is no such folder, one in it cannot be read, or no image is in it.
    """
    root = placed(name)
    if is_archive(root):
        root = _below_top(unpacked(root))
    if not root.is_dir():
        archives = ", ".join(ARCHIVE_SUFFIXES)
        problem = f"is a file, expected a folder or an archive ({archives})" if root.exists() else "no such folder"
        raise MetagenError(f"{root}: {problem}")
    tasks: dict[str, Path] = {}
    others: list[str] = []
    seen: set[str] = set()
    for here, folders, files in os.walk(root, followlinks=True, onerror=_unreadable):
        real = os.path.realpath(here)
        if real in seen:  # a link back up would never end; one sideways would put the same images into two splits
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        none = [name for name in sorted(files) if is_other(name) or not os.path.isfile(os.path.join(here, name))]
        others += [os.path.join(os.path.relpath(here, root), name) for name in none]
        if any(map(is_image_name, files)):
            tasks[_task_name(Path(here), root)] = Path(here)
    others = [os.path.normpath(name) + needed(name) for name in others]
    if not tasks:
        but = f", but {some(others)}" if others else ""
        raise MetagenError(f"{root}: no images in it or in any folder below{but}; expected one folder of images a task")
    times = Counter(map(plain, tasks))  # two folders may differ in their Unicode form alone, and then keep it
    return {plain(name) if times[plain(name)] == 1 else name: folder for name, folder in tasks.items()}, others


def _task_name(folder: Path, root: Path) -> str:
    name = folder.relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        raise MetagenError(f"{root}: the folder name {name!r} is not valid UTF-8; rename it") from None
    return name


def _unreadable(error: OSError) -> None:
    raise MetagenError(f"{error.filename}: cannot read this folder ({error.strerror})") from error
