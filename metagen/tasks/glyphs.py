"""The task set `glyphs`: letters of many scripts, each drawn by many hands, made from fonts alone."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageFont, features

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError
from metagen.storage.files import placed
from metagen.tasks.base import TaskSet
from metagen.tasks.drawing_cache import cache_file, keep, kept_or_drawn
from metagen.tasks.glyph_drawing import (
    BOX,
    CANVAS,
    HABITS,
    Skeleton,
    draw_lines,
    draw_outline,
    draw_plain,
    fineness,
    thin,
    trace,
)
from metagen.tasks.splits import SPLITS, Split, read_split, split_by_hash

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

log = logging.getLogger(__name__)

VERSION = 1  # of the drawing code: raise it when the same letters come out differently, so that no old cache is read
FIXED_SPLIT = Path(__file__).with_name("glyphs.json")
SUFFIXES = (".ttf", ".otf", ".ttc")
LETTERS = ("Lu", "Ll", "Lo", "Lt")  # Unicode categories; modifiers, marks and ideographic numbers are not letters here
NO_SCRIPTS = ("MATHEMATICAL", "TURNED", "ROMAN", "MODIFIER", "IDEOGRAPHIC", "")
# Fonts of matplotlib whose letters are no letters: placeholders, mathematical symbols, private pieces.
NO_LETTERS = ("LastResort", "cmsy", "cmex", "STIXNonUni", "STIXSiz")
FEWEST = 20  # letters that the user's own fonts must give
# Overlap (intersection over union, each drawn with one plain pen) from which two letters count as one, and from which
# a held-out letter is, in any two typefaces and slants, too much like a train letter to be held out.
ALIKE, AKIN = 0.82, 0.68
SHORTEST = 0.5  # length of all lines, in units of the letter, below which a letter is nothing but dots
COMPARED = 32  # pixels of the square in which letters are compared
OUTLINED = 0.15  # share of drawings that keep the typeface's own filled shape

Image = NDArray[np.uint8]
Likeness = NDArray[np.float32]


# --- fonts ----------------------------------------------------------------------------------------------------------


def script_of(char: str) -> str:
    """The script that a letter's Unicode name begins with, such as "OLD ITALIC"; "" where it is not one letter."""
    if unicodedata.category(char) not in LETTERS or unicodedata.decomposition(char):
        return ""
    words = unicodedata.name(char, "").split(" ")
    if "LIGATURE" in words:
        return ""
    script = " ".join(words[:2]) if words[0] == "OLD" else words[0]
    return "" if script in NO_SCRIPTS else script


def task_of(char: str) -> str:
    """The task name of a letter, such as "GEORGIAN/U+10D0"."""
    return f"{script_of(char)}/U+{ord(char):04X}"


def letter_of(task: str) -> str:
    """The letter of a task name.

    Raises:
        MetagenError: the name is not of the form "SCRIPT/U+0041".
    """
    try:
        return chr(int(task.split("/U+")[1], 16))
    except (IndexError, ValueError, OverflowError):
        raise MetagenError(f"task {task!r}: not a letter's name; expected one such as 'GEORGIAN/U+10D0'") from None


def matplotlib_fonts() -> list[Path]:
    """The fonts that come with matplotlib, less those that draw no letters."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return sorted(path for path in folder.glob("*.ttf") if not path.name.startswith(NO_LETTERS))


def own_fonts(folder: str) -> list[Path]:
    """The font files of a user's folder and the folders in it, sorted.

    Raises:
        MetagenError: there is no such folder, or no font in it.
    """
    path = placed(folder)
    if not path.is_dir():
        raise MetagenError(f"fonts: {folder}: no such folder; give a folder of {', '.join(SUFFIXES)} files")
    fonts = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not fonts:
        raise MetagenError(f"fonts: {folder}: no {', '.join(SUFFIXES)} file in it; put fonts there or leave out `root`")
    return fonts


class Faces:
    """Typefaces, the letters that each has, and their shapes there."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.by_letter: dict[str, list[Path]] = {}
        styles: dict[Path, str] = {}
        for path in paths:
            font = _open(path)
            styles[path] = font.style_name.lower()
            for code in font.get_charmap():
                self.by_letter.setdefault(chr(code), []).append(path)
        # Thin lines make good skeletons; a slanted copy of a face adds nothing that a drawing's own slant does not.
        self._heavy = {path for path, style in styles.items() if any(w in style for w in ("bold", "black", "heavy"))}
        self._copied = {path for path, style in styles.items() if "oblique" in style}

    def for_lines(self, letter: str) -> list[Path]:
        """The faces whose letter is to be thinned: the light, upright ones, or all where there are none."""
        faces = self.by_letter.get(letter, [])
        return [f for f in faces if f not in self._heavy | self._copied] or faces

    def hash(self) -> str:
        """SHA-256 of the font files and of the library that renders them."""
        files = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.paths]
        return hashlib.sha256(json.dumps([files, features.version("freetype2")]).encode()).hexdigest()


def _open(path: Path) -> FT2Font:
    from matplotlib.ft2font import FT2Font  # here, since all that names a task set would wait for it

    try:
        ImageFont.truetype(str(path), BOX)
        return FT2Font(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        raise MetagenError(f"fonts: {path}: not a font that can be read ({error}); mend it or take it away") from error


@lru_cache(maxsize=256)
def _font(path: Path, pixels: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path), pixels, layout_engine=ImageFont.Layout.BASIC)


def render(path: Path, letter: str) -> Image | None:
    """A letter in one typeface, ink 255, about BOX pixels on its longer side in [CANVAS, CANVAS]; None if blank."""
    left, top, right, bottom = _font(path, BOX).getbbox(letter)
    longer = max(right - left, bottom - top)
    if min(right - left, bottom - top) < 1:
        return None
    # Sizes in steps of 8 keep the number of open fonts small; the canvas holds the error.
    pixels = min(int(BOX * BOX / longer) // 8 * 8, 8 * BOX)
    ink, _ = _font(path, max(pixels, 8)).getmask2(letter, mode="L")
    width, height = ink.size
    shape = np.asarray(ink, np.uint8).reshape(height, width)[:CANVAS, :CANVAS]
    canvas = np.zeros((CANVAS, CANVAS), np.uint8)
    down, right_by = (CANVAS - shape.shape[0]) // 2, (CANVAS - shape.shape[1]) // 2
    canvas[down : down + shape.shape[0], right_by : right_by + shape.shape[1]] = shape
    return canvas if (canvas > 127).any() else None


def skeletons(masks: Sequence[Image]) -> list[Skeleton]:
    """The lines of rendered letters, each [CANVAS, CANVAS], ink 255."""
    if not masks:
        return []
    ink = np.stack(masks) > 127
    return [trace(mask, thinned) for mask, thinned in zip(ink, thin(ink), strict=True)]


# --- which letters --------------------------------------------------------------------------------------------------


def _lines(letter: str, faces: Faces) -> list[Skeleton]:
    """A letter's skeletons in the faces that lines are taken from; none where it is blank or nothing but dots."""
    masks = [mask for face in faces.for_lines(letter) if (mask := render(face, letter)) is not None]
    return [skeleton for skeleton in skeletons(masks) if skeleton.length() >= SHORTEST]


def looks(letters: Iterable[str], faces: Faces) -> dict[str, Likeness]:
    """Each letter's likenesses in all its faces, [faces, pixels], ink in [0, 1]; blanks and mere dots are left out."""
    likenesses = {}
    for letter in letters:
        if plain := [draw_plain(lines, COMPARED).ravel() for lines in _lines(letter, faces)]:
            likenesses[letter] = np.asarray(plain, np.float32)
    return likenesses


def apart(letters: Iterable[str], faces: Faces, gallery: Gallery) -> list[str]:
    """Those letters that, in no face and written with no habit, come near one of the gallery."""
    chosen = []
    for letter in letters:
        bent = [draw_plain(lines, COMPARED, habit).ravel() for lines in _lines(letter, faces) for habit in HABITS]
        if bent and gallery.nearest(np.asarray(bent, np.float32)) < AKIN:
            chosen.append(letter)
    return chosen


def overlap(a: Likeness, b: Likeness) -> Likeness:
    """Intersection over union of each image of a [n, pixels] with each of b [m, pixels], ink in [0, 1]: [n, m]."""
    both = a @ b.T
    return np.asarray(both / (np.square(a).sum(1)[:, None] + np.square(b).sum(1)[None, :] - both), np.float32)


class Gallery:
    """Likenesses that grow in number, to be asked how near another comes to any of them."""

    def __init__(self, likenesses: Iterable[Likeness] = ()) -> None:
        self._images: Likeness = np.empty((256, COMPARED * COMPARED), np.float32)
        self._count = 0
        for images in likenesses:
            self.add(images)

    def add(self, images: Likeness) -> None:
        """Hang the likenesses [n, pixels] of one more letter."""
        while self._count + len(images) > len(self._images):
            self._images = np.concatenate([self._images, np.empty_like(self._images)])
        self._images[self._count : self._count + len(images)] = images
        self._count += len(images)

    def nearest(self, images: Likeness) -> float:
        """The greatest overlap of any of the images [n, pixels] with any that hangs here, 0 to 1."""
        return float(overlap(images, self._images[: self._count]).max()) if self._count else 0.0


def choose(likenesses: Mapping[str, Likeness]) -> list[str]:
    """Those letters, in order, that look like none chosen before."""
    chosen, gallery = [], Gallery()
    for letter, images in likenesses.items():
        # The first face alone: in one face out of many, letters that differ (E and F) may come close.
        if gallery.nearest(images[:1]) < ALIKE:
            chosen.append(letter)
            gallery.add(images[:1])
    return chosen


def split_own(faces: Faces) -> Split:
    """A split of every letter of the faces by a hash of its name, without copies; held-out letters unlike train ones.

    Raises:
        MetagenError: too few letters remain, or none of them for one of the splits.
    """
    likenesses = looks((char for char in sorted(faces.by_letter) if script_of(char)), faces)
    names = {task_of(char): char for char in choose(likenesses)}
    if len(names) < FEWEST:
        raise MetagenError(
            f"fonts: {faces.paths[0].parent}: expected {FEWEST} or more different letters, got {len(names)}; add fonts"
        )
    split = split_by_hash(names, {"val": 0.1, "test": 0.1}, seed=0)
    train = Gallery(likenesses[names[name]] for name in split.train)
    held = (apart([names[name] for name in split[part]], faces, train) for part in ("val", "test"))
    split = Split(split.train, *(tuple(task_of(letter) for letter in letters) for letters in held))
    for part in SPLITS:
        if not split[part]:
            raise MetagenError(
                f"fonts: {faces.paths[0].parent}: none of its {len(names)} letters falls to {part};"
                " add fonts, or say which letters do in `split_file`"
            )
    return split


# --- drawing and keeping --------------------------------------------------------------------------------------------


def draw_letter(task: str, faces: Faces, size: int, drawings: int, seed: int) -> Image:
    """All drawings of one letter: [drawings, size, size], ink 255 on paper 0. No drawing depends on another.

    Raises:
        MetagenError: the letter is blank in every font that has it.
    """
    letter = letter_of(task)
    masks = {face: mask for face in faces.by_letter[letter] if (mask := render(face, letter)) is not None}
    if not masks:
        raise MetagenError(f"task {task!r}: blank in every font that has it; take it out of the split")
    shapes = list(masks.values())
    light = [masks[face] for face in faces.for_lines(letter) if face in masks] or shapes
    # Points stand no further apart than the pixels they are drawn with.
    lines = [skeleton.finer(-(-fineness(size) * size // BOX)) for skeleton in skeletons(light)]
    images = []
    for number in range(drawings):
        rng = numpy_rng(seed, "glyphs", task, number)
        if rng.random() < OUTLINED:
            images.append(draw_outline(shapes[rng.integers(len(shapes))], size, rng))
        else:
            images.append(draw_lines(lines[rng.integers(len(lines))], size, rng))
    return np.stack(images)


class Glyphs(TaskSet):
    """Letters drawn by many hands: one task for each letter, held out by whole scripts.

    They are drawn with the pixels of their size, so that `originals` are `images`.

    Args:
        size: height and width in pixels, 28 to 128.
        channels: 1, or 3 for the same grey thrice.
        invert: draw ink 0 on paper 255 instead of the reverse.
        drawings: images of each letter, 1 or more.
        seed: of the drawings, 0 or more. The split does not depend on it.
        root: a folder of the user's own fonts instead of those of matplotlib.
        split_file: a split as `Split.to_json` writes it, instead of the fixed one or, for own fonts, one by hash.
        cache_dir: where drawings are kept, instead of $METAGEN_CACHE or ~/.cache/metagen.

    Raises:
        MetagenError: an option is out of range, or the fonts or the split file cannot be used.
    """

    drawn = True

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        invert: bool = False,
        drawings: int = 20,
        seed: int = 0,
        root: str | None = None,
        split_file: str | None = None,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(size, channels, invert)
        if drawings < 1:
            raise MetagenError(f"drawings: expected 1 or more for each letter, got {drawings}")
        if seed < 0:
            raise MetagenError(f"seed: expected 0 or more, got {seed}")
        self.drawings, self.seed = drawings, seed
        self.root, self.split_file, self.cache_dir = root, split_file, cache_dir
        self._faces = Faces(matplotlib_fonts() if root is None else own_fonts(root))
        self.split = self._split()
        self._place = {name: i for i, name in enumerate(name for part in SPLITS for name in self.split[part])}
        self._drawn: Image | None = None

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """Drawings of one letter, uint8 [n, C, H, W]. The first call draws every letter, or reads those that were kept.

        which: the places of the n drawings, in this order; None for all.

        Raises:
            MetagenError: there is no such task.
        """
        if task not in self._place:
            raise MetagenError(
                f"unknown task {task!r}: none of the {len(self._place)} letters of this set; expected a name of its"
                f" split, such as {next(iter(self._place))!r}"
            )
        if self._drawn is None:
            self._drawn = self._kept_or_drawn()
        drawings = self._drawn[self._place[task]]
        ink = torch.from_numpy(drawings.copy() if which is None else drawings[list(which)])
        grey = 255 - ink if self.invert else ink
        return grey[:, None].repeat(1, self.channels, 1, 1)

    def _split(self) -> Split:
        if self.split_file is None and self.root is not None:
            return self._kept_or_made_split()
        path = FIXED_SPLIT if self.split_file is None else placed(self.split_file)
        split = read_split(path)
        missing = [n for part in SPLITS for n in split[part] if letter_of(n) not in self._faces.by_letter]
        if missing:
            raise MetagenError(
                f"split file {path}: {len(missing)} of its letters are in none of the fonts, the first {missing[0]!r};"
                " add a font that has them or take them out"
            )
        return split

    def _kept_or_made_split(self) -> Split:
        path = self._cache_file("split", ".json")
        if path.exists():
            try:
                return read_split(path)
            except MetagenError as error:
                log.warning("glyphs: %s; making the split again", error)
        split = split_own(self._faces)
        keep(path, split.to_json().encode())
        return split

    def _cache_file(self, kind: str, suffix: str, *key: object) -> Path:
        return cache_file(self.cache_dir, f"glyphs-{kind}", suffix, kind, VERSION, self._faces.hash(), *key)

    def _kept_or_drawn(self) -> Image:
        names = list(self._place)
        path = self._cache_file("drawings", ".safetensors", names, self.size, self.drawings, self.seed)
        return kept_or_drawn(
            path,
            names,
            (self.drawings, self.size, self.size),
            lambda name: draw_letter(name, self._faces, self.size, self.drawings, self.seed),
            "letters",
        )
