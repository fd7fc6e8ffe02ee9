"""One picture made into images of a task: as ink, as a photograph, or as a face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from metagen.preparation import faces
from metagen.preparation.ink import inked, squared
from metagen.preparation.paper import Pixels, darkness, evenness, on_table, shrunk
from metagen.preparation.quality import edge_width
from metagen.preparation.sheets import Sheet
from metagen.tasks.support_images import ground_of

PictureKind = Literal["ink", "photo", "faces"]
Kind = Literal["auto", "ink", "photo", "faces"]

SMALL = 256  # pixels of the longer side at which a picture is judged
COLOURED = 0.2  # chroma above that of the ground from which on a pixel has a colour
PAINTED = 0.15  # share of coloured pixels in a picture that is no drawing in ink
BLURRED = {"ink": 0.1, "photo": 0.2, "faces": 0.2}  # width of edges, as a share of a drawing's or a picture's side
BARE = 0.1  # darkness below which paper is bare
PAPER, EVEN = 0.7, 0.5  # share of bare paper in a picture of ink, and evenness of its ground; faces have less of both
MANY = 0.5  # share of pictures with a face, or of ink, from which on all are taken for such


@dataclass
class Made:
    """The images made of a picture.

    Attributes:
        images: uint8, [S, S] of ink, dark on white, else [S, S, 3].
        steps: what was done, in words.
        reason: why there are none; an empty text where there are some.
    """

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    reason: str = ""


def made_of(image: Pixels, kind: PictureKind, sheet: Sheet, size: int) -> Made:
    """The images in a picture [H, W, 3] that stands upright.

    Args:
        image: uint8.
        kind: of the picture.
        sheet: whether a picture of ink holds several drawings; "auto" to see.
        size: of the images, in pixels.

    Raises:
        MetagenError: no detector of faces is installed, for pictures of such.
    """
    if kind == "ink":
        return _of_ink(image, sheet, size)
    steps = []
    if kind == "faces":
        face = faces.find_face(image)
        if face is None:
            return Made(reason="no face found")
        image = faces.face_crop(image, face)
        steps = ["face cut out" + (f", turned by {face.angle:.0f} degrees" if round(face.angle) else "")]
    square = _middle(image)
    small = np.asarray(Image.fromarray(square).resize((size, size), Image.Resampling.LANCZOS))
    grey = small.mean(2, dtype=np.float32) / 255
    edge = edge_width(grey, np.ones_like(grey, bool)) / size
    return Made(reason=_blur(edge)) if edge > BLURRED[kind] else Made([small], steps)


def _of_ink(image: Pixels, sheet: Sheet, size: int) -> Made:
    dark = is_light_on_dark(image)
    found = inked(255 - image if dark else image, sheet)
    if not found.drawings:
        return Made(reason="no ink found")
    if found.edge > BLURRED["ink"]:
        return Made(reason=_blur(found.edge))
    steps = [*(["light ink made dark"] if dark else []), *found.steps]
    if len(found.drawings) > 1:
        steps.append("sheet cut apart")
    return Made([squared(drawing, size) for drawing in found.drawings], steps)


def _blur(edge: float) -> str:
    return f"blurred: its edges are {100 * edge:.0f} % of the picture wide"


def _middle(image: Pixels) -> Pixels:
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


def is_light_on_dark(image: Pixels) -> bool:
    """Whether a picture [H, W, 3] shows light ink on a dark ground, as a blackboard does."""
    grey = torch.from_numpy(shrunk(image, SMALL).mean(2, dtype=np.float32) / 255)
    return ground_of(grey[None, None]) == "dark"


def is_ink(image: Pixels) -> bool:
    """Whether a picture [H, W, 3] shows ink, of one colour or few, on one ground once its light is evened out."""
    small = shrunk(image, SMALL)
    page = on_table(255 - small if is_light_on_dark(small) else small)
    chroma = page.max(2).astype(int) - page.min(2)
    painted = (abs(chroma - np.median(chroma)) > 255 * COLOURED).mean()
    bare = (darkness(page) < BARE).mean()
    return bool(painted < PAINTED and bare > PAPER and evenness(page) > EVEN)


def kind_of(images: Sequence[Pixels]) -> PictureKind:
    """The kind of pictures, by what most of them are."""
    if np.mean([is_ink(image) for image in images]) >= MANY:
        return "ink"
    has_faces = faces.is_installed() and np.mean([faces.find_face(image) is not None for image in images]) >= MANY
    return "faces" if has_faces else "photo"
