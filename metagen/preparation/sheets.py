"""Sheets of several drawings, cut apart: marks joined to drawings, levelled, in reading order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from metagen.preparation.paper import Grey

Sheet = Literal["auto"] | bool
Labels = NDArray[np.int32]
Box = tuple[slice, slice]  # rows and columns

SMALL = 600  # pixels of the longer side at which gaps between marks are measured
EIGHT = np.ones((3, 3), bool)  # neighbours, slanting ones too
RIM = 0.03  # of the picture: a mark that lies within is the edge of the paper
SPECK = 0.5  # widths of a stroke: smaller marks are dirt
FEWEST = 4  # drawings of a sheet that nobody said is one
PLAIN = 1.5  # how many times wider than in drawings the gaps between them are, at least
ALIKE = 3  # times the usual side that drawings of a sheet have at most, or one part of it at least
MOST = 0.7  # share of what lies apart that is of the usual size, where nobody said that there are several
LARGE = 4  # widths of a stroke: what is smaller is a dot, and no drawing
ROW = 0.4  # of the distance of neighbours: what lies farther below begins a row
LEVEL = 0.01  # slope that is left as it is


def cleaned(ink: Grey) -> Grey:
    """The ink [H, W] in [0, 1] without dirt, and without the edges of the paper along the rim."""
    labels, _ = ndimage.label(ink > 0.5, EIGHT)
    boxes = ndimage.find_objects(labels)
    least = (SPECK * stroke_width(ink)) ** 2
    areas = np.bincount(labels.ravel())
    sized = [number for number in range(1, len(boxes) + 1) if areas[number] >= least]
    inner = [number for number in sized if not _on_rim(boxes[number - 1], ink.shape)]
    near = ndimage.binary_dilation(np.isin(labels, inner or sized), EIGHT, iterations=3)
    return np.where(near, ink, np.float32(0))


def stroke_width(ink: Grey) -> float:
    """The usual width of a stroke in pixels: four times the mean distance to its edge; 0 without ink."""
    inside = ndimage.distance_transform_edt(ink > 0.5)
    return 4 * float(inside[inside > 0].mean() - 0.5) if inside.any() else 0.0


def _on_rim(box: Box, shape: tuple[int, ...]) -> bool:
    return any(
        side.stop <= RIM * length or side.start >= (1 - RIM) * length for side, length in zip(box, shape, strict=True)
    )


class Cut(NamedTuple):
    """A page cut apart.

    Attributes:
        drawings: each [h, w], cropped to its content, in reading order.
        passed: how many marks are of another size than the drawings, and left out.
    """

    drawings: list[Grey]
    passed: int


def cut(ink: Grey, sheet: Sheet = "auto") -> Cut:
    """The drawings in clean ink; none where no ink is.

    Args:
        ink: [H, W] in [0, 1].
        sheet: whether there are several; "auto" to see by the gaps between marks.
    """
    zones = None if sheet is False else _zones(ink, 2 if sheet is True else FEWEST)
    if zones is None:
        return Cut([ink[box] for box in ndimage.find_objects((ink > 0.5).astype(np.int32))], 0)
    parts = [np.where(zones.labels == number, ink, np.float32(0)) for number in range(1, zones.labels.max() + 1)]
    boxes = [ndimage.find_objects((part > 0.5).astype(np.int32))[0] for part in parts]
    slope = _slope(_middles(boxes))
    if abs(slope) > LEVEL:
        return cut(levelled(ink, slope), sheet)
    return Cut([parts[number][boxes[number]] for number in _reading_order(boxes)], zones.passed)


def levelled(ink: Grey, slope: float) -> Grey:
    """The ink turned so that what falls by so much from left to right is level."""
    return np.asarray(
        Image.fromarray(ink).rotate(np.degrees(np.arctan(slope)), Image.Resampling.BICUBIC, expand=True)
    ).clip(0, 1)


class Zones(NamedTuple):
    """A number for each drawing, 1 and above, on its marks and around them, [H, W]; and how much else is there."""

    labels: Labels
    passed: int


def _zones(ink: Grey, fewest: int) -> Zones | None:
    """The zones of drawings; None where all is one.

    Marks are joined over wider and wider gaps; drawings are what stays apart for longest. What is much larger or
    smaller than most is none: a frame around them, a stray mark.
    """
    step = max(1, -(-max(ink.shape) // SMALL))
    marks = ndimage.maximum_filter(ink, step)[::step, ::step] > 0.5
    gaps = ndimage.distance_transform_edt(~marks)
    radii = np.geomspace(1, max(marks.shape) / 6, 40)
    counts = [int(ndimage.label(gaps <= radius)[1]) for radius in radii]
    for first, last in sorted(_runs(counts, fewest), key=lambda run: radii[run[0]] / radii[run[1]]):
        if radii[last] < PLAIN * radii[first]:
            break
        joined, _ = ndimage.label(gaps <= radii[(first + last) // 2])
        sides = _sides(ndimage.find_objects(np.where(marks, joined, 0)))
        kept = _of_usual_size(sides)
        if fewest < FEWEST or (kept.mean() > MOST and _are_drawings(sides[kept], stroke_width(marks * np.float32(1)))):
            numbers = np.concatenate([[0], np.where(kept, kept.cumsum(), 0)]).astype(np.int32)
            labels = np.kron(numbers[joined], np.ones((step, step), np.int32))[: ink.shape[0], : ink.shape[1]]
            return Zones(labels, int((~kept).sum()))
    return None


def _runs(counts: Sequence[int], fewest: int) -> Iterator[tuple[int, int]]:
    """The first and last place of each run of one count that is large enough."""
    bounds = [0, *(place for place in range(1, len(counts)) if counts[place] != counts[place - 1]), len(counts)]
    for first, after in pairwise(bounds):
        if counts[first] >= fewest:
            yield first, after - 1


def _sides(boxes: Sequence[Box]) -> NDArray[np.int_]:
    """The height and width of each box, [n, 2]."""
    return np.array([[side.stop - side.start for side in box] for box in boxes])


def _of_usual_size(sides: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Whether each box is of about the size of most, [n]: the frame around drawings is larger, a stray mark smaller."""
    longer = sides.max(1)
    usual = np.median(longer)
    return (longer < ALIKE * usual) & (longer > usual / ALIKE)


def _are_drawings(sides: NDArray[np.int_], stroke: float) -> bool:
    """Whether boxes are larger than the dots and strokes of one drawing."""
    return len(sides) >= FEWEST and float(np.median(sides.prod(1))) > (LARGE * stroke) ** 2


def _middles(boxes: Sequence[Box]) -> NDArray[np.float64]:
    """The middle (y, x) of each box, [n, 2]."""
    return np.array([[(side.start + side.stop) / 2 for side in box] for box in boxes])


def _slope(middles: NDArray[np.float64]) -> float:
    """The usual slope from a drawing to its nearest neighbour on the right, 0 where too few have one."""
    slopes = []
    for middle in middles:
        down, right = (middles - middle).T
        beside = (right > 0) & (abs(down) < right / 2)
        if beside.any():
            nearest = np.where(beside, right, np.inf).argmin()
            slopes.append(down[nearest] / right[nearest])
    return float(np.median(slopes)) if len(slopes) >= FEWEST else 0.0


def _reading_order(boxes: Sequence[Box]) -> list[int]:
    """The places of boxes row by row, from the left."""
    middles = _middles(boxes)
    gaps = np.linalg.norm(middles[:, None] - middles, axis=2) + np.diag(np.full(len(middles), np.inf))
    order = middles[:, 0].argsort()
    breaks = np.flatnonzero(np.diff(middles[order, 0]) > ROW * np.median(gaps.min(0))) + 1
    return [int(number) for row in np.split(order, breaks) for number in row[middles[row, 1].argsort()]]
