"""DiffAugment: random changes of all images that a critic sees, real and generated (Zhao 2020, arXiv:2006.10738).

Pure functions of images [n, C, H, W] in [0, 1] and uniform draws in [0, 1). For fixed draws each is affine in the
images, so it is differentiable to any order; what is moved in or cut out is 0, which is paper where ink is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

AugmentationName = Literal["colour", "translation", "cutout"]

SHIFT = 1 / 8  # of the image: how far a translation goes at most
HOLE = 1 / 2  # of the image: the side of what is cut out
DRAWS = 7  # uniform numbers that one image takes: three for the colour, two each for translation and cutout


def colour(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Brightness up or down by up to 0.25, saturation times 0 to 2, contrast times 0.5 to 1.5, by draws [n, 7]."""
    brightness, saturation, contrast = (draw[:, None, None, None] for draw in draws[:, :3].unbind(1))
    images = images + (brightness - 0.5) / 2
    grey = images.mean(1, keepdim=True)
    images = grey + 2 * saturation * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (contrast + 0.5) * (images - mean)


def translation(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Moved right and down by whole pixels, up to an eighth of the image, by draws [n, 7]."""
    most = int(images.shape[-1] * SHIFT + 0.5)
    across, down = ((draw * (2 * most + 1)).floor() - most for draw in draws[:, 3:5].unbind(1))
    return _shift(down, images) @ images @ _shift(across, images).mT


def cutout(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Without a square with half the side whose centre is anywhere, by draws [n, 7]."""
    size = images.shape[-1]
    places = _places(images)
    left, top = ((draw * (size + 1)).floor()[:, None] - size * HOLE / 2 for draw in draws[:, 5:].unbind(1))
    across, down = ((places >= edge) & (places < edge + size * HOLE) for edge in (left, top))
    return images * ~(down[:, None, :, None] & across[:, None, None, :])


# By name, in the order in which they are done.
AUGMENTATIONS: dict[AugmentationName, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}


def augmented(images: torch.Tensor, draws: torch.Tensor, names: tuple[AugmentationName, ...]) -> torch.Tensor:
    """Images [n, C, H, W] altered by each named augmentation, with uniform draws [n, 7] in [0, 1)."""
    for name, alter in AUGMENTATIONS.items():
        images = alter(images, draws) if name in names else images
    return images


def _places(images: torch.Tensor) -> torch.Tensor:
    return torch.arange(images.shape[-1], dtype=images.dtype, device=images.device)


def _shift(by: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Matrices [n, 1, s, s] that move columns of pixels down by whole pixels [n]."""
    places = _places(images)
    return (places[:, None] - places == by[:, None, None, None]).to(images)
