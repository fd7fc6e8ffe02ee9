"""Saved zoos, in the folders of `metagen.storage.artifacts`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metagen.errors import MetagenError
from metagen.storage.artifacts import read_description, read_tensors, write_config, write_tensors
from metagen.storage.files import fresh_folder, write_atomically
from metagen.tasks.seen import SeenTasks, files_of


def save_zoo(
    path: Path,
    deltas: Mapping[str, torch.Tensor],
    info: Mapping[str, Any],
    overwrite: bool = False,
    seen: SeenTasks | None = None,
) -> None:
    """Write low-rank deltas of many tasks, each [T, ...], their info, and what they have seen.

    Raises:
        MetagenError: the place is taken, or cannot be written.
    """
    with fresh_folder(path, overwrite) as folder:
        weights = write_tensors(folder / "deltas.safetensors", deltas)
        write_config(folder, "zoo", weights, {"info": dict(info)})
        for name, data in files_of(None, seen).items():
            write_atomically(folder / name, data)
        text = f"# A zoo\n\n{len(info['tasks'])} models of one base; metagen fit learns from it (--model.zoo).\n"
        write_atomically(folder / "README.md", text.encode())


def load_zoo(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """The deltas of a zoo, its info, and the hash of their file.

    Raises:
        MetagenError: something is missing or damaged, or does not fit together.
    """
    config = read_description(path, "zoo", ("info",))
    deltas, info = read_tensors(path / "deltas.safetensors", config["weights_sha256"]), config["info"]
    tasks = info.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(each, str) for each in (*tasks, info.get("base_sha256"))):
        raise MetagenError(f"{path / 'config.json'}: expected names of tasks and base_sha256; make the zoo again")
    if any(len(d) != len(tasks) or not d.isfinite().all() for d in deltas.values()):
        raise MetagenError(f"{path / 'deltas.safetensors'}: expected finite deltas of {len(tasks)} tasks")
    return deltas, info, config["weights_sha256"]
