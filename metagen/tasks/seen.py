"""The tasks that a model was trained and chosen on, by their names and, whatever they are called, by image hashes."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metagen.errors import MetagenError
from metagen.storage.strict_json import read_json, to_json
from metagen.tasks.splits import SPLITS, Split, plain, split_of, without_top

FILE = "seen.json"
PARTS = SPLITS[:2]  # what a model is trained on, and what it is chosen on
LENGTH = 6  # characters of a hash, 6 bits each: of a million others, one equals it with a chance of 1 in 70,000
MOST = 0.5  # of a task's images: where more than this share was seen, the task was

Tasks = dict[str, dict[str, dict[str, str]]]  # by task set, part and name: the hashes, one after the other


@dataclass(frozen=True)
class SeenTasks:
    """The tasks that a model, an extractor or a run has seen.

    Attributes:
        tasks: by the name of a task set, by "train" or "val", and by the name of a task, the hashes of its images;
            none where they are read anew each time, or were not kept.
    """

    tasks: Tasks = field(default_factory=dict)

    def __or__(self, other: SeenTasks) -> SeenTasks:
        """All that the one or the other has seen."""
        tasks: Tasks = {name: {part: dict(parts.get(part, {})) for part in PARTS} for name, parts in self.tasks.items()}
        for name, parts in other.tasks.items():
            mine = tasks.setdefault(name, {part: {} for part in PARTS})
            for part in PARTS:
                for task, prints in parts.get(part, {}).items():
                    mine[part][task] = joined([*separate(mine[part].get(task, "")), *separate(prints)])
        return SeenTasks(tasks)

    def prints(self, parts: Sequence[str] = PARTS) -> set[str]:
        """The hashes of all images of these parts, of any task set."""
        texts = (text for each in self.tasks.values() for part in parts for text in each.get(part, {}).values())
        return {each for text in texts for each in separate(text)}

    def without_prints(self, but: str | None = None) -> int:
        """The number of tasks that are known by their names alone, but for those of one task set."""
        parts = [part for name, each in self.tasks.items() if name != but for part in each.values()]
        return sum(not prints for part in parts for prints in part.values())

    def named(self, task_set: str, names: Sequence[str], parts: Sequence[str] = PARTS) -> list[str]:
        """Those of the names of a task set that these parts have, in another Unicode form or under a top folder too."""
        here = self.tasks.get(task_set, {})
        known = [plain(name) for part in PARTS for name in here.get(part, {})]
        used = {plain(name) for part in parts for name in here.get(part, {})}
        bare = {short for name, short in zip(known, without_top(known), strict=True) if name in used}
        spelled = [plain(name) for name in names]
        rows = zip(names, spelled, without_top(spelled), strict=True)
        return sorted(name for name, whole, short in rows if whole in used | bare or short in used)

    def to_json(self) -> str:
        """As JSON text, one task a line."""
        return to_json(self.tasks, indent=0, ensure_ascii=False) + "\n"


def seen_by(tasks: Any, where: object) -> SeenTasks:  # noqa: ANN401
    """Seen tasks from data of any origin, of the form of `SeenTasks.tasks`.

    Raises:
        MetagenError: it has another form.
    """
    try:
        whole = all(
            isinstance(each, str) for parts in tasks.values() for names in parts.values() for each in names.values()
        )
    except AttributeError:
        whole = False
    if not whole:
        raise MetagenError(f"{where}: does not say which tasks were seen; export the model again, or take it away")
    return SeenTasks(tasks)


def seen_of(folder: Path, info: Mapping[str, Any]) -> SeenTasks | None:
    """The tasks that the model or extractor of a saved folder has seen, by its split and the hashes that were kept.

    info: of the model or extractor. None where nobody knows.

    Raises:
        MetagenError: it is damaged.
    """
    data, split, kept = info.get("data"), split_of(folder), kept_in(folder)
    if split is None:
        return kept if kept.tasks else None
    return seen_in(data.get("task_set") if isinstance(data, dict) else None, split) | kept


def files_of(split: Split | None, seen: SeenTasks | None) -> dict[str, bytes]:
    """The files split.json and seen.json of a saved folder, by name; of None no file."""
    return {name: part.to_json().encode() for name, part in (("split.json", split), (FILE, seen)) if part}


def kept_in(folder: Path) -> SeenTasks:
    """The tasks in the seen.json of a saved folder; none where there is no such file.

    Raises:
        MetagenError: it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return SeenTasks()
    try:
        return seen_by(read_json(path), path)
    except (OSError, ValueError, RecursionError) as error:
        raise MetagenError(f"{path}: cannot be read ({type(error).__name__}); export the model again") from error


def seen_in(task_set: str | None, split: Split) -> SeenTasks:
    """The train and val tasks of a split as seen, of whose images nothing is known."""
    return SeenTasks({str(task_set): {part: dict.fromkeys(split[part], "") for part in PARTS}})


def mostly(prints: Sequence[str], seen: set[str]) -> bool:
    """Whether more than half of a task's images were seen."""
    return sum(each in seen for each in prints) > MOST * len(prints)


def joined(prints: Iterable[str]) -> str:
    """Hashes in one text, each once."""
    return "".join(dict.fromkeys(prints))


def separate(text: str) -> list[str]:
    """The reverse of `joined`."""
    return [text[at : at + LENGTH] for at in range(0, len(text), LENGTH)]


def prints_of(images: torch.Tensor) -> tuple[str, ...]:
    """The hashes of images [n, C, H, W], uint8, with C = 1 or 3; see `pixel_print`. Of other types none."""
    if images.dtype != torch.uint8:
        return ()
    pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    return tuple(each for each in map(pixel_print, pixels) if each)


def pixel_print(pixels: NDArray[np.uint8]) -> str:
    """A hash of decoded pixels [H, W, 3], the same of an image and its negative.

    Of an image of one colour none (""): it says nothing of a task.
    """
    first = pixels[0, 0]
    if (pixels == first).all():
        return ""
    dark = 255 - pixels if first[0] > 127 else pixels
    digest = hashlib.sha256(b"%dx%d" % pixels.shape[:2] + dark.tobytes()).digest()
    return base64.b64encode(digest)[:LENGTH].decode()
