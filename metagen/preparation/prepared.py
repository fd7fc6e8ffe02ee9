"""A folder of photographs or scans made into a task or a task set, with a list of what was done and what was left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from metagen.errors import MetagenError, check_at_least, check_choice, some
from metagen.preparation import faces
from metagen.preparation.contact_sheet import Panel, contact_sheet, thumbnail_of
from metagen.preparation.paper import Pixels
from metagen.preparation.pictures import Kind, PictureKind, kind_of, made_of
from metagen.preparation.quality import small_copy, twin_of
from metagen.preparation.sheets import Sheet
from metagen.storage.archives import is_archive
from metagen.storage.files import check_free, fresh_folder, placed, write_atomically
from metagen.storage.images import image_files, read_whole, save_png
from metagen.storage.strict_json import page
from metagen.tasks.folder import find_tasks

TWINS = 0.97  # correlation of small copies from which on two images are one
LOOKED_AT = 16  # pictures by which the kind of all is told
SIZE = 128  # pixels
BESIDE = (".html", ".json")  # of the contact sheet and of the list, after the name of the folder


@dataclass
class Source:
    """A picture, and the images made of it.

    Attributes:
        task: its folder, by its path below the top; "." for the top.
        name: of its file, by its path below the top.
        pixels: its width and height; None where it could not be read.
        before: the picture made small.
        images: by their names, uint8 [S, S] or [S, S, 3].
        steps: what was done to it.
        left_out: what was left out of it, or all of it, and why.
    """

    task: str
    name: str
    pixels: tuple[int, int] | None = None
    before: Pixels | None = None
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """Pictures made into images of tasks.

    Attributes:
        kind: of the pictures.
        size: of the images, in pixels.
        sources: the pictures, in the order of their names.
        notes: lines on all of them together.
    """

    kind: PictureKind
    size: int
    sources: Sequence[Source]
    notes: Sequence[str]

    @property
    def tasks(self) -> dict[str, list[Image.Image]]:
        """The images of each task that has some."""
        tasks: dict[str, list[Image.Image]] = {}
        for source in self.sources:
            if source.images:
                tasks.setdefault(source.task, []).extend(map(Image.fromarray, source.images.values()))
        return tasks

    @property
    def support(self) -> list[Image.Image]:
        """The images of the one task, as `Model.adapt` takes them.

        Raises:
            MetagenError: there are several tasks.
        """
        if len(self.tasks) > 1:
            raise MetagenError(f"support: expected one folder of pictures, got {len(self.tasks)}: {some(self.tasks)}")
        return next(iter(self.tasks.values()))

    @property
    def left_out(self) -> list[str]:
        """A line for each picture, or part of one, that was left out, with the reason."""
        return [f"{source.name}: {reason}" for source in self.sources for reason in source.left_out]

    @property
    def told(self) -> list[str]:
        """Lines on what is not in the summary: how many images each of several tasks has, and what was left out."""
        tasks = self.tasks
        counts = [f"{task}: {_counted(len(images), 'image')}" for task, images in tasks.items()] * (len(tasks) > 1)
        return [*counts, *self.notes, *(f"left out {line}" for line in self.left_out)]

    @property
    def summary(self) -> str:
        """A line: how many images of how many pictures, and what was done to these."""
        images, pictures = sum(len(source.images) for source in self.sources), len(self.sources)
        done = Counter(step.partition(",")[0].partition(" by ")[0] for each in self.sources for step in each.steps)
        steps = "".join(f"; {step}: {count}" for step, count in done.items())
        count = f"{_counted(images, 'image')} of {self.size} x {self.size} px from {_counted(pictures, 'picture')}"
        return f"{count}, as {self.kind}{steps}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def prepare(
    source: str | Path, out: str | Path | None = None, kind: Kind = "auto", sheet: Sheet = "auto", size: int = SIZE
) -> Prepared:
    """Make photographs or scans into a task or a task set.

    >>> from PIL import Image, ImageDraw
    >>> page = Image.new("RGB", (300, 300), "white")
    >>> ImageDraw.Draw(page).line([(60, 60), (200, 240), (240, 90)], fill="black", width=9)
    >>> page.save("page.png")
    >>> metagen.prepare("page.png").summary
    '1 image of 128 x 128 px from 1 picture, as ink'

    Args:
        source: a folder of pictures, a folder or archive of such folders, each of which becomes a task, or a picture.
        out: the folder to write PNG files to, a folder for each task as the task set `folder` reads it; beside it
            OUT.html shows before and after, and OUT.json lists all. None to write nothing.
        kind: "ink", "photo" or "faces"; "auto" to tell by the pictures.
        sheet: whether a picture of ink holds several drawings, which are cut apart; "auto" to tell by the gaps.
        size: of the images, in pixels.

    Raises:
        MetagenError: there are no pictures, none gives an image, no detector of faces is installed for a kind that
            needs it, something stands at `out` or beside it, or it cannot be written.
    """
    check_choice("kind", kind, Kind)
    if sheet not in ("auto", True, False):
        raise MetagenError(f"sheet: expected auto, true or false, got {sheet!r}")
    check_at_least("size", size, 8)
    place = None if out is None else _free(placed(out), placed(source))
    files, others = _files(placed(source))
    chosen = _kind(files) if kind == "auto" else kind
    notes = []
    if kind == "auto" and chosen == "photo" and not faces.is_installed():
        notes.append(f"faces are not looked for: no detector is installed; {faces.INSTALL}")
    sources = [Source(task, name) for task, name, _ in files]
    small: dict[str, dict[str, NDArray[np.float32]]] = {}
    for each, (_, _, path) in zip(sources, files, strict=True):
        _fill(each, path, (chosen, sheet, size), small.setdefault(each.task, {}))
    sources += [Source(".", name, left_out=["no image that can be read"]) for name in others]
    prepared = Prepared(chosen, size, sources, notes)
    if not prepared.tasks:
        raise MetagenError(f"{source}: nothing is left to prepare: {some(prepared.left_out)}")
    if place:
        write(prepared, place)
    return prepared


def _free(out: Path, source: Path) -> Path:
    """The folder to write to.

    Raises:
        MetagenError: something stands there or beside it, or it lies within the source.
    """
    check_free(out, overwrite=False)
    for suffix in BESIDE:
        if (beside := out.with_name(out.name + suffix)).exists():
            raise MetagenError(f"{beside}: exists, and nothing is overwritten; choose another place than {out}")
    if source.resolve() in out.resolve().parents:
        raise MetagenError(f"{out}: lies in {source}, which is read; choose a place beside it")
    return out


def _files(source: Path) -> tuple[list[tuple[str, str, Path]], list[str]]:
    """The task, the name and the path of each picture, and the names of other files."""
    if source.is_file() and not is_archive(source):
        return [(".", source.name, source)], []
    folders, others = find_tasks(str(source))
    files = [(task, folder) for task, folder in folders.items()]
    return [(task, str(Path(task) / path.name), path) for task, folder in files for path in image_files(folder)], others


def _kind(files: Sequence[tuple[str, str, Path]]) -> PictureKind:
    """The kind of pictures, by some evenly spaced ones that can be read."""
    some_of_them = files[:: max(1, len(files) // LOOKED_AT)][:LOOKED_AT]
    read = [image for _, _, path in some_of_them if not isinstance(image := _read(path), str)]
    return kind_of(read) if read else "photo"


def _read(path: Path) -> Pixels | str:
    """The pixels of a picture, or why it cannot be read."""
    try:
        return read_whole(path)
    except MetagenError as error:
        return str(error).removeprefix(f"{path}: ")


def _fill(
    source: Source, path: Path, how: tuple[PictureKind, Sheet, int], small: dict[str, NDArray[np.float32]]
) -> None:
    """Make the images of one picture; those that the task has already, by their small copies, are left out."""
    image = _read(path)
    if isinstance(image, str):
        source.left_out.append(image)
        return
    source.pixels, source.before = (image.shape[1], image.shape[0]), thumbnail_of(image)
    made = made_of(image, *how)
    source.steps = made.steps
    source.left_out += [made.reason] if made.reason else []
    for name, each in zip(_names(source.name, len(made.images), small), made.images, strict=True):
        copy = small_copy(each)
        twin = twin_of(copy, [*small.values()], TWINS)
        if twin is None:
            source.images[name], small[name] = each, copy
        else:
            source.left_out.append(f"{name} is nearly the same as {[*small][twin]}")


def _names(file: str, count: int, taken: Sequence[str] | dict[str, Any]) -> Iterator[str]:
    """The names of the images of one file, none of them taken, whatever the file system thinks of capitals."""
    path, digits = Path(file), max(2, len(str(count)))
    lower = {name.lower() for name in taken}
    for number in range(1, count + 1):
        end = f"-{number:0{digits}}" if count > 1 else ""
        name = f"{path.stem}{end}.png"
        yield name if name.lower() not in lower else f"{path.name.replace('.', '-')}{end}.png"


def write(prepared: Prepared, out: Path) -> None:
    """Write the images, a folder for each task, and beside them the contact sheet and the list.

    Raises:
        MetagenError: something stands there, or it cannot be written.
    """
    with fresh_folder(out) as folder:
        for source in prepared.sources:
            for name, image in source.images.items():
                pixels = torch.from_numpy(image.reshape(*image.shape[:2], -1)).permute(2, 0, 1)
                save_png(pixels, folder / source.task / name)
        html, listed = (out.with_name(out.name + suffix) for suffix in BESIDE)
        write_atomically(html, contact_sheet(f"{out.name}: {prepared.summary}", map(_panel, prepared.sources)))
        write_atomically(listed, page(_listed(prepared)))


def _panel(source: Source) -> Panel:
    return Panel(source.name, source.before, [*source.images.values()], source.steps, source.left_out)


def _listed(prepared: Prepared) -> dict[str, Any]:
    pictures = [
        {
            "file": source.name,
            "pixels": source.pixels,
            "images": [str(Path(source.task) / name) for name in source.images],
            "done": source.steps,
            "left_out": source.left_out,
        }
        for source in prepared.sources
    ]
    return {"kind": prepared.kind, "size": prepared.size, "notes": [*prepared.notes], "pictures": pictures}
