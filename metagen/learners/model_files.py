"""Saved models and adapted models: a learner with its generator, in the folders of `metagen.storage.artifacts`."""

from __future__ import annotations

import logging
import os
import reprlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from metagen.errors import MetagenError
from metagen.generators import generators
from metagen.learners import Learner, learners
from metagen.storage.artifacts import (
    FULL,
    brief,
    load_module,
    read_config,
    read_description,
    read_tensors,
    save_module,
    write_config,
    write_tensors,
)
from metagen.storage.bundled import all_bundled
from metagen.storage.files import fresh_folder, write_atomically
from metagen.storage.model_cards import model_card
from metagen.tasks.seen import SeenTasks, files_of
from metagen.tasks.splits import Split

log = logging.getLogger(__name__)


def describe(learner: Learner) -> dict[str, Any]:
    """Generator and learner as JSON-ready data: all that is needed to build them again."""
    return {"generator": generators.describe(learner.generator), "learner": learners.describe(learner)}


def build(description: Mapping[str, Any]) -> Learner:
    """The untrained learner that `describe` wrote down.

    Raises:
        MetagenError: a name or an option is unknown or out of range.
    """
    return learners.build(description["learner"], generators.build(description["generator"]))


def save_model(
    path: Path,
    learner: Learner,
    info: Mapping[str, Any],
    split: Split | None = None,
    overwrite: bool = False,
    stored_as: str = FULL,
    seen: SeenTasks | None = None,
) -> str:
    """Write a model; `info` says how it was made (data, training) and comes back from `load_model`.

    split: the tasks it was trained on and those held out: split.json.
    seen: all that it has seen, with hashes of the images: seen.json.
    stored_as: "float32", or "float16" for a file of half the size, which is widened when it is loaded.

    Returns:
        The SHA-256 of its weights file.

    Raises:
        MetagenError: the place is taken, or cannot be written, or float16 cannot hold a weight.
    """
    stored = {} if stored_as == FULL else {"stored_as": stored_as}
    content = {**describe(learner), **stored, "info": dict(info)}
    return save_module(path, "model", learner, content, model_card, files_of(split, seen), overwrite)


def load_model(path: Path) -> tuple[Learner, dict[str, Any], str]:
    """The learner of an exported model, its info, and the hash of its weights.

    Raises:
        MetagenError: something is missing, damaged, of another version, or does not fit together.
    """
    config = read_description(path, "model", ("generator", "learner", "info"))
    learner = load_module(path, config, build)
    return learner, config["info"], config["weights_sha256"]


def save_adapted(
    path: Path,
    difference: Mapping[str, torch.Tensor],
    support: torch.Tensor | None,
    base: Path,
    info: Mapping[str, Any],
    standalone: bool = False,
    overwrite: bool = False,
) -> None:
    """Write an adapted model as its difference from `base`, a saved model that it names by hash and relative path.

    support: the images [k, C, H, W] that its generator uses when it samples, if it does.
    standalone: put a complete copy of the base inside.

    Raises:
        MetagenError: the base is not a saved model, or the place is taken or cannot be written.
    """
    base_hash = read_config(base, "model")["weights_sha256"]
    place, home = path.resolve(), base.resolve()
    if place == home or place in home.parents or home in place.parents:
        raise MetagenError(f"{path}: would lie in its own base model {base}, or replace it; choose another folder")
    with fresh_folder(path, overwrite) as folder:
        if standalone:
            try:
                shutil.copytree(base, folder / "base")
            except OSError as error:
                raise MetagenError(f"{path}: cannot put a copy of {base} there ({error})") from error
        where = "base" if standalone else _path_from(place, home)
        weights = write_tensors(folder / "difference.safetensors", difference)
        reference = {"path": Path(where).as_posix(), "weights_sha256": base_hash}
        content: dict[str, Any] = {"base": reference, "info": dict(info)}
        if support is not None:
            content["support_sha256"] = write_tensors(folder / "support.safetensors", {"support": support})
        write_config(folder, "adapted", weights, content)
        text = f"# An adapted model\n\nMade by metagen from {info.get('shots')} images. Load it with `metagen.load`.\n"
        write_atomically(folder / "README.md", text.encode())


def _path_from(place: Path, home: Path) -> str:
    """The path from one folder to another: relative, so that both may move, where there is one."""
    try:
        return os.path.relpath(home, place)
    except ValueError:  # from one drive of Windows to another
        return str(home)


def load_adapted(path: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor | None, Path, dict[str, Any]]:
    """An adapted model's difference and support (unchecked against the base), its base's path and its info.

    Raises:
        MetagenError: something is missing or damaged, or the base is not the one it was made from.
    """
    config = read_config(path, "adapted")
    where, reference, info = path / "config.json", config.get("base"), config.get("info")
    if not isinstance(reference, dict) or not isinstance(reference.get("path"), str) or not isinstance(info, dict):
        raise MetagenError(f"{where}: expected the objects base (path, weights_sha256) and info; save it again")
    if not reference["path"].isprintable():
        raise MetagenError(f"{where}: its base's path {reprlib.repr(reference['path'])} is none; save it again")
    base = _base_of(path, reference)
    difference = read_tensors(path / "difference.safetensors", config["weights_sha256"])
    support = None
    if "support_sha256" in config:
        support = read_tensors(path / "support.safetensors", config["support_sha256"]).get("support")
        if support is not None and support.dtype != torch.float32:
            raise MetagenError(f"{path / 'support.safetensors'}: expected torch.float32, got {support.dtype}")
    return difference, support, base, info


def _base_of(path: Path, reference: Mapping[str, Any]) -> Path:
    """The base that an adapted model names: the folder there or, where it has moved, the one bundled with metagen."""
    relative, stated = reference["path"].replace("\\", "/"), reference.get("weights_sha256")
    base = Path(os.path.normpath(path.resolve() / relative))
    digest = damage = None
    if os.path.isfile(base / "config.json"):  # where the name is too long, Path.is_file raises
        try:
            digest = read_config(base, "model")["weights_sha256"]
        except MetagenError as error:
            damage = error
    if digest and digest == stated:
        return base
    for other in all_bundled("models"):
        if read_config(other)["weights_sha256"] == stated:
            log.warning("%s: its base model is not at %s any more; took %s", path, brief(base), other.name)
            return other
    if damage:
        raise damage
    where = path / "config.json"
    if digest is None:
        hint = "put it there, or save it again with --standalone"
        raise MetagenError(f"{where}: its base model is not at {brief(base)}; {hint}")
    raise MetagenError(
        f"{where}: made from a base with weights {reprlib.repr(stated)}, but {base} has {reprlib.repr(digest)}; put "
        "the right base there"
    )
