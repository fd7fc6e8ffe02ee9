"""Task sets: images by task, split by task."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch

from metagen.errors import MetagenError, some
from metagen.tasks.seen import prints_of
from metagen.tasks.splits import Split

log = logging.getLogger(__name__)

SIZES = (28, 128)


class TaskSet(ABC):
    """Many tasks of one kind at one size.

    Attributes:
        size: height and width of every image in pixels, 28 to 128.
        channels: 1 (grey) or 3 (RGB).
        invert: whether black and white are exchanged.
        split: the names of the train, val and test tasks.
        streamed: whether images are read from disk each time they are asked for.
        drawn: whether images are made from a task's name, so that whoever knows the names knows the tasks.
    """

    split: Split
    streamed: bool = False
    drawn: bool = False

    def __init__(self, size: int, channels: int, invert: bool = False) -> None:
        if not SIZES[0] <= size <= SIZES[1]:
            raise MetagenError(f"size: expected {SIZES[0]} to {SIZES[1]} pixels, got {size}")
        if channels not in (1, 3):
            raise MetagenError(f"channels: expected 1 or 3, got {channels}")
        self.size = size
        self.channels = channels
        self.invert = invert

    @abstractmethod
    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """Images of one task, uint8 [n, C, H, W].

        which: the places of the n images to read, in this order, each from 0 below `readable_count`; None for all.
        """

    def originals(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """The same images before they are resized, where there is more to see: uint8 [n, C, S, S], of one S for all.

        Resized and `finished`, they are `images` to within one level of 255.
        """
        return self.images(task, which)

    def finished(self, images: torch.Tensor) -> torch.Tensor:
        """Images [..., C, H, W] of this size, uint8, after what reading does to them last: here nothing."""
        return images

    def prints(self, task: str) -> tuple[str, ...]:
        """Hashes of one task's images before they are resized, by which it is known again whatever it is called.

        None of a streamed task set, whose images would have to be read for that alone: its tasks go by their names.
        """
        return () if self.streamed else prints_of(self.originals(task))

    def image_count(self, task: str) -> int:
        """The number of images of one task, as far as it is known without reading them."""
        return len(self.images(task))

    def readable_count(self, task: str) -> int:
        """The number of images of one task that can be read, for which it may take reading them."""
        return self.image_count(task)


def group_of(task: str) -> str:
    """The group in a task's name: its alphabet, script or folder above; the task itself if there is none."""
    return task.rpartition("/")[0] or task


def with_enough_images(
    files: Mapping[str, list[str]], min_images: int, root: str, tasks: str = "tasks"
) -> dict[str, list[str]]:
    """The tasks that have `min_images` or more files; one warning counts the others and names a few.

    Args:
        files: the file names of each task.
        min_images: at least 1.
        root: where they lie, for the messages.
        tasks: what they are called there.

    Raises:
        MetagenError: there are tasks, but none has so many.
    """
    enough = {name: names for name, names in files.items() if len(names) >= min_images}
    if files and not enough:
        most = max(map(len, files.values()))
        raise MetagenError(
            f"{root}: none of {len(files)} {tasks} has {min_images} or more images, the largest has {most}: "
            "lower --data.min_images, or add images"
        )
    if small := [name for name in files if name not in enough]:
        count = f"{len(small)} of {len(files)} {tasks}"
        log.warning(
            "%s: %s are left out, with fewer than %d images there: %s", root, count, min_images, some(map(repr, small))
        )
    return enough
