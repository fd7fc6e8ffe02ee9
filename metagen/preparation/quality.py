"""Pictures that would harm a task: blurred ones, and those that are there already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from metagen.preparation.paper import Grey

STEEP = 90  # percentile of slopes from which on edges are sharp
SMALL = 16  # pixels of the side at which pictures are compared


def edge_width(levels: Grey, where: NDArray[np.bool_]) -> float:
    """The width of the sharper edges in levels [H, W], in pixels: the range of levels over the steeper slopes.

    Measures of high frequencies would take the grain of a blurred photograph for sharpness.

    where: the pixels to look at, [H, W].
    """
    if not where.any():
        return float("inf")
    low, high = np.percentile(levels[where], [1, 99])
    slopes = np.hypot(*np.gradient(ndimage.gaussian_filter(levels, 1)))[where]
    steep = slopes[slopes > slopes.max() / 4]  # what is plain has no edges, be it much or little
    return float((high - low) / max(np.percentile(steep, STEEP), 1e-6))


def small_copy(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An image [S, S] or [S, S, 3] made small, of mean 0 and length 1, so that products are correlations."""
    grey = Image.fromarray(image).convert("L").resize((SMALL, SMALL), Image.Resampling.BOX)
    levels = np.asarray(grey, np.float32).ravel()
    levels -= levels.mean()
    return levels / max(float(np.linalg.norm(levels)), 1e-6)


def twin_of(own: NDArray[np.float32], others: Sequence[NDArray[np.float32]], alike: float) -> int | None:
    """The place of the first thumbnail that correlates with this one by `alike` or more; None where there is none."""
    if not others:
        return None
    near = np.flatnonzero(np.stack(others) @ own >= alike)
    return int(near[0]) if len(near) else None
