"""Saved extractors, in the folders of `metagen.storage.artifacts`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from metagen.errors import MetagenError
from metagen.metrics.extractors import Extractor, extractors
from metagen.storage.artifacts import load_module, read_description, save_module
from metagen.storage.bundled import bundled
from metagen.storage.model_cards import extractor_card
from metagen.tasks.seen import SeenTasks, files_of
from metagen.tasks.splits import Split
from metagen.tasks.task_data import TaskData


def save_extractor(
    path: Path,
    extractor: Extractor,
    info: Mapping[str, Any],
    split: Split | None = None,
    overwrite: bool = False,
    seen: SeenTasks | None = None,
) -> str:
    """Write an extractor; `info` says how it was made (data, training) and comes back from `load_extractor`.

    split: the tasks it was trained on and those held out: split.json.
    seen: all that it has seen, with hashes of the images: seen.json.

    Returns:
        The SHA-256 of its weights file.

    Raises:
        MetagenError: the place is taken, or cannot be written.
    """
    content = {"extractor": extractors.describe(extractor), "info": dict(info)}
    return save_module(path, "extractor", extractor, content, extractor_card, files_of(split, seen), overwrite)


def load_extractor(path: Path) -> tuple[Extractor, dict[str, Any], str]:
    """An extractor, its info, and the hash of its weights.

    Raises:
        MetagenError: something is missing, damaged, of another version, or does not fit together.
    """
    config = read_description(path, "extractor", ("extractor", "info"))
    extractor = load_module(path, config, lambda described: extractors.build(described["extractor"]))
    return extractor, config["info"], config["weights_sha256"]


def bundled_for(tasks: TaskData, role: Literal["select", "report"]) -> str | None:
    """The name of the extractor bundled for a task set, to choose by or to report; None if none takes its images."""
    name, task_set = f"{tasks.name}-{role}", tasks.task_set
    try:
        extractor = load_extractor(bundled("extractors", name))[0]
    except MetagenError:
        return None
    return name if (extractor.size, extractor.channels) == (task_set.size, task_set.channels) else None
