"""The images that a model is to become a generator of: read, laid on paper, and turned as the model knows ink."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image

from metagen.errors import MetagenError, some
from metagen.storage.files import placed
from metagen.storage.images import (
    frames,
    from_pil,
    image_files,
    no_images,
    passed_over,
    read_image,
    to_float,
    unused_levels,
)

log = logging.getLogger(__name__)

Ground = Literal["dark", "light", "none"]  # what ink stands on: black, white, or nothing uniform, as in photographs
Invert = Literal["auto"] | bool
Images = torch.Tensor | Image.Image | Sequence[Image.Image] | str | Path
FAINT = 0.1  # of the way from black to white: what spans less can hardly be seen
DIM = 0.3  # what spans less on white is laid on black where that shows more
UNIFORM = 0.6  # share of the rim that has to be ground; strokes of tight crops touch it
PLAIN = 0.2  # of the way from ground to ink: how far half of all pixels may be from the ground, as paper is shaded
FEW = 0.1  # share of images that may have another ground than all together
DARK_TASKS = ("glyphs", "omniglot")  # task sets of light ink on dark ground, unless they are inverted
INKS = {"dark": "light ink on a dark ground", "light": "dark ink on a light ground"}


def ground_of(images: torch.Tensor) -> Ground:
    """The ground on which ink stands in images [n, C, H, W] in [0, 1], by the rims of all together."""
    if not len(images):
        return "none"
    grounds = [_ground(image[None]) for image in images]
    ground = _ground(images)
    others = sum(each not in (ground, "none") for each in grounds)
    return ground if others <= FEW * len(images) else "none"


def _ground(images: torch.Tensor) -> Ground:
    grey = images.float().mean(1)
    rim = torch.cat([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], 1)
    level, low, high = rim.median(), grey.amin(), grey.amax()
    ink = low if level - low > high - level else high
    way = (ink - level).abs()
    uniform = ((rim - level).abs() < way / 2).float().mean() >= UNIFORM
    plain = ((grey - level).abs() < way * PLAIN).float().mean() >= 0.5
    if way < FAINT or not uniform or not plain:
        return "none"
    return "dark" if ink > level else "light"


def trained_ground(info: Mapping[str, Any]) -> Ground | None:
    """The ground of ink in the images that a model was trained on, by its info; None where nobody knows."""
    data, ground = info.get("data"), info.get("ground")
    if ground in get_args(Ground):
        return ground
    if not isinstance(data, dict):
        return None
    if data.get("task_set") in DARK_TASKS:
        return "light" if data.get("invert") else "dark"
    return "none" if data.get("task_set") == "celeba" else None


def read_support(images: Images, size: int, channels: int) -> tuple[torch.Tensor, list[str]]:
    """Images as a model takes them, float [k, channels, size, size] in [0, 1], and what each is called.

    Light ink on transparency is laid on black, all else on white; a warning names files that are passed over.

    Raises:
        MetagenError: no image, one that cannot be read, or something else.
    """
    sources = _sources(images)

    def read(name: str, each: Path | Image.Image, paper: str) -> torch.Tensor:
        if isinstance(each, Path):
            return read_image(each, size, channels, paper=paper)
        return _from_picture(name, each, size, channels, paper)

    def on(paper: str) -> torch.Tensor:
        return to_float(torch.stack([read(*each, paper) for each in sources.items()]))

    support = on("white")
    if several := [name for name, each in sources.items() if frames(each) > 1]:
        log.warning("of all frames or pages of an image one alone is read: %s", some(several))
    if span(support).min() < DIM:
        dark = on("black")
        clear = (dark != support).flatten(1).any(1)
        if clear.any() and span(support[clear]).mean() < min(DIM, float(span(dark[clear]).mean())):
            log.warning("%s: light ink on transparency is laid on black", some([*sources]))
            support = dark
    return support, [*sources]


def _from_picture(name: str, image: Image.Image, size: int, channels: int, paper: str) -> torch.Tensor:
    """See `from_pil`; an image that Pillow opened is decoded only now, so that it may turn out to be damaged."""
    try:
        return from_pil(image, size, channels, paper)
    except MetagenError as error:
        raise MetagenError(f"{name}: {error}") from error
    except Exception as error:  # decoders raise nearly anything
        raise MetagenError(f"{name}: cannot be read, it may be damaged or closed ({error})") from error


def _sources(images: Images) -> dict[str, Path | Image.Image]:
    """The images that are to be read, by the names that messages give them."""
    if isinstance(images, (str, Path)):
        place = placed(images)
        files = [place] if place.is_file() else image_files(place)
        others = [] if place.is_file() else passed_over(place)
        if not files:
            raise no_images(place, others)
        if others:
            log.warning("%s: %d passed over, as no images that can be read: %s", place, len(others), some(others))
        return {str(path): path for path in files}
    several = isinstance(images, Iterable) and not isinstance(images, Image.Image)
    pictures: list[Any] = [*images] if several else [images]  # type: ignore[misc]
    if not all(isinstance(picture, Image.Image) for picture in pictures):
        raise MetagenError(f"adapt: expected a tensor, PIL images or a folder, got {type(images).__name__}")
    if not pictures:
        raise MetagenError("adapt: got no image; give at least one")
    return {f"image {number}": picture for number, picture in enumerate(pictures)}


def span(images: torch.Tensor) -> torch.Tensor:
    """The range of each image [n, C, H, W], its lightest less its darkest value in its widest channel: [n]."""
    flat = images.flatten(2)
    return (flat.amax(2) - flat.amin(2)).amax(1)


def tell_blank(support: torch.Tensor, names: Sequence[str]) -> None:
    """Warn of images in [0, 1] that show nothing, or nearly so, by what they are called."""
    blank = [name for name, each in zip(names, span(support), strict=True) if each < FAINT]
    if blank:
        reasons = "".join(unused_levels(Path(name)) for name in blank[:1])
        log.warning(
            "%d of %d images are blank or nearly so, as the model sees them: %s%s",
            *(len(blank), len(names), some(blank), reasons),
        )


def turned(support: torch.Tensor, info: Mapping[str, Any], invert: Invert, read: bool = True) -> torch.Tensor:
    """Exchange light and dark of images in [0, 1] where the model was trained on the reverse, with a warning.

    Args:
        support: [k, C, H, W].
        info: of the model.
        invert: whether to exchange them; "auto" to do so where the ground is another one than in training.
        read: whether they were read from pictures; a tensor is left as it is by "auto", which warns of a difference.

    Raises:
        MetagenError: `invert` is something else.
    """
    if invert != "auto" and not isinstance(invert, bool):
        raise MetagenError(f"invert: expected auto, true or false, got {invert!r}")
    if invert != "auto":
        return 1 - support if invert else support
    seen = support[span(support) >= FAINT]
    known, ground = trained_ground(info), ground_of(seen)
    if not len(seen) or known == "none" or (ground == "none" and not (known and read)):
        return support
    _warn_of_odd(seen, ground)
    if known == ground:
        return support
    if known and ground != "none" and read:
        log.warning(
            "black and white are exchanged: got %s, the model was trained on %s; invert false keeps them as they are",
            *(INKS[ground], INKS[known]),
        )
        return 1 - support
    if known or read:
        log.warning("%s; black and white stay as they are, invert (true or false) says so", _doubt(known, ground))
    return support


def _warn_of_odd(images: torch.Tensor, ground: Ground) -> None:
    odd = sum(_ground(image[None]) not in (ground, "none") for image in images)
    if ground != "none" and odd:
        log.warning("%d of %d images do not show %s, but are taken like the others", odd, len(images), INKS[ground])


def _doubt(known: Ground | None, ground: Ground) -> str:
    if known is None:
        return f"got {INKS[ground]}, and what ground the model was trained on is not known"
    got = INKS.get(ground, "images whose rims are not all dark or all light")
    return f"got {got}, and the model was trained on {INKS[known]}"
