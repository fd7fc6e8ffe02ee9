"""Splits: the names of the tasks to train on, to choose by and to report on, fixed and hashed."""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from metagen.core.seeding import numpy_rng
from metagen.errors import MetagenError
from metagen.storage.strict_json import once

log = logging.getLogger(__name__)

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
    """Read a split that `to_json` wrote, or one written by hand: without a hash it is taken as it is.

    Raises:
        MetagenError: the file is missing or damaged, or its hash is not that of its names.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once)
    except FileNotFoundError:
        raise MetagenError(f"split file {path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MetagenError(f"split file {path}: not a split ({type(error).__name__}: {error})") from error
    if not isinstance(data, dict) or not all(_is_names(data.get(part)) for part in SPLITS):
        raise MetagenError(f"split file {path}: not a split; expected {{{_FORM}}} with the names of tasks as text")
    try:
        split = Split(*(tuple(data[part]) for part in SPLITS))
    except MetagenError as error:
        raise MetagenError(f"{error}: {path}") from None
    stated = data.get("sha256", split.hash)
    if stated != split.hash:
        other = " ".join(str(stated).split())[:12]
        raise MetagenError(
            f"split file {path}: its names hash to {split.hash[:12]}, not to the stated {other}; if you have changed "
            "them on purpose, leave sha256 out"
        )
    return split


_FORM = ", ".join(f'"{part}": [...]' for part in SPLITS)


def _is_names(part: object) -> bool:
    return isinstance(part, list) and all(isinstance(name, str) for name in part)


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


def split_by_count(names: Iterable[str], val: float, test: float, seed: int) -> Split:
    """Assign tasks by the same draws as `split_by_hash`, but in their order, so many of them and no fewer.

    val, test: how many tasks, or a share of them below 1, of which there is at least one.
    """
    ordered = sorted(names, key=lambda name: (numpy_rng(seed, "split", name).random(), name))
    tests, vals = (max(1, round(n * len(ordered))) if n < 1 else int(n) for n in (test, val))
    parts = ordered[tests + vals :], ordered[tests : tests + vals], ordered[:tests]
    return Split(*(tuple(sorted(part)) for part in parts))


def plain(name: str) -> str:
    """A name in the one Unicode form (NFC) in which names are compared: an archive may hold another than the disk."""
    return unicodedata.normalize("NFC", name)


def without_top(names: Sequence[str]) -> list[str]:
    """The names less the one top folder that all of them lie in, as archives have it; as they are where none is."""
    if len({name.partition("/")[0] for name in names}) == 1 and all("/" in name for name in names):
        return [name.partition("/")[2] for name in names]
    return list(names)


def _slashed(name: str) -> str:
    """A name as it would be written here: by hand, or on Windows, others come about."""
    return name.replace("\\", "/").removeprefix("./").rstrip("/")


def as_named_there(split: Split, there: Collection[str], where: object) -> Split:
    """The split in the names that its tasks have there: in another spelling, or under another top folder, or none.

    where: the file that it stands in, for the message.
    """
    there, wanted = list(there), [plain(name) for part in SPLITS for name in split[part]]
    present = [plain(name) for name in there]
    slashed = [_slashed(name) for name in wanted]
    for spelled, known in (
        (wanted, present),
        (slashed, present),
        (without_top(slashed), present),
        (slashed, without_top(present)),
    ):
        names = dict(zip(known, there, strict=True))
        if all(name in names for name in spelled):
            mine = iter([names[name] for name in spelled])
            named = Split(*(tuple(next(mine) for _ in split[part]) for part in SPLITS))
            if named != split:
                log.warning("split file %s: its tasks are named otherwise here, as %r first", where, names[spelled[0]])
            return named
    return split
