"""Photographs of sheets of drawings, as a phone takes them, and how well `metagen prepare` finds the drawings in them.

    python -m experiments.photographs --root DIR      # DIR holds Omniglot; a minute

Prints, for each condition, the share of sheets that are cut into the right number of drawings, the intersection over
union of the ink found with the ink drawn, each in its box, and the seconds a sheet. Nothing is written.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from experiments.runs import parser
from experiments.shifts import light
from metagen.core.seeding import numpy_rng
from metagen.preparation.ink import inked, squared
from metagen.preparation.paper import Grey, perspective
from metagen.tasks.omniglot import Omniglot

ROWS, COLUMNS, CELL = 4, 3, 300  # of a sheet; pixels of a cell
INK, PAPER, TABLE, LINE = (30, 32, 40), (238, 236, 228), (96, 70, 52), (120, 160, 215)
GRID_LINE = 3  # pixels
SHEETS = 10  # of each condition
COMPARED = 56  # pixels of the side at which drawings are compared


@dataclass(frozen=True)
class Shot:
    """The circumstances under which a sheet is photographed.

    Attributes:
        perspective: how far the corners of the page move, as a share of it, on a table that is seen around it.
        shadow: whether the light is uneven and a shadow falls on the page.
        grain: the standard deviation of noise, in brightness.
        lines: whether the paper is ruled in blue.
        squares: whether the cells are parted by lines as dark as ink.
        quality: of JPEG.
        turn: degrees by which the sheet is turned, filling the picture.
        blur: pixels.
    """

    perspective: float = 0
    shadow: bool = False
    grain: float = 0
    lines: bool = False
    squares: bool = False
    quality: int = 95
    turn: float = 0
    blur: float = 0.7


CONDITIONS = {
    "plain": Shot(),
    "perspective": Shot(perspective=0.08),
    "shadow": Shot(shadow=True),
    "grain": Shot(grain=0.06),
    "blue lines": Shot(lines=True),
    "JPEG": Shot(quality=20),
    "rotation": Shot(turn=6),
    "all": Shot(perspective=0.06, shadow=True, grain=0.03, lines=True, quality=60, turn=3, blur=1.2),
    "all, no table": Shot(shadow=True, grain=0.03, lines=True, quality=60, turn=-3, blur=1.2),
}


def sheet_of(drawings: Sequence[Grey], columns: int = COLUMNS, cell: int = CELL, spread: float = 0.66) -> Grey:
    """A sheet of drawings, row by row: ink in [0, 1], [rows * cell, columns * cell].

    Args:
        drawings: each [S, S] in [0, 1], 1 where ink is.
        columns: how many stand in a row.
        cell: pixels of the side of each one's cell.
        spread: of the cell's side that a drawing takes.
    """
    rows, inner = -(-len(drawings) // columns), round(spread * cell)
    sheet = np.zeros((rows * cell, columns * cell), np.float32)
    for place, drawing in enumerate(drawings):
        row, column = divmod(place, columns)
        wide = Image.fromarray(drawing.astype(np.float32)).resize((inner, inner), Image.Resampling.BICUBIC)
        top, left = row * cell + (cell - inner) // 2, column * cell + (cell - inner) // 2
        sheet[top : top + inner, left : left + inner] = np.asarray(wide).clip(0, 1)
    return sheet


def photographed(ink: Grey, shot: Shot, rng: np.random.Generator) -> Image.Image:
    """A photograph in colour of a sheet of ink [H, W] in [0, 1], with half a cell of paper around it."""
    mask = Image.fromarray((255 * ink).astype(np.uint8))
    width, height = mask.width + CELL // 2, mask.height + CELL // 2
    page, lines = Image.new("RGB", (width, height), PAPER), shot.lines * int(rng.integers(38, 60))
    draw = ImageDraw.Draw(page)
    for y in range(int(rng.integers(lines)), height, lines) if lines else ():
        draw.line([(0, y), (width, y)], fill=LINE, width=2)
    if shot.squares:
        _draw_squares(draw, mask.size)
    page.paste(INK, (CELL // 4, CELL // 4), mask)
    if shot.turn:
        turned = page.rotate(shot.turn, Image.Resampling.BICUBIC, expand=not shot.perspective, fillcolor=PAPER)
        page = turned
    if shot.perspective:
        page = _on_table(page, shot.perspective, rng)
    seen = np.asarray(page.filter(ImageFilter.GaussianBlur(shot.blur)), np.float32) / 255
    if shot.shadow:
        lit = Image.fromarray(light(rng).astype(np.float32)).resize(page.size, Image.Resampling.BILINEAR)
        seen = seen * np.asarray(lit)[:, :, None]
    seen = seen + rng.normal(0, shot.grain, seen.shape) if shot.grain else seen
    file = io.BytesIO()
    Image.fromarray((255 * seen.clip(0, 1)).astype(np.uint8)).save(file, "JPEG", quality=shot.quality)
    return Image.open(file).convert("RGB")


def _draw_squares(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    around = CELL // 4
    for x in range(around, around + size[0] + 1, CELL):
        draw.line([(x, around), (x, around + size[1])], fill=INK, width=GRID_LINE)
    for y in range(around, around + size[1] + 1, CELL):
        draw.line([(around, y), (around + size[0], y)], fill=INK, width=GRID_LINE)


def _on_table(page: Image.Image, far: float, rng: np.random.Generator) -> Image.Image:
    """The page seen aslant, whole, on a darker table."""
    width, height = page.size
    sides = np.array([(0, 0), (width, 0), (width, height), (0, height)])
    corners = 0.12 * max(page.size) + sides + rng.uniform(-far, far, (4, 2)) * page.size
    size = round(width + 0.24 * max(page.size)), round(height + 0.24 * max(page.size))
    how = Image.Transform.PERSPECTIVE, perspective(corners, sides), Image.Resampling.BICUBIC
    return page.transform(size, *how, fillcolor=TABLE)


def overlap(found: NDArray[np.uint8], ink: Grey) -> float:
    """Intersection over union of a drawing found, dark on white as `squared` makes it, with what was drawn."""
    rows, columns = np.nonzero(ink > 0.5)
    box = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    there, true = found < 128, squared(box, len(found)) < 128
    return float((there & true).sum() / (there | true).sum())


def main(argv: Sequence[str] | None = None) -> None:
    """Print how well drawings are found in each condition."""
    given = parser(__doc__, root="the folder that holds Omniglot").parse_args(argv)
    omniglot = Omniglot(given.root)
    tasks = omniglot.split["test"][:: len(omniglot.split["test"]) // SHEETS][:SHEETS]
    for name, shot in CONDITIONS.items():
        right, overlaps, seconds = 0, [], 0.0
        for task in tasks:
            drawn = [each[0].numpy() / np.float32(255) for each in omniglot.originals(task)[: ROWS * COLUMNS]]
            photo = np.asarray(photographed(sheet_of(drawn), shot, numpy_rng("photograph", task, 0)))
            started = time.perf_counter()
            found = inked(photo).drawings
            seconds += time.perf_counter() - started
            if len(found) == len(drawn):
                right += 1
                pairs = zip(found, drawn, strict=True)
                overlaps += [overlap(squared(each, COMPARED), ink) for each, ink in pairs]
        usual = f"{np.mean(overlaps):.2f} (least {min(overlaps):.2f})" if overlaps else "-"
        print(f"{name:15} cut right {right}/{len(tasks)}  overlap {usual}  {seconds / len(tasks):.2f} s a sheet")


if __name__ == "__main__":
    main()
