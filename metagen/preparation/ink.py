"""Drawings in ink: freed from their paper with a soft threshold, squared and centred."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from metagen.preparation.paper import Grey, Pixels, darkness, grain, on_table, otsu, shrunk, without_rules
from metagen.preparation.quality import edge_width
from metagen.preparation.sheets import LEVEL, Sheet, cleaned, cut, levelled

PAGE_SIDE = 1600  # pixels of the longer side at which a page is worked on
BOX = 20 / 28  # share of the side that a drawing fills, as those of MNIST do
FAINT = 0.08  # darkness below which nothing is ink
RAMP = (0.3, 0.7)  # of the darkness of ink: grey between them, so that the threshold is soft


@dataclass(frozen=True)
class Inked:
    """Drawings found in a picture.

    Attributes:
        drawings: each [h, w] in [0, 1], 1 where ink is, cropped to its content, in reading order.
        edge: the width of their edges in the picture, as a share of the usual side of a drawing.
        steps: what was done to the picture, in words.
    """

    drawings: list[Grey]
    edge: float
    steps: list[str]


def inked(image: Pixels, sheet: Sheet = "auto") -> Inked:
    """The drawings in a picture [H, W, 3] of dark ink on light paper; none where no ink is.

    sheet: whether there are several; "auto" to see by the gaps between marks.
    """
    page = on_table(image)
    dark = darkness(shrunk(page, PAGE_SIDE))
    steps = ["page cut from its table"] if page is not image else []
    plain, slope = without_rules(dark, _level(dark))
    if plain is not dark:
        steps.append("ruled lines removed")
    level = _level(plain)
    ink = ((plain / level - RAMP[0]) / (RAMP[1] - RAMP[0])).clip(0, 1)
    if abs(slope) > LEVEL:
        ink = levelled(ink, slope)
        steps.append(f"turned by {np.degrees(np.arctan(slope)):.0f} degrees, to the lines")
    found, passed = cut(cleaned(ink), sheet)
    if passed:
        steps.append(f"marks of another size passed over, {passed} of them")
    usual = float(np.median([max(drawing.shape) for drawing in found])) if found else 1.0
    return Inked(found, edge_width(plain, plain > level / 3) / usual, steps)


def _level(dark: Grey) -> float:
    """The usual darkness of ink, in the darker class of all that is no paper; infinity where there is none."""
    smooth = ndimage.uniform_filter(dark, 3)  # so that single grains are no ink
    marks = smooth[smooth > max(FAINT, 2 * grain(dark))]
    if marks.size < 8:
        return float("inf")
    return float(np.percentile(marks[marks >= otsu(marks)], 75))


def squared(drawing: Grey, size: int) -> Pixels:
    """A drawing in the middle of a white square, dark, its longer side `BOX` of the square's: uint8 [size, size]."""
    scale = BOX * size / max(drawing.shape)
    height, width = (max(1, round(scale * side)) for side in drawing.shape)
    small = Image.fromarray(drawing.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
    square = np.zeros((size, size), np.float32)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = np.asarray(small)
    return np.rint(255 * (1 - square.clip(0, 1))).astype(np.uint8)
