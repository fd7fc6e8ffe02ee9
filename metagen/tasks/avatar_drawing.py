"""Drawn people: what each style keeps of a person, what changes from image to image, and the drawing itself.

The styles are those of DiceBear (dicebear.com), drawn here from its Python packages; assets/README.md credits them.
"""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.metadata import version
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError
from metagen.storage.strict_json import read_json

if TYPE_CHECKING:
    from dicebear import Style

PACKAGES = ("dicebear-core", "dicebear-styles", "resvg_py")
SKIN = ["#fbdcc4", "#f0bd92", "#d89a66", "#b5733f", "#85512c", "#5a3520"]
HAIR = ["#1f1b1c", "#4b2d1c", "#8a5a2e", "#c98a3d", "#e6cf86", "#b5432b", "#8f8f94", "#3f6a94", "#7d4a86", "#3f8f63"]
PAPER = ["#fbe3d0", "#f6c7a4", "#f4b6b6", "#f3d97a", "#c9dc8a", "#9fd8c4", "#a9cdf0", "#cdbdf0", "#e6b3dc", "#e8e4da"]


class Looks(NamedTuple):
    """A style: the parts that change from image to image, and options of DiceBear that differ from its own.

    All other parts are kept by a person, and so is every colour but that of the background.
    """

    varied: tuple[str, ...]
    options: Mapping[str, Any]


# Lorelei and Notionists come in black and white: their palettes are ours.
STYLES = {
    "adventurer": Looks(("eyebrows", "eyes", "glasses", "mouth"), {"glassesProbability": 25}),
    "big-ears": Looks(("eyes", "mouth"), {"detailsProbability": 30}),
    "lorelei": Looks(
        ("eyebrows", "eyes", "glasses", "mouth"),
        {"skinColor": SKIN, "hairColor": HAIR, "glassesProbability": 25, "beardProbability": 15},
    ),
    "micah": Looks(("eyebrows", "eyes", "glasses", "mouth"), {"glassesProbability": 25, "facialHairProbability": 25}),
    "notionists": Looks(
        ("eyebrows", "eyes", "gesture", "glasses", "mouth"),
        {"paperColor": PAPER, "glassesProbability": 25, "gestureProbability": 25, "beardProbability": 25},
    ),
    "open-peeps": Looks(
        ("accessories", "expression"),
        {"facialHairProbability": 25, "maskProbability": 0, "accessoriesProbability": 25},
    ),
    "personas": Looks(("eyes", "mouth"), {"facialHairProbability": 25}),
    "pixel-art": Looks(("eyes", "glasses", "mouth"), {"hatProbability": 15, "beardProbability": 15}),
    "toon-head": Looks(("eyebrows", "eyes", "mouth"), {}),
    "voxel-art": Looks(
        ("animation", "eyebrows", "eyes", "glasses", "mouth"), {"animationVariant": ["none"], "glassesProbability": 25}
    ),
}
SHIFT = "open-peeps"  # held out whole
TILT, MOVED, SCALE = 8, 4, (0.9, 1.05)  # degrees; per cent of the image; times
APART = 2  # parts and colours, of those that are seen, in which any two people of a style differ, or more
TRIES = 1000  # draws of one person until it differs from all before

Drawing = NDArray[np.uint8]
Kept = dict[str, Any]


def check_installed() -> list[str]:
    """The versions of the packages that draw, in the order of PACKAGES.

    Raises:
        MetagenError: one of them is missing.
    """
    try:
        import dicebear  # noqa: F401
        import resvg_py  # noqa: F401

        return [version(package) for package in PACKAGES]
    except ImportError as error:
        raise MetagenError(f"avatars: needs {', '.join(PACKAGES)} ({error}); pip install 'metagen[avatars]'") from None


@cache
def definition_of(style: str) -> dict[str, Any]:
    """A style as its file has it: components, colours and, under "meta", creator and licence."""
    with as_file(files("dicebear_styles").joinpath(f"{style}.json")) as path:
        return dict(read_json(path))


@cache
def _checked(style: str) -> Style:
    from dicebear import Style

    return Style(definition_of(style))  # up to a second, since it checks the whole of it


def person(style: str, number: int, attempt: int = 0) -> Kept:
    """The options that are the same in all images of one person: each part or its absence, and each colour."""
    definition = definition_of(style)
    rng, looks = numpy_rng("avatars", style, number, attempt), STYLES[style]
    kept: Kept = {}
    for name, part in sorted(definition["components"].items()):
        if name in looks.varied:
            continue
        chance = looks.options.get(f"{name}Probability", part.get("probability", 100))
        variant = str(rng.choice(sorted(part["variants"])))
        there = rng.random() * 100 < chance
        kept |= {f"{name}Variant": variant} if there else {}
        kept[f"{name}Probability"] = 100 if there else 0
    for name, colour in sorted(definition["colors"].items()):
        if name != "background":
            kept[f"{name}Color"] = str(rng.choice(looks.options.get(f"{name}Color", colour["values"])))
    return kept


@lru_cache(maxsize=1)
def people(style: str, count: int) -> tuple[Kept, ...]:
    """The first so many people of a style, no two of them alike; more people leave those before as they are.

    Raises:
        MetagenError: there are not so many that differ.
    """
    found, shown = [], list[Kept]()
    for number in range(count):
        for attempt in range(TRIES):
            new = person(style, number, attempt)
            look = shown_of(style, new)
            if all(_apart(look, other) >= APART for other in shown):
                break
        else:
            raise MetagenError(f"identities: {style} has {number} people that differ, expected {count}; ask for fewer")
        found.append(new)
        shown.append(look)
    return tuple(found)


def shown_of(style: str, kept: Kept) -> Kept:
    """The parts and colours of a person that are drawn: not the colour of an earring that is not there."""
    definition = definition_of(style)

    def names(element: Any) -> set[str]:  # noqa: ANN401
        if isinstance(element, list):
            return set[str]().union(*map(names, element))
        if not isinstance(element, dict):
            return set()
        found, name = names([*element.values()]), element.get("name")
        if element.get("type") == "color":
            return found | {f"{name}Color"}
        variant = kept.get(f"{name}Variant") if element.get("type") == "component" else None
        if variant is None:
            return found
        return found | {f"{name}Variant"} | names(definition["components"][name]["variants"][variant])

    return {name: kept[name] for name in sorted(names(definition["canvas"])) if name in kept}


def _apart(one: Kept, other: Kept) -> int:
    """The number of parts and colours in which two people of a style differ."""
    return sum(one.get(name) != other.get(name) for name in one | other)


def draw(style: str, number: int, kept: Kept, places: Sequence[int], size: int) -> Drawing:
    """Images of one person, uint8 [n, 3, size, size]. No image depends on another.

    places: the number of each image among the person's.
    """
    return np.stack([_draw(style, number, kept, place, size) for place in places])


def _draw(style: str, number: int, kept: Kept, place: int, size: int) -> Drawing:
    from dicebear import Avatar
    from resvg_py import svg_to_bytes

    rng = numpy_rng("avatars", style, number, "image", place)
    ground = [_soft(*rng.random(3)) for _ in range(2)]
    changing = {
        "seed": f"{style}/{number}/{place}",
        "backgroundColor": ground,
        "backgroundColorFill": ["solid", "linear"],
        "backgroundColorAngle": [0, 360],
        "rotate": [-TILT, TILT],
        "scale": list(SCALE),
        "translateX": [-MOVED, MOVED],
        "translateY": [-MOVED, MOVED],
    }
    svg = Avatar(_checked(style), {**STYLES[style].options, **kept, **changing}).to_string()
    # Without skipping them it would look for the system's fonts anew for each image, ten times as long as it draws.
    png = svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.float64)
    return np.ascontiguousarray(_lit(pixels, rng).transpose(2, 0, 1))


def _soft(hue: float, lightness: float, saturation: float) -> str:
    """A soft colour of any hue, as "#rrggbb", by three numbers in [0, 1)."""
    colour = colorsys.hls_to_rgb(hue, 0.55 + 0.35 * lightness, 0.2 + 0.5 * saturation)
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def _lit(pixels: NDArray[np.float64], rng: np.random.Generator) -> Drawing:
    """An image [size, size, 3] in a light of its own: its strength, its tint, and the side from which it comes."""
    side, angle = np.linspace(-1, 1, len(pixels)), rng.uniform(0, 2 * math.pi)
    slope = 1 + rng.uniform(0, 0.15) * (math.cos(angle) * side[None, :] + math.sin(angle) * side[:, None])
    light = rng.uniform(0.75, 1.05) * rng.uniform(0.93, 1.07, 3) * slope[:, :, None]
    return (pixels * light).round().clip(0, 255).astype(np.uint8)
