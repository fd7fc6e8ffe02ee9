"""Drawings kept as safetensors in metagen's cache, so that they are made once."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from metagen.errors import MetagenError
from metagen.storage.files import cache_folder, write_atomically
from metagen.storage.strict_json import to_json

log = logging.getLogger(__name__)

LONG = 5_000_000  # values to draw from which a progress bar is shown

Images = NDArray[np.uint8]


def cache_file(folder: str | None, name: str, suffix: str, *key: object) -> Path:
    """Where something that a key names is kept, in the folder given or else in metagen's cache."""
    digest = hashlib.sha256(to_json(key).encode()).hexdigest()
    return cache_folder(folder) / f"{name}-{digest[:20]}{suffix}"


def read_images(path: Path, shape: tuple[int, ...]) -> Images | None:
    """The images of a cache file, or None where there is no such file or it is damaged."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            images, stated = file.get_tensor("images"), (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        log.warning("cache file %s cannot be read (%s); drawing again", path, error)
        return None
    if images.shape != shape or images.dtype != np.uint8 or hashlib.sha256(images.tobytes()).hexdigest() != stated:
        log.warning("cache file %s is damaged; drawing again", path)
        return None
    return np.asarray(images, np.uint8)


def keep(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all; where it cannot be written, warn and go on without it."""
    try:
        write_atomically(path, content)
    except MetagenError as error:
        log.warning("cache folder %s cannot be written (%s); nothing is kept", path.parent, error)


def kept_or_drawn(
    path: Path, names: Sequence[str], shape: tuple[int, ...], draw: Callable[[str], Images], what: str
) -> Images:
    """Images of a cache file; where it has none, they are drawn name by name and kept there.

    Args:
        path: of the file.
        names: whose images they are.
        shape: of the images of one name.
        draw: makes those of a name, uint8 of this shape.
        what: the names are, for the progress bar of long work: "letters".

    Returns:
        uint8 [names, *shape].
    """
    kept = read_images(path, (len(names), *shape))
    if kept is not None:
        return kept
    images = np.empty((len(names), *shape), np.uint8)
    steps = track(
        names,
        f"drawing {len(names)} {what}",
        console=Console(stderr=True),
        transient=True,
        disable=images.size < LONG,
    )
    for place, name in enumerate(steps):
        images[place] = draw(name)
    keep(path, save({"images": images}, {"sha256": hashlib.sha256(images.tobytes()).hexdigest()}))
    return images
