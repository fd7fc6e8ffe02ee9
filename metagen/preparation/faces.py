"""Faces in photographs: found, turned level by the eyes, and cropped, by OpenCV's cascades (the extra `faces`)."""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from metagen.errors import MetagenError
from metagen.preparation.paper import Pixels, shrunk

INSTALL = "pip install 'metagen[faces]'"
SIDE = 640  # pixels of the longer side at which faces are looked for
LEAST = 1 / 8  # of the shorter side: smaller faces are those of people behind
MARGIN = 1.35  # sides of the detector's box, which ends at the brows and the chin
STEEPEST = 25.0  # degrees: what the detector finds is turned less
EYES = (0.15, 0.55)  # of the box's height: where eyes are
UPWARDS = 0.06  # of the box: how far the crop lies above its middle, for the hair


class Face(NamedTuple):
    """Where a face is.

    Attributes:
        x: of the middle, in pixels.
        y: of the middle, in pixels.
        side: of the square around it, from brows to chin, in pixels.
        angle: degrees, by which the line between the eyes falls from left to right; 0 where they were not found.
    """

    x: float
    y: float
    side: float
    angle: float


def is_installed() -> bool:
    """Whether a detector of faces is here."""
    return importlib.util.find_spec("cv2") is not None


def find_face(image: Pixels) -> Face | None:
    """The largest face in a picture [H, W, 3]; None where none is found.

    Source: P. Viola and M. Jones, Rapid object detection using a boosted cascade of simple features, CVPR 2001.

    Raises:
        MetagenError: no detector is installed.
    """
    small = shrunk(image, SIDE)
    scale = max(image.shape) / max(small.shape)
    grey = np.asarray(Image.fromarray(small).convert("L"))
    least = round(LEAST * min(grey.shape))
    boxes = _cascade("frontalface_default").detectMultiScale(grey, 1.1, 5, minSize=(least, least))
    if not len(boxes):
        return None
    left, top, side, _ = (int(value) for value in max(boxes, key=lambda box: box[2]))
    angle = _angle(grey[top : top + side, left : left + side])
    return Face(scale * (left + side / 2), scale * (top + side / 2), scale * side, angle)


def _angle(face: np.ndarray) -> float:
    """The slope in degrees of the line between the eyes in a face [S, S]; 0 where not one is found on each side."""
    side = len(face)
    found = _cascade("eye").detectMultiScale(face, 1.05, 4, minSize=(side // 8, side // 8))
    middles = [(x + width / 2, y + height / 2) for x, y, width, height in found]
    high = [(x, y) for x, y in middles if EYES[0] * side < y < EYES[1] * side]
    left, right = ([eye for eye in high if (eye[0] < side / 2) == is_left] for is_left in (True, False))
    if len(left) != 1 or len(right) != 1:
        return 0.0
    angle = math.degrees(math.atan2(right[0][1] - left[0][1], right[0][0] - left[0][0]))
    return angle if abs(angle) < STEEPEST else 0.0


def face_crop(image: Pixels, face: Face) -> Pixels:
    """The square around a face with a margin, turned level: uint8 [S, S, 3]; beyond the picture its rim goes on."""
    side = round(MARGIN * face.side)
    middle = np.array([face.x, face.y - UPWARDS * face.side])
    around = side  # so that the turned square lies within
    padded = np.pad(image, ((around, around), (around, around), (0, 0)), "edge")
    left, top = np.rint(middle + around - side).astype(int)
    square = Image.fromarray(padded[top : top + 2 * side, left : left + 2 * side])
    level = square.rotate(face.angle, Image.Resampling.BICUBIC) if face.angle else square
    inner = side - side // 2
    return np.asarray(level.crop((inner, inner, inner + side, inner + side)))


@cache
def _cascade(name: str) -> Any:  # noqa: ANN401 - OpenCV is not installed everywhere
    if not is_installed():
        raise MetagenError(f"faces: no detector is installed; {INSTALL}, or take --kind photo to cut the middle square")
    import cv2

    return cv2.CascadeClassifier(str(Path(cv2.__file__).parent / "data" / f"haarcascade_{name}.xml"))
