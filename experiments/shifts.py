"""Tasks off the ground that a model of Omniglot was trained on: digits, photographs of paper, hands and typefaces.

    python -m experiments.shifts --root DIR --out runs/shifts       # DIR holds Omniglot; a minute

OUT gets a folder of images for each, as `--data.task_set folder` reads it, with a split.json:

- digits: what people wrote, 8 x 8 pixels (scikit-learn), enlarged; 5 tasks a digit, of 34 images each.
- paper: characters of Omniglot in ink on paper, photographed: `photograph`.
- hands: all that one person drew of an alphabet of Omniglot, a task a person and alphabet.
- typefaces: the capitals and small letters of a font of matplotlib, a task a font.

Letters of other scripts, drawn by many hands, are the task set `glyphs`. Ink is white on black, but for paper.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import ascii_letters

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from sklearn.datasets import load_digits

from experiments.runs import parser
from metagen.core.seeding import numpy_rng
from metagen.core.warps import pixel_grid
from metagen.storage.files import fresh_folder, write_atomically
from metagen.storage.images import save_pngs, to_uint8
from metagen.tasks.base import group_of
from metagen.tasks.glyphs import matplotlib_fonts
from metagen.tasks.omniglot import Omniglot
from metagen.tasks.splits import SPLITS, Split

SIDE = 56  # pixels of the files
BOX = 20 / 28  # share of the side that a digit or a letter fills, as those of MNIST do
DIGITS = {0: "train", 1: "val", 2: "val"}  # the others are test
OF_A_DIGIT = 34  # images of a task
PAPERS = {"train": 150, "val": 40, "test": 100}  # how many characters
FEWEST = 20  # images of a hand
PAGE = 224  # pixels of a photograph before it is made small

Tasks = Iterator[tuple[str, str, torch.Tensor]]  # the part of the split, the task's name, images [n, 1, S, S] in [0, 1]


def digits() -> Tasks:
    """Tasks of one digit each."""
    every = load_digits()
    images = torch.from_numpy(every.images).float()[:, None] / 16
    wide = F.interpolate(images, size=round(BOX * SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
    around = (SIDE - wide.shape[-1]) // 2
    framed = F.pad(wide, [around, SIDE - wide.shape[-1] - around] * 2)
    bold = ((framed - 0.3) * 3).clamp(0, 1)
    for digit in range(10):
        own = bold[torch.from_numpy(every.target == digit)]
        for task in range(len(own) // OF_A_DIGIT):
            yield DIGITS.get(digit, "test"), f"{digit}/{task}", own[task * OF_A_DIGIT : (task + 1) * OF_A_DIGIT]


def papers(omniglot: Omniglot) -> Tasks:
    """Photographs of characters, of each part as many as `PAPERS` says, evenly spaced."""
    for part, count in PAPERS.items():
        names = omniglot.split[part]
        for task in names[:: len(names) // count][:count]:
            drawings = omniglot.originals(task)[:, 0].numpy()
            made = [photograph(drawing, numpy_rng("paper", task, n)) for n, drawing in enumerate(drawings)]
            yield part, task, torch.from_numpy(np.stack(made))[:, None]


def photograph(drawing: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph of a drawing in ink on ruled paper: uneven light, perspective, blur, grain and JPEG.

    Args:
        drawing: [S, S], uint8, ink 255.
        rng: draws all that differs from one photograph to another.

    Returns:
        Grey levels [PAGE, PAGE] in [0, 1]; ink is dark.
    """
    ink = Image.fromarray(drawing).resize((PAGE, PAGE), Image.Resampling.BICUBIC)
    ink = ink.filter(ImageFilter.MaxFilter(2 * int(rng.integers(0, 2)) + 1))
    sheet = Image.new("L", (PAGE, PAGE), 255)
    lines, gap = ImageDraw.Draw(sheet), int(rng.integers(28, 48))
    for height in range(int(rng.integers(gap)), PAGE, gap):
        lines.line([(0, height), (PAGE, height)], fill=int(rng.integers(185, 225)), width=2)
    sheet.paste(int(rng.integers(20, 80)), mask=ink)
    corners = [(x + rng.normal(0, 0.03) * PAGE, y + rng.normal(0, 0.03) * PAGE) for x in (0, PAGE) for y in (0, PAGE)]
    (nw, sw, ne, se) = corners
    sheet = sheet.transform((PAGE, PAGE), Image.Transform.QUAD, (*nw, *sw, *se, *ne), Image.Resampling.BICUBIC, 1, 235)
    seen = np.asarray(sheet.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 1.5))), np.float32) / 255
    seen = seen * light(rng) + rng.normal(0, rng.uniform(0.005, 0.03), seen.shape)
    file = io.BytesIO()
    Image.fromarray((255 * seen.clip(0, 1)).astype(np.uint8)).save(file, "JPEG", quality=int(rng.integers(40, 85)))
    return np.asarray(Image.open(file), np.float32) / 255


def light(rng: np.random.Generator) -> np.ndarray:
    """The brightness of paper under light from one side and the soft edge of a shadow, [PAGE, PAGE]."""
    x, y = pixel_grid(PAGE, torch.empty(0)).numpy().transpose(2, 0, 1)
    turn, edge = rng.uniform(0, 2 * math.pi, 2)
    slope = 1 - rng.uniform(0, 0.15) * (1 + math.cos(turn) * x + math.sin(turn) * y)
    across = math.cos(edge) * x + math.sin(edge) * y - rng.uniform(-0.6, 0.6)
    return rng.uniform(0.75, 1) * slope * (1 - rng.uniform(0, 0.3) / (1 + np.exp(-across / 0.15)))


def hands(omniglot: Omniglot) -> Tasks:
    """All that one person drew of an alphabet."""
    for part in SPLITS:
        alphabets = dict.fromkeys(map(group_of, omniglot.split[part]))
        for alphabet in alphabets:
            drawn = torch.stack([omniglot.originals(t) for t in omniglot.split[part] if group_of(t) == alphabet])
            if len(drawn) >= FEWEST:
                for person in range(drawn.shape[1]):
                    yield part, f"{alphabet}/{person:02}", drawn[:, person].float() / 255


def typefaces() -> Tasks:
    """The letters of each font, in turns of train, val and test."""
    for number, font in enumerate(matplotlib_fonts()):
        face = ImageFont.truetype(font, 4 * SIDE)
        if missing(face):
            continue
        letters = torch.stack([letter(character, face) for character in ascii_letters])
        yield SPLITS[number % 3], font.stem, letters[:, None]


def missing(face: ImageFont.FreeTypeFont) -> bool:
    """Whether a font draws some letters alike, as one does that has none."""
    return len({bytes(face.getmask(character)) for character in ascii_letters}) < len(ascii_letters)


def letter(character: str, face: ImageFont.FreeTypeFont) -> torch.Tensor:
    """A letter, filled, in the middle: [SIDE, SIDE] in [0, 1]."""
    left, top, right, bottom = face.getbbox(character)
    sheet = Image.new("L", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(sheet).text((-left, -top), character, fill=255, font=face)
    scale = BOX * SIDE / max(sheet.size)
    small = sheet.resize([max(1, round(scale * side)) for side in sheet.size], Image.Resampling.LANCZOS)
    page = Image.new("L", (SIDE, SIDE))
    page.paste(small, ((SIDE - small.width) // 2, (SIDE - small.height) // 2))
    return torch.from_numpy(np.asarray(page, np.float32) / 255)


def write(folder: Path, tasks: Tasks) -> None:
    """Write the images of tasks, a folder each, and their split."""
    names: dict[str, list[str]] = {part: [] for part in SPLITS}
    with fresh_folder(folder, overwrite=True) as fresh:
        for part, name, images in tasks:
            save_pngs(to_uint8(images), fresh / "tasks" / name)
            names[part].append(name)
        split = Split(*(tuple(names[part]) for part in SPLITS))
        write_atomically(fresh / "split.json", split.to_json().encode())
    print(f"{folder}: {', '.join(f'{len(tasks)} {part}' for part, tasks in names.items())} tasks", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Make those that are not there."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--out", type=Path, default=Path("runs/shifts"))
    given = options.parse_args(argv)
    omniglot = Omniglot(given.root)
    every = {"digits": digits(), "typefaces": typefaces(), "hands": hands(omniglot), "paper": papers(omniglot)}
    for name, tasks in every.items():
        if not (given.out / name).is_dir():
            write(given.out / name, tasks)


if __name__ == "__main__":
    main()
