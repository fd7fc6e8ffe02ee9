"""From a typeface's letter to the many hands that could have written it: skeletons and pens.

A letter is thinned to the lines a pen would follow. Every drawing bends those lines in its own way and follows
them again with its own pen, so that two drawings of a letter differ as two writers do, not as two crops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy  # its image functions are loaded where the first letter is drawn
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]
Warp = Callable[[Floats], Floats]

BOX = 96  # the longer side of a letter, in pixels, when it is thinned
CANVAS = 112  # BOX and a margin
# Neighbours of a pixel as (row, column), clockwise from the one above: the even ones share a side with it.
AROUND = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
BOLDEST = 1.05  # a pen's widest stroke, next to the typeface's own: a wider one would close the counters
FAR = 1e4  # stands for "no free end on this line", in pixels
FINEST = 0.55  # half the width of the finest stroke, in pixels at 28: a finer one would fade out


# --- thinning -------------------------------------------------------------------------------------------------------


def _guo_hall() -> tuple[Bools, Bools]:
    """For each pattern of eight neighbours (bit i for AROUND[i]): may the pixel go, in odd and in even passes."""
    n, ne, e, se, s, sw, w, nw = (((np.arange(256) >> bit) & 1).astype(bool) for bit in range(8))
    ends = sum(
        ((~a & (b | c)).astype(int) for a, b, c in ((n, ne, e), (e, se, s), (s, sw, w), (w, nw, n))), np.zeros(256)
    )
    one_way = sum(((a | b).astype(int) for a, b in ((nw, n), (ne, e), (se, s), (sw, w))), np.zeros(256))
    other_way = sum(((a | b).astype(int) for a, b in ((n, ne), (e, se), (s, sw), (w, nw))), np.zeros(256))
    fewest = np.minimum(one_way, other_way)
    simple = (ends == 1) & (fewest >= 2) & (fewest <= 3)
    return simple & ~((n | ne | ~se) & e), simple & ~((s | sw | ~nw) & w)


_PASSES = _guo_hall()


def thin(masks: Bools) -> Bools:
    """Skeletons of many masks at once, by Guo and Hall's parallel thinning.

    masks: [n, H, W], ink True. Returns the same shape; every connected part keeps a pixel.
    """
    n, height, width = masks.shape
    padded = np.zeros((n, height + 2, width + 2), np.uint8)
    padded[:, 1:-1, 1:-1] = masks
    flat = padded.reshape(-1)
    steps = [row * (width + 2) + column for row, column in AROUND]
    ink = np.flatnonzero(flat)
    changed = True
    while changed:
        changed = False
        for removable in _PASSES:
            code = np.zeros(len(ink), np.uint8)
            for bit, step in enumerate(steps):
                code |= flat[ink + step] << np.uint8(bit)
            gone = removable[code]
            flat[ink[gone]] = 0
            ink = ink[~gone]
            changed |= bool(gone.any())
    return padded[:, 1:-1, 1:-1].astype(bool)


# --- tracing --------------------------------------------------------------------------------------------------------


def _links(pixels: Ints) -> list[list[int]]:
    """The pixels of a skeleton that are joined. A diagonal is left out where two sides already make the way."""
    index = np.full(pixels.max(0) + 3, -1)
    rows, columns = pixels[:, 0] + 1, pixels[:, 1] + 1
    index[rows, columns] = np.arange(len(pixels))
    near = np.stack([index[rows + dr, columns + dc] for dr, dc in AROUND], 1)
    side = near[:, 0::2] >= 0
    near[:, 1::2][side | np.roll(side, -1, 1)] = -1
    return [[j for j in row if j >= 0] for row in near.tolist()]


def _walk(start: int, step: int, links: list[list[int]]) -> list[int]:
    """The path from one pixel through a neighbour as far as an end, a fork or the start again."""
    path = [start, step]
    while len(links[step]) == 2 and step != start:
        a, b = links[step]
        step = b if a == path[-2] else a
        path.append(step)
    return path


def _paths(links: list[list[int]]) -> list[list[int]]:
    """Every line of a skeleton once, as indices of its pixels; a closed line ends where it began."""
    paths: list[list[int]] = []
    used: set[tuple[int, int]] = set()
    seen: set[int] = set()
    forks_first = sorted(range(len(links)), key=lambda i: len(links[i]) == 2)
    for start in forks_first:
        if not links[start]:
            paths.append([start])
        if len(links[start]) == 2 and start in seen:
            continue
        for step in links[start]:
            if (start, step) not in used:
                path = _walk(start, step, links)
                used.update([(path[0], path[1]), (path[-1], path[-2])])
                seen.update(path)
                paths.append(path)
    return paths


def _without_spurs(pixels: Ints, widths: Floats) -> Ints:
    """Drop the short hairs that thinning leaves: those which the stroke they grow from would cover anyway."""
    links = _links(pixels)
    keep = np.ones(len(pixels), bool)
    for path in _paths(links):
        end, fork = sorted((path[0], path[-1]), key=lambda i: len(links[i]))
        # A hair that runs out into a corner gets ever thinner; a true stroke keeps its width to its end.
        longest = (2.5 if widths[end] < 0.4 * widths[fork] else 1.1) * widths[fork]
        if len(links[end]) == 1 and len(links[fork]) > 2 and len(path) - 1 <= longest:
            keep[[i for i in path if i != fork]] = False
    return pixels[keep]


def _smooth(line: Floats, closed: bool, sigma: float = 2.5) -> Floats:
    """Take the pixel stairs out of a line [n, 2], holding its two ends where they are."""
    reach = int(min(3 * sigma, len(line) - 1))
    if reach < 1:
        return line
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    if closed:
        return np.asarray(scipy.ndimage.convolve1d(line[:-1], kernel / kernel.sum(), axis=0, mode="wrap"))[
            [*range(len(line) - 1), 0]
        ]
    before, after = 2 * line[0] - line[reach:0:-1], 2 * line[-1] - line[-2 : -reach - 2 : -1]
    bent = np.concatenate([before, line, after])
    return np.asarray(scipy.ndimage.convolve1d(bent, kernel / kernel.sum(), axis=0))[reach:-reach]


@dataclass(frozen=True)
class Skeleton:
    """The lines of one letter in one typeface, in units of its longer side, the middle of its box at (0, 0).

    Attributes:
        points: [n, 2] as (x, y), y down, line after line.
        widths: [n], half the width of the typeface's stroke.
        line: [n], the number of the line that the point is on.
        to_end: [n], how far along the line to its nearest free end; very far where it has none.
    """

    points: Floats
    widths: Floats
    line: Ints
    to_end: Floats

    def length(self) -> float:
        """The length of all lines together, in units of the letter."""
        joined = self.line[1:] == self.line[:-1]
        return float(np.hypot(*np.diff(self.points, axis=0)[joined].T).sum())

    def finer(self, times: int) -> Skeleton:
        """The same lines with `times` as many points."""
        place = np.arange((len(self.points) - 1) * times + 1) / times
        low = np.minimum(place.astype(int), len(self.points) - 1)
        high = np.minimum(low + 1, len(self.points) - 1)
        inside = (self.line[low] == self.line[high]) | (place == low)
        low, high, part = low[inside], high[inside], (place - low)[inside]
        to_end = np.where(part == 0, self.to_end[low], self.to_end[low] * (1 - part) + self.to_end[high] * part)
        points = self.points[low] * (1 - part[:, None]) + self.points[high] * part[:, None]
        return Skeleton(points, self.widths[low] * (1 - part) + self.widths[high] * part, self.line[low], to_end)


def _to_end(length: int, free: tuple[bool, bool], width: float) -> Floats:
    """The distance of each pixel of a line from its nearest free end; FAR where there is none, and throughout a dot."""
    if all(free) and length < 2 * width:
        return np.full(length, FAR)
    way, never = np.arange(length, dtype=float), np.full(length, FAR)
    return np.minimum(way if free[0] else never, way[::-1] if free[1] else never)


def trace(mask: Bools, thinned: Bools) -> Skeleton:
    """The lines of one letter: its mask and its thinned mask, both bool [H, W] and not empty."""
    depth = np.asarray(scipy.ndimage.distance_transform_edt(np.pad(mask, 1)))[1:-1, 1:-1]
    pixels: Ints = np.argwhere(thinned)
    pixels = _without_spurs(pixels, depth[thinned])
    depths = depth[pixels[:, 0], pixels[:, 1]]
    links = _links(pixels)
    points, widths, line, to_end = [], [], [], []
    for number, path in enumerate(_paths(links)):
        closed = len(path) > 2 and path[0] == path[-1]
        free = (len(links[path[0]]) < 2, len(links[path[-1]]) < 2)
        points.append(_smooth(pixels[path][:, ::-1].astype(float), closed and len(links[path[0]]) == 2))
        widths.append(_smooth(np.repeat(depths[path][:, None], 2, 1), False)[:, 0])
        line.append(np.full(len(path), number))
        to_end.append(_to_end(len(path), free, float(depths[path].max())))
    rows, columns = np.nonzero(mask)
    middle = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
    unit = float(max(np.ptp(columns), np.ptp(rows)) + 1)
    every = np.concatenate(points)
    return Skeleton(
        (every - middle) / unit, np.concatenate(widths) / unit, np.concatenate(line), np.concatenate(to_end) / unit
    )


# --- bending --------------------------------------------------------------------------------------------------------


def habit(turn: float, slant: float, stretch: float) -> Floats:
    """A writer's way of turning (radians), slanting and stretching a letter: [2, 2], for points as (x, y)."""
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(rotation @ np.array([[stretch, -slant], [0, 1 / stretch]]))


# What letters are compared under: no held-out letter should be a train letter written by a slanting hand.
HABITS = tuple(habit(turn, slant, 1.0) for turn in (-0.14, 0.0, 0.14) for slant in (-0.25, 0.0, 0.25))


def _any_habit(rng: np.random.Generator) -> Floats:
    turn = np.deg2rad(np.clip(rng.normal(0, 6), -14, 14))
    return habit(float(turn), rng.uniform(-0.3, 0.3), float(np.exp(rng.uniform(-0.2, 0.2))))


def _elastic(rng: np.random.Generator) -> Warp:
    """A smooth unsteadiness of the hand, as a displacement of points [n, 2] in units of the letter."""
    waves = 5
    angle, cycles = rng.uniform(0, 2 * np.pi, waves), rng.uniform(0.4, 1.5, waves)
    vectors = 2 * np.pi * cycles * np.stack([np.cos(angle), np.sin(angle)])
    phase = rng.uniform(0, 2 * np.pi, waves)
    # Slow waves may go far and quick ones may not: what bends a stroke too tightly breaks the letter.
    strength = rng.uniform(0.5, 1.0) * rng.normal(0, 0.03, (waves, 2)) / cycles[:, None]
    return lambda points: np.sin(points @ vectors + phase) @ strength


def _fit(low: Floats, high: Floats, room: float, size: float, rng: np.random.Generator) -> tuple[float, Floats]:
    """Scale and shift that put the box [low, high] into a square of `size` pixels, with `room` left around it."""
    free = size - 2 * room
    scale = free * rng.uniform(0.8, 1.0) / max(float((high - low).max()), 0.05)
    slack = (size - 2 * room - scale * (high - low)) / 2
    middle = size / 2 + slack * rng.uniform(-0.6, 0.6, 2)
    return scale, middle - scale * (low + high) / 2


# --- pens -----------------------------------------------------------------------------------------------------------

ENDS = ("round", "square", "taper", "flare")


def _ahead(points: Floats, line: Ints) -> Floats:
    """The direction of the pen at every point: the next point of the line less the one before, [n, 2]."""
    index = np.arange(len(points))
    after, before = np.minimum(index + 1, len(points) - 1), np.maximum(index - 1, 0)
    after, before = np.where(line[after] == line, after, index), np.where(line[before] == line, before, index)
    return points[after] - points[before]


def _radii(skeleton: Skeleton, points: Floats, pen: float, ends: str, rng: np.random.Generator) -> Floats:
    """Half the stroke's width at every point [n], in the units of `pen`: nib, pressure, the typeface's, the ends."""
    ahead = _ahead(points, skeleton.line)
    angle = np.arctan2(ahead[:, 1], ahead[:, 0])
    flat, held = (rng.uniform(0.4, 0.8) if rng.random() < 0.5 else 1.0), rng.uniform(0, np.pi)
    nib = np.hypot(np.sin(angle - held), flat * np.cos(angle - held))
    fat = skeleton.widths / np.median(skeleton.widths)
    # Dots and blobs stay wide whatever the pen, or they would be lost.
    typeface = np.maximum(fat ** rng.uniform(0, 1), 0.85 * fat)
    way = rng.uniform(0, 2 * np.pi) + 2 * np.pi * points @ rng.normal(0, 0.02, 2)
    radii = pen * nib * typeface * (1 + 0.12 * np.sin(way))
    reach = rng.uniform(0.08, 0.2)
    if ends == "taper":
        radii = radii * (0.35 + 0.65 * np.clip(skeleton.to_end / reach, 0, 1))
    if ends == "flare":
        radii = radii * (1 + 0.5 * np.exp(-skeleton.to_end / (0.5 * reach)))
    return radii


def _ink(points: Floats, radii: Floats, tips: Floats, size: int) -> Floats:
    """Rasterise a line of discs: points [n, 2] and radii [n] in pixels; ink in [0, 1], [size, size].

    tips: [n, 2], at a free end to be cut square the unit vector that leads out of the stroke, and 0 elsewhere.
    """
    cells = np.clip(points.astype(np.intp), 0, size - 1)
    owner = np.full((size, size), -1, np.intp)
    owner[cells[:, 1], cells[:, 0]] = np.arange(len(points))
    tip = np.flatnonzero(tips.any(1))
    owner[cells[tip, 1], cells[tip, 0]] = tip
    rows, columns = scipy.ndimage.distance_transform_edt(owner < 0, return_distances=False, return_indices=True)
    nearest = owner[rows, columns]
    centre = np.arange(size) + 0.5
    away_x, away_y = centre[None, :] - points[nearest, 0], centre[:, None] - points[nearest, 1]
    ink = 0.5 + radii[nearest] - np.hypot(away_x, away_y)
    if len(tip):
        out_x, out_y = tips[nearest, 0], tips[nearest, 1]
        along, across = away_x * out_x + away_y * out_y, np.abs(away_x * out_y - away_y * out_x)
        square = np.minimum(0.5 + radii[nearest] - across, 0.5 + 0.8 * radii[nearest] - along)
        ink = np.where((out_x != 0) | (out_y != 0), square, ink)
    return np.clip(ink, 0, 1)


def _tips(skeleton: Skeleton, points: Floats) -> Floats:
    """The unit vectors that lead out of the strokes at their free ends, 0 elsewhere and at dots: [n, 2]."""
    tips = np.zeros_like(points)
    for end in np.flatnonzero(skeleton.to_end == 0):
        same = np.flatnonzero(skeleton.line == skeleton.line[end])
        back = same[min(6, len(same) - 1)] if end == same[0] else same[max(-7, -len(same))]
        out = points[end] - points[back]
        if len(same) > 6:
            tips[end] = out / max(float(np.hypot(*out)), 1e-6)
    return tips


def fineness(size: int) -> int:
    """The factor by which an image of this size is drawn finer than its pixels."""
    return 3 if size < 40 else 2


def _shrink(ink: Floats, times: int) -> NDArray[np.uint8]:
    size = len(ink) // times
    small = ink.reshape(size, times, size, times).mean((1, 3))
    return np.asarray(np.rint(255 * small), np.uint8)


def draw_lines(skeleton: Skeleton, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One writer's drawing of a skeleton: [size, size], ink 255 on paper 0."""
    times = fineness(size)
    matrix, shake, ends = _any_habit(rng), _elastic(rng), ENDS[rng.integers(len(ENDS))]
    bent = (skeleton.points + shake(skeleton.points)) @ matrix.T
    pixel = times * size / 28
    own = float(np.median(skeleton.widths)) * 24 * pixel
    pen = float(np.clip(rng.uniform(0.75, 1.5) * pixel, FINEST * pixel, max(BOLDEST * own, 0.75 * pixel)))
    radii = np.maximum(_radii(skeleton, bent, pen, ends, rng), FINEST * pixel)
    edge = radii[:, None] / (22 * pixel)
    scale, shift = _fit((bent - edge).min(0), (bent + edge).max(0), pixel, times * size, rng)
    points = bent * scale + shift
    tips = _tips(skeleton, points) if ends in ("square", "flare") else np.zeros_like(points)
    return _shrink(_ink(points, radii, tips, times * size), times)


def draw_outline(mask: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The typeface's own letter, bent by a writer's habit: mask [H, W], ink 255; [size, size], ink 255 on paper 0."""
    times = fineness(size)
    matrix, shake = _any_habit(rng), _elastic(rng)
    rows, columns = np.nonzero(mask > 127)
    middle = np.array([columns.min() + columns.max(), rows.min() + rows.max()]) / 2
    unit = float(max(np.ptp(columns), np.ptp(rows)) + 1)
    edge = (np.stack([columns, rows], 1)[:: max(1, len(rows) // 500)] - middle) / unit
    bent = (edge - shake(edge)) @ matrix.T
    scale, shift = _fit(bent.min(0), bent.max(0), 1.5 * times * size / 28, times * size, rng)
    x, y = np.meshgrid(np.arange(times * size) + 0.5, np.arange(times * size) + 0.5)
    places = (np.stack([x.ravel(), y.ravel()], 1) - shift) / scale @ np.linalg.inv(matrix).T
    source = (places + shake(places)) * unit + middle
    ink = scipy.ndimage.map_coordinates(mask / np.float32(255), source.T[::-1], order=1, mode="constant")
    return _shrink(np.asarray(ink).reshape(times * size, times * size), times)


def draw_plain(skeleton: Skeleton, size: int, matrix: Floats | None = None) -> Floats:
    """The skeleton with one plain round pen, for comparing letters: ink in [0, 1], [size, size].

    matrix: a habit [2, 2] to write it with.
    It is stretched to fill the square, twofold at most: writers differ in how wide they write, and a wide F is an F.
    """
    written = skeleton.points if matrix is None else skeleton.points @ matrix.T
    low, high = written.min(0), written.max(0)
    pen = 0.06 * size
    sides = np.maximum(high - low, 0.05)
    scale = (size - 2 * pen - 1) / np.maximum(sides, sides.max() / 2)
    points = (written - (low + high) / 2) * scale + size / 2
    return _ink(points, np.full(len(points), pen), np.zeros_like(points), size)
