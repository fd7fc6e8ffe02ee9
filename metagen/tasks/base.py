"""What a task set is: images by task, split by task."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from metagen.errors import MetagenError
from metagen.tasks.splits import Split

SIZES = (28, 128)


class TaskSet(ABC):
    """Many tasks of one kind at one size.

    Attributes:
        size: height and width of every image in pixels, 28 to 128.
        channels: 1 (grey) or 3 (RGB).
        invert: whether black and white are exchanged.
        split: the names of the train, val and test tasks.
        streamed: whether images are read from disk each time they are asked for.
    """

    split: Split
    streamed: bool = False

    def __init__(self, size: int, channels: int, invert: bool = False) -> None:
        if not SIZES[0] <= size <= SIZES[1]:
            raise MetagenError(f"size: expected {SIZES[0]} to {SIZES[1]} pixels, got {size}")
        if channels not in (1, 3):
            raise MetagenError(f"channels: expected 1 or 3, got {channels}")
        self.size = size
        self.channels = channels
        self.invert = invert

    @abstractmethod
    def images(self, task: str) -> torch.Tensor:
        """All images of one task, uint8 [n, C, H, W]."""

    def image_count(self, task: str) -> int:
        """How many images one task has."""
        return len(self.images(task))
