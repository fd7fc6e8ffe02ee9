"""Extractors: images in, features out, the same whatever else is in the batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from metagen.errors import MetagenError
from metagen.storage.images import to_float, to_uint8

if TYPE_CHECKING:
    from typing_extensions import Self

ROUNDING = 1e-4  # outside [0, 1]: far less than a level of 8 bits


class Extractor(nn.Module, ABC):
    """A network that metrics look through; always in eval mode.

    Attributes:
        size: height and width of the images it takes, in pixels.
        channels: 1 or 3.
        dimensions: d, of the features.
        probabilities: of classes [..., c], from features [..., d]; None where it knows no classes.
        at_once: how many images it is given, so that memory is bounded.
        about: what a result says of it, beside its name and the hash of its weights.
    """

    size: int
    channels: int
    dimensions: int
    probabilities: Callable[[torch.Tensor], torch.Tensor] | None = None
    at_once: ClassVar[int] = 512
    about: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, d] of images [n, C, H, W] in [0, 1]."""

    def of(self, images: torch.Tensor) -> torch.Tensor:
        """Features [..., d] of 8-bit roundings of images [..., C, H, W] in [0, 1], a few at a time, without gradients.

        Rounded, because real images are; in float32, whatever autocast is on.

        Raises:
            MetagenError: images of another size or number of channels, of integers, or with values outside [0, 1] or
                not finite.
        """
        self.check(images.shape)
        check_range(images)
        flat = to_float(to_uint8(images)).flatten(0, -4)
        with torch.no_grad(), torch.autocast(flat.device.type, enabled=False):
            features = torch.cat([self.features(part) for part in flat.split(self.at_once)])
        return features.unflatten(0, images.shape[:-3])

    def of_tasks(self, images: torch.Tensor, support: torch.Tensor, room: int) -> torch.Tensor:
        """Features [T, n, d] of one row's images of tasks [T, n, C, H, W], to be kept; as `of` makes them.

        An extractor of very long features may make shorter ones here, as long as distances within a task, between the
        images of one row and from the support, stay what they are.

        Args:
            images: of one row.
            support: of the same tasks, [T, k, C, H, W].
            room: n of any row; `images` may be the support itself, of whatever k.

        Raises:
            MetagenError: see `of`.
        """
        return self.of(images)

    def check(self, shape: torch.Size) -> None:
        """Refuse images of a shape that it does not take.

        Raises:
            MetagenError: another size or number of channels.
        """
        if len(shape) < 4 or list(shape[-3:]) != [self.channels, self.size, self.size]:
            raise MetagenError(
                f"extractor: takes images of {self.channels} channels and {self.size} px, got "
                f"{list(shape)}; train one of that size: metagen train-extractor"
            )

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode, also as part of something that is trained."""
        return super().train(False)


def check_range(images: torch.Tensor) -> None:
    """Refuse images that a metric would take for others: it knows black as 0 and white as 1.

    Raises:
        MetagenError: they are not floating-point, or hold values outside [0, 1] or not finite.
    """
    expected = "images: expected floats in [0, 1], got"
    if not images.is_floating_point():
        raise MetagenError(f"{expected} {images.dtype}; convert them, and divide bytes by 255")
    if not images.numel():
        return
    least, most = (float(each) for each in images.detach().aminmax())
    if not math.isfinite(least + most):
        raise MetagenError(f"{expected} some that are not finite; the model that made them may have diverged")
    if least < -ROUNDING or most > 1 + ROUNDING:
        hint = "divide by 255" if most > 2 else "map [-1, 1] by (images + 1) / 2" if least < 0 else "rescale them"
        raise MetagenError(f"{expected} {least:g} to {most:g}; {hint}")


class AnySize(Extractor):
    """One that takes images of any size, of 1 or 3 channels."""

    def check(self, shape: torch.Size) -> None:
        """Refuse what is no image of 1 or 3 channels.

        Raises:
            MetagenError: of another shape.
        """
        if len(shape) < 4 or shape[-3] not in (1, 3) or min(shape[-2:]) < 2:
            name = type(self).__name__.lower()
            raise MetagenError(f"{name}: takes images [n, 1 or 3, H, W] of 2 px and more, got {list(shape)}")
