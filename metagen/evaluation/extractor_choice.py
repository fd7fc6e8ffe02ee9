"""The extractors of a domain: one through which models are chosen, one through which they are reported on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from metagen.core.energy_distance import blurred
from metagen.errors import MetagenError
from metagen.evaluation.criterion import PIXELS, FeatureFunction
from metagen.metrics import Extractor
from metagen.metrics.extractors import Scripted
from metagen.metrics.extractors.extractor_files import bundled_for, load_extractor
from metagen.metrics.extractors.scripted import SUFFIXES
from metagen.storage.bundled import bundled
from metagen.storage.files import placed
from metagen.tasks.seen import seen_of
from metagen.tasks.task_data import TaskData


def extractor_of(name: str | None, tasks: TaskData, split: str) -> tuple[Extractor, dict[str, Any]]:
    """An extractor by its name or folder, and its description; None for TASK_SET-report, which is bundled.

    Raises:
        MetagenError: there is none, it is damaged, or it was trained on a task that is to be judged.
    """
    if name and Path(name).suffix in SUFFIXES:  # who made it has to know what it was trained on
        scripted = Scripted(placed(name), tasks.task_set.size, tasks.task_set.channels)
        return scripted, {"name": scripted.name, "weights_sha256": scripted.weights_sha256}
    path = _folder(name, tasks)
    extractor, info, weights = load_extractor(path)
    tasks.check_unseen(str(path), info, seen_of(path, info), split)
    identity = {"name": path.absolute().name, "weights_sha256": weights}
    return extractor, identity | info | identity  # first, and not what the info calls so


def selection_features(
    name: str | None, tasks: TaskData, device: torch.device | str = "cpu"
) -> tuple[str, FeatureFunction]:
    """The name of what models are chosen through on val tasks, and its features of images that lie on a device.

    Args:
        name: an extractor's name or folder, or "pixels"; None for TASK_SET-select or, where none of the images' size
            is bundled with metagen, pixels: so the name of the criterion says which.
        tasks: what models are chosen on.
        device: where.

    Raises:
        MetagenError: the extractor is missing, damaged or takes other images, or was trained on val tasks.
    """
    name = name or bundled_for(tasks, "select") or PIXELS
    if name == PIXELS:
        return PIXELS, blurred
    try:
        return features_through(name, tasks, device)
    except MetagenError as error:
        raise MetagenError(f"{error}; or choose without one: --model.chosen_by {PIXELS}") from error


def features_through(name: str, tasks: TaskData, device: torch.device | str) -> tuple[str, FeatureFunction]:
    """The name of an extractor, and its features of images that lie on a device, to choose by on val tasks.

    Raises:
        MetagenError: it is missing, damaged or takes other images, or was trained on val tasks.
    """
    extractor, info = extractor_of(name, tasks, "val")
    task_set = tasks.task_set
    extractor.check(torch.Size((1, task_set.channels, task_set.size, task_set.size)))
    return info["name"], extractor.to(device).of


def _folder(name: str | None, tasks: TaskData) -> Path:
    try:
        return bundled("extractors", name or f"{tasks.name}-report")
    except MetagenError as error:
        if name:
            raise
        raise MetagenError(
            f"no extractor of {tasks.name} is bundled with metagen: name one as --extractor (metagen train-extractor "
            "makes one), or do without: --extractor none"
        ) from error
