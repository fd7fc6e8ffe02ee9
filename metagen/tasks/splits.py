"""Which tasks may be trained on: a list of names for each split, fixed and hashed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from metagen.errors import MetagenError
from metagen.seeding import numpy_rng

SPLITS = ("train", "val", "test")
HELD_OUT = SPLITS[1:]


@dataclass(frozen=True)
class Split:
    """The names of the tasks of each split; no name stands in two."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [name for split in SPLITS for name in self[split]]
        if len(names) != len(set(names)):
            twice = min(name for name, times in Counter(names).items() if times > 1)
            raise MetagenError(f"split: task {twice!r} is named twice; every task belongs to one split alone")

    def __getitem__(self, split: str) -> tuple[str, ...]:
        if split not in SPLITS:
            raise MetagenError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
        return tuple(getattr(self, split))

    @property
    def hash(self) -> str:
        """SHA-256 of the names, in order: two runs agree on what is held out if and only if this agrees."""
        names = json.dumps([self.train, self.val, self.test], ensure_ascii=True)
        return hashlib.sha256(names.encode()).hexdigest()

    def to_json(self) -> str:
        """The split as JSON text, one name a line, with its hash."""
        return json.dumps({"sha256": self.hash, **{s: self[s] for s in SPLITS}}, indent=1, ensure_ascii=False) + "\n"


def read_split(path: Path) -> Split:
    """Read a split that `to_json` wrote.

    Raises:
        MetagenError: the file is missing or damaged, or its hash is not that of its names.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        split = Split(*(tuple(map(str, data[s])) for s in SPLITS))
        stated = " ".join(str(data["sha256"]).split())
    except FileNotFoundError:
        raise MetagenError(f"split file {path}: no such file") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MetagenError(f"split file {path}: not a split ({type(error).__name__}: {error})") from error
    if stated != split.hash:
        raise MetagenError(f"split file {path}: its names hash to {split.hash[:12]}, not to the stated {stated[:12]}")
    return split


def split_of(folder: Path) -> Split | None:
    """The split that lies in a saved folder; None if there is none.

    Raises:
        MetagenError: it is damaged.
    """
    path = folder / "split.json"
    return read_split(path) if path.is_file() else None


def split_by_hash(names: Iterable[str], fractions: Mapping[str, float], seed: int) -> Split:
    """Assign each task by a seeded hash of its name alone, so that adding tasks moves no other one.

    fractions: the expected share of val and test, each in (0, 1); the rest is train.
    """
    parts: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in sorted(names):
        draw = numpy_rng(seed, "split", name).random()
        split = (
            "test" if draw < fractions["test"] else "val" if draw < fractions["test"] + fractions["val"] else "train"
        )
        parts[split].append(name)
    return Split(*(tuple(parts[split]) for split in SPLITS))
