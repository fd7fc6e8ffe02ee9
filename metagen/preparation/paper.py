"""Paper in photographs and scans: found on its table, straightened, freed from uneven light and ruled lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull

Grey = NDArray[np.float32]  # [H, W]
Pixels = NDArray[np.uint8]  # [H, W, 3]

SMALL = 256  # pixels of the longer side at which light and the page are looked for
WIDEST = 1 / 8  # of the longer side: a stroke or blob that is wider counts as ground
DARKER = 0.6  # of the brightness of paper: a table is below, the shadow on paper mostly above
PAGE = (0.15, 0.95)  # share of the picture that a page on a table takes
FIT = 0.93  # intersection over union of a page with the four corners found
STRIPS = 64  # across the page, in which ruled lines are looked for
STEEPEST = 0.12  # slope of a ruled line
SPANNED = 0.8  # share of the strips that a ruled line crosses
FAINTEST = 0.03  # darkness of a ruled line
SURELY = 1.2  # times the usual darkness of a line is taken from it, as it is printed unevenly
PALER = 0.7  # of the darkness of ink: ruled lines are below, the sides of a drawn letter above


def shrunk(image: Pixels, longest: int) -> Pixels:
    """The picture with a longer side of at most so many pixels."""
    height, width = image.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(scale * width)), max(1, round(scale * height))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX, reducing_gap=2))


def otsu(values: NDArray[np.float32]) -> float:
    """The threshold between two classes of values in [0, 1] (Otsu, A threshold selection method, 1979)."""
    counts, edges = np.histogram(values, 128, (0, 1))
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = counts.cumsum(), (counts * middles).cumsum()
    above = below[-1] - below
    means = sums / below.clip(1), (sums[-1] - sums) / above.clip(1)
    return float(edges[1:][(below * above * (means[1] - means[0]) ** 2).argmax()])


def on_table(image: Pixels) -> Pixels:
    """The page alone, seen from straight above, where it lies whole on a darker table; else the picture as it is."""
    corners = _corners(image)
    if corners is None:
        return image
    north, east, south, west = (float(np.linalg.norm(corners[n] - corners[n - 1])) for n in (1, 2, 3, 0))
    width, height = round((north + south) / 2), round((east + west) / 2)
    target = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    coefficients = perspective(target, corners)
    how = Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).transform((width, height), *how))


def _corners(image: Pixels) -> NDArray[np.float64] | None:
    """The corners (x, y) of a page on a darker table, [4, 2] from the north west on clockwise; None where none is."""
    small = shrunk(image, SMALL)
    grey = small.mean(2, dtype=np.float32) / 255
    labels, count = ndimage.label(grey > otsu(grey))
    if not count:
        return None
    page = ndimage.binary_fill_holes(labels == np.bincount(labels.ravel())[1:].argmax() + 1)
    if not PAGE[0] < page.mean() < PAGE[1] or grey[~page].mean() > DARKER * grey[page].mean():
        return None
    points = np.argwhere(page)[:, ::-1]
    quad = _quadrilateral(points[ConvexHull(points).vertices].astype(np.float64))
    rows, columns = np.indices(page.shape)
    sides = np.roll(quad, -1, 0) - quad
    inside = np.logical_and.reduce(
        [dx * (rows - y) - dy * (columns - x) >= 0 for (x, y), (dx, dy) in zip(quad, sides, strict=True)]
    )
    if (inside & page).sum() < FIT * (inside | page).sum():
        return None
    middle = quad.mean(0)
    scale = np.array(image.shape[1::-1]) / np.array(small.shape[1::-1])
    return (middle + 0.98 * (quad - middle) + 0.5) * scale  # a little inside, where no edge is seen


def _quadrilateral(hull: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four corners of a convex outline [n, 2]: the ends of its longest diagonal, and the farthest points from that."""
    gaps = np.linalg.norm(hull[:, None] - hull, axis=2)
    first, third = (hull[place] for place in np.unravel_index(gaps.argmax(), gaps.shape))
    along = third - first
    away = along[0] * (hull - first)[:, 1] - along[1] * (hull - first)[:, 0]
    quad = np.array([first, hull[away.argmin()], third, hull[away.argmax()]])
    return np.roll(quad, -quad.sum(1).argmin(), 0)


def perspective(target: NDArray[np.float64], source: NDArray[np.float64]) -> list[float]:
    """The eight coefficients by which PIL finds the place in the source of each place in the target."""
    rows, values = [], []
    for (x, y), (u, v) in zip(target, source, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return [float(value) for value in np.linalg.solve(np.array(rows), np.array(values))]


def darkness(image: Pixels) -> Grey:
    """How much darker than the paper around it each pixel is, in [0, 1]: light and shadow are divided out."""
    dark = np.zeros(image.shape[:2], np.float32)
    for channel, paper in enumerate(_paper(image)):
        wide = Image.fromarray(paper).resize(image.shape[1::-1], Image.Resampling.BILINEAR)
        dark += 1 - image[:, :, channel] / np.asarray(wide).clip(1)
    dark /= 3
    usual = float(np.median(dark))  # a closing follows the brightest grain
    return ((dark - usual) / max(1 - usual, 0.1)).clip(0, 1)


def evenness(image: Pixels) -> float:
    """The brightness of the ground where it is darkest, as a share of where it is brightest: in [0, 1]."""
    darkest, brightest = np.percentile(np.mean(list(_paper(image)), 0), [2, 98])
    return float(darkest / max(brightest, 1))


def _paper(image: Pixels) -> Iterator[Grey]:
    """The brightness of the ground in each channel, of a picture made small: 0 to 255.

    It is a closing, which bridges what is narrower than `WIDEST`.
    """
    small = shrunk(image, SMALL).astype(np.float32)
    side = round(WIDEST * max(small.shape)) | 1
    for channel in range(3):
        closed = ndimage.grey_closing(small[:, :, channel], (side, side), mode="nearest")
        yield ndimage.gaussian_filter(closed, 2)


def grain(dark: Grey) -> float:
    """The standard deviation of noise, by the median difference of neighbours."""
    return float(np.median(abs(np.diff(dark, axis=1)))) / 0.954


def without_rules(dark: Grey, ink: float) -> tuple[Grey, float]:
    """The darkness less that of ruled lines, and the slope of the lines across, 0 where there are none.

    Args:
        dark: see `darkness`.
        ink: the darkness of ink; lines as dark as that are drawn.
    """
    slopes = []
    for across in (True, False):
        view = dark if across else dark.T
        lines = [line for line in _lines(view) if _level(view, line) < PALER * ink]
        if len(lines) < 2:
            continue
        view = view.copy()
        for line in lines:
            _rub_out(view, line)
        dark = view if across else view.T
        if across:
            slopes = [float(np.polyfit(np.arange(len(line)), line, 1)[0]) for line in lines]
    return np.ascontiguousarray(dark), float(np.median(slopes)) if slopes else 0.0


def _lines(dark: Grey) -> Iterator[Grey]:
    """The ruled lines that cross the page from left to right: the row of each at every column, [W].

    Each is found by its slope and its row in the middle, as by a Hough transform, and then followed where it bends.
    """
    height, width = dark.shape
    if min(height, width) < STRIPS:
        return
    edges = np.linspace(0, width, STRIPS + 1).astype(int)
    middles, loose = (edges[1:] + edges[:-1]) / 2, max(3, height // 150) | 1
    strips = np.add.reduceat(dark, edges[:-1], axis=1) / np.diff(edges)
    thin = ndimage.white_tophat(strips, (max(5, height // 40), 1))
    near = ndimage.maximum_filter1d(thin, loose, axis=0)
    slopes = np.linspace(-STEEPEST, STEEPEST, 121)
    score = np.stack([_strength(near, np.rint(slope * (middles - width / 2)).astype(int)) for slope in slopes])
    while score.max() > 0:
        slope, row = np.unravel_index(score.argmax(), score.shape)
        score[:, max(0, row - 2 * loose) : row + 2 * loose + 1] = 0
        rows = row + slopes[slope] * (middles - width / 2)
        yield np.interp(np.arange(width), middles, _followed(thin, rows, loose)).astype(np.float32)


def _strength(near: Grey, offsets: NDArray[np.int_]) -> Grey:
    """The mean darkness along each line that goes by these offsets, by its row [H]; 0 where it has too large gaps."""
    height = len(near)
    places = np.arange(height)[:, None] + offsets
    there = (places >= 0) & (places < height)
    seen = np.where(there, near[places.clip(0, height - 1), np.arange(len(offsets))], 0)
    whole = ((seen > FAINTEST).sum(1) > SPANNED * there.sum(1)) & (there.mean(1) > SPANNED)
    return np.where(whole, seen.sum(1) / there.sum(1).clip(1), 0)


def _followed(thin: Grey, rows: NDArray[np.float64], loose: int) -> NDArray[np.float64]:
    """The row at which a line is darkest in each strip, near to those given, without what crosses it."""
    offsets = np.arange(-loose, loose + 1)
    places = (np.rint(rows).astype(int) + offsets[:, None]).clip(0, len(thin) - 1)
    darkest = offsets[thin[places, np.arange(len(rows))].argmax(0)]
    return rows + ndimage.median_filter(darkest, 9, mode="nearest")


def _along(dark: Grey, line: Grey, offset: int) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """The places of a line's pixels, or of those so many rows below it, as an index."""
    rows = np.rint(line).astype(int) + offset
    columns = np.flatnonzero((rows >= 0) & (rows < len(dark)))
    return rows[columns], columns


def _level(dark: Grey, line: Grey, offset: int = 0) -> float:
    """The usual darkness of a line, 0 of one outside the page."""
    seen = dark[_along(dark, line, offset)]
    return float(np.median(seen)) if seen.size else 0.0


def _rub_out(dark: Grey, line: Grey) -> None:
    """Subtract a line's darkness from it, in place, row by row of its width: ink that crosses it stays."""
    for way in (range(len(dark) // 40 + 2), range(-1, -len(dark) // 40 - 2, -1)):
        for offset in way:
            level = _level(dark, line, offset)
            if level < FAINTEST / 2:
                break
            place = _along(dark, line, offset)
            dark[place] = (dark[place] - SURELY * level).clip(0)
