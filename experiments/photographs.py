"""Photographs of sheets of drawings, as a phone takes them, and how well `metagen prepare` finds the drawings in them.

    python -m experiments.photographs --root DIR      # DIR holds Omniglot; a minute

Writes results/prepare: for each condition how many sheets are cut into the right number of drawings, the intersection
over union of the ink found with the ink drawn, the seconds a sheet, and how likely other drawings are under the model.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from experiments.pages import RESULTS, paragraphs, write_page
from experiments.runs import parser
from experiments.shifts import light
from metagen.core.seeding import numpy_rng
from metagen.model import Model, load_base
from metagen.preparation.ink import inked, squared
from metagen.preparation.paper import Grey, perspective
from metagen.preparation.prepared import SIZE
from metagen.report.tables import markdown_table
from metagen.storage.images import grid
from metagen.tasks.omniglot import Omniglot

ROWS, COLUMNS, CELL = 4, 3, 300  # of a sheet; pixels of a cell
INK, PAPER, TABLE, LINE = (30, 32, 40), (238, 236, 228), (96, 70, 52), (120, 160, 215)
GRID_LINE = 3  # pixels
SHEETS = 4  # of each condition
COMPARED = 56  # pixels of the side at which drawings are compared
DRAWN = "the drawings themselves, not photographed"
SHOWN = 1  # the sheet in the picture

HEAD = """# Drawings found in photographs of paper

How well does `metagen prepare` find drawings on a photographed sheet? Sheets of 4 x 3 drawings of one test character of
Omniglot, photographed by a program: perspective on a table, uneven light and a shadow, grain, blue lines, JPEG of low
quality, a turned page.

![A photograph, the drawings found on it, and what the model draws from these and from the photograph](example.png)
"""
TAIL = """*Overlap* is the intersection over union of the ink found with the ink drawn, each in its box, at 56 px.
*Nats* is -log p of 8 other drawings of the character under the bundled model, adapted to what it was given: less is
better. Four sheets a condition, one seed, one thread of a busy AMD EPYC.

Made by `python -m experiments.photographs --root DIR`, where DIR holds Omniglot. No real photographs were measured.
"""


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


def photographed(ink: Grey, shot: Shot, rng: np.random.Generator, cell: int = CELL) -> Image.Image:
    """A photograph in colour of a sheet of ink [H, W] in [0, 1], with half a cell of paper around it."""
    mask = Image.fromarray((255 * ink).astype(np.uint8))
    width, height = mask.width + cell // 2, mask.height + cell // 2
    page, lines = Image.new("RGB", (width, height), PAPER), shot.lines * round(rng.uniform(0.12, 0.2) * cell)
    draw = ImageDraw.Draw(page)
    for y in range(int(rng.integers(lines)), height, lines) if lines else ():
        draw.line([(0, y), (width, y)], fill=LINE, width=2)
    if shot.squares:
        _draw_squares(draw, mask.size, cell)
    page.paste(INK, (cell // 4, cell // 4), mask)
    if shot.turn:
        page = page.rotate(shot.turn, Image.Resampling.BICUBIC, expand=not shot.perspective, fillcolor=PAPER)
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


def _draw_squares(draw: ImageDraw.ImageDraw, size: tuple[int, int], cell: int) -> None:
    around = cell // 4
    for x in range(around, around + size[0] + 1, cell):
        draw.line([(x, around), (x, around + size[1])], fill=INK, width=GRID_LINE)
    for y in range(around, around + size[1] + 1, cell):
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


@dataclass(frozen=True)
class Found:
    """The drawings found on a sheet, compared with those drawn.

    Attributes:
        drawings: as found.
        overlaps: with what was drawn, of each; none where their number is wrong.
        seconds: that it took.
    """

    drawings: list[Grey]
    overlaps: list[float]
    seconds: float


def found_on(photo: Image.Image, drawn: Sequence[Grey]) -> Found:
    """The drawings that are found on a photograph of a sheet of them."""
    started = time.perf_counter()
    drawings = inked(np.asarray(photo)).drawings
    seconds = time.perf_counter() - started
    if len(drawings) != len(drawn):
        return Found(drawings, [], seconds)
    pairs = zip(drawings, drawn, strict=True)
    return Found(drawings, [overlap(squared(each, COMPARED), ink) for each, ink in pairs], seconds)


def nats(model: Model, support: Sequence[Image.Image], others: torch.Tensor) -> float:
    """The mean of -log p of other drawings [n, 1, S, S] in [0, 1] under a model adapted to pictures."""
    adapted = model.adapt(model.read(support), invert=False)
    return -float(adapted.log_prob(others.round(), samples=1).mean())


def conditions(omniglot: Omniglot, tasks: Sequence[str]) -> list[list[str]]:
    """The rows of the table of conditions."""
    rows = []
    for name, shot in CONDITIONS.items():
        drawn = [drawings_of(omniglot, task) for task in tasks]
        photos = [photographed(sheet_of(each), shot, numpy_rng("photograph", n)) for n, each in enumerate(drawn)]
        found = [found_on(*each) for each in zip(photos, drawn, strict=True)]
        overlaps = [value for one in found for value in one.overlaps] or [0.0]
        right, seconds = sum(bool(one.overlaps) for one in found), np.mean([one.seconds for one in found])
        overlap_is = f"{np.mean(overlaps):.2f} ({min(overlaps):.2f})"
        rows.append([name, f"{right} of {len(tasks)}", overlap_is, f"{seconds:.1f}"])
    return rows


def losses(omniglot: Omniglot, tasks: Sequence[str], model: Model) -> list[list[str]]:
    """The rows of the table of what the model was given."""
    values: dict[str, list[float]] = {name: [] for name in (DRAWN, "prepared", "the photograph as it is")}
    for number, task in enumerate(tasks):
        drawn = drawings_of(omniglot, task)
        photo = photographed(sheet_of(drawn), CONDITIONS["all"], numpy_rng("photograph", number))
        found = [Image.fromarray(squared(each, SIZE)) for each in found_on(photo, drawn).drawings]
        originals = [Image.fromarray((255 * (1 - ink)).astype(np.uint8)) for ink in drawn]
        others = model.read([Image.fromarray(ink.numpy()) for ink in omniglot.originals(task)[ROWS * COLUMNS :, 0]])
        for name, support in zip(values, (originals, found, [photo]), strict=True):
            values[name].append(nats(model, support, others))
    return [[name, f"{np.mean(each):.0f}"] for name, each in values.items()]


def drawings_of(omniglot: Omniglot, task: str) -> list[Grey]:
    """The drawings of a character that stand on a sheet, each [S, S] in [0, 1]."""
    return [ink.numpy() / np.float32(255) for ink in omniglot.originals(task)[: ROWS * COLUMNS, 0]]


def picture(omniglot: Omniglot, task: str, model: Model) -> Figure:
    """A photograph, the drawings found on it, and what the model draws from these and from the photograph as it is."""
    drawn = drawings_of(omniglot, task)
    photo = photographed(sheet_of(drawn), CONDITIONS["all"], numpy_rng("photograph", task))
    found = [Image.fromarray(squared(each, SIZE)) for each in found_on(photo, drawn).drawings]
    samples = [
        1 - grid(model.adapt(model.read(support), invert=False).sample(ROWS * COLUMNS).unflatten(0, (ROWS, COLUMNS)))[0]
        for support in (found, [photo])
    ]
    panels: dict[str, Any] = {
        "the photograph": np.asarray(photo),
        "prepared": 1 - grid(1 - model.read(found, invert=False).unflatten(0, (-1, COLUMNS)))[0],
        "drawn from it": samples[0],
        "drawn from the photograph as it is": samples[1],
    }
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)  # of which a photograph in colour takes no notice
        axes.set_title(title, fontsize=10)
        axes.axis("off")
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the page."""
    given = parser(__doc__, root="the folder that holds Omniglot").parse_args(argv)
    omniglot, model = Omniglot(given.root), load_base("omniglot")
    tasks = omniglot.split["test"][:: max(1, len(omniglot.split["test"]) // SHEETS)][:SHEETS]
    lines = [
        paragraphs(HEAD),
        *markdown_table(["photographed", "cut right", "overlap, mean (least)", "seconds"], conditions(omniglot, tasks)),
        "",
        *markdown_table(["`omniglot` was given, under *all*", "nats"], losses(omniglot, tasks, model)),
        "",
        paragraphs(TAIL),
    ]
    write_page(RESULTS / "prepare", lines, {"example.png": picture(omniglot, tasks[SHOWN % len(tasks)], model)})


if __name__ == "__main__":
    main()
