"""What is shared: folders of safetensors and JSON, checked when read, never pickle.

A model:          config.json, model.safetensors, split.json, README.md
An adapted model: config.json, difference.safetensors, README.md (and base/, a whole model, if standalone)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from metagen.errors import MetagenError
from metagen.files import fresh_folder, write_atomically
from metagen.generators import generators
from metagen.learners import Learner, learners
from metagen.tasks.splits import Split

VERSION = 1
KINDS = ("model", "adapted")
MAX_CONFIG_BYTES = 8_000_000


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
    path: Path, learner: Learner, info: Mapping[str, Any], split: Split | None = None, overwrite: bool = False
) -> str:
    """Write a model; `info` says how it was made (data, training) and comes back from `load_model`.

    split: the tasks it was trained on and those held out, written beside it.

    Returns:
        The SHA-256 of its weights file.

    Raises:
        MetagenError: the place is taken, or cannot be written.
    """
    with fresh_folder(path, overwrite) as folder:
        weights = _write_tensors(folder / "model.safetensors", learner.state_dict())
        _write_config(folder, "model", weights, {**describe(learner), "info": dict(info)})
        write_atomically(folder / "README.md", _card(learner, info, weights).encode())
        if split:
            write_atomically(folder / "split.json", split.to_json().encode())
    return weights


def load_model(path: Path) -> tuple[Learner, dict[str, Any], str]:
    """The learner of an exported model, what is told of it, and the hash of its weights.

    Raises:
        MetagenError: something is missing, damaged, of another version, or does not fit together.
    """
    config = read_config(path, "model")
    where = path / "config.json"
    if not all(isinstance(config.get(part), dict) for part in ("generator", "learner", "info")):
        raise MetagenError(f"{where}: expected the objects generator, learner and info; export the model again")
    try:
        learner = build(config)
    except MetagenError as error:
        raise MetagenError(f"{where}: {error}") from error
    tensors = _read_tensors(path / "model.safetensors", config)
    check_tensors(path / "model.safetensors", tensors, learner.state_dict())
    learner.load_state_dict(tensors)
    return learner.requires_grad_(False).eval(), config["info"], config["weights_sha256"]


def save_adapted(
    path: Path,
    difference: Mapping[str, torch.Tensor],
    base: Path,
    info: Mapping[str, Any],
    standalone: bool = False,
    overwrite: bool = False,
) -> None:
    """Write an adapted model as its difference from `base`, a saved model that it names by hash and relative path.

    standalone: put a whole copy of the base inside.

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
        where = "base" if standalone else os.path.relpath(home, place)
        weights = _write_tensors(folder / "difference.safetensors", difference)
        reference = {"path": Path(where).as_posix(), "weights_sha256": base_hash}
        _write_config(folder, "adapted", weights, {"base": reference, "info": dict(info)})
        text = f"# An adapted model\n\nMade by metagen from {info.get('shots')} images. Load it with `metagen.load`.\n"
        write_atomically(folder / "README.md", text.encode())


def load_adapted(path: Path) -> tuple[dict[str, torch.Tensor], Path, dict[str, Any]]:
    """The difference of an adapted model (unchecked against the base), where its base lies, and what is told of it.

    Raises:
        MetagenError: something is missing or damaged, or the base is not the one it was made from.
    """
    config = read_config(path, "adapted")
    where, reference, info = path / "config.json", config.get("base"), config.get("info")
    if not isinstance(reference, dict) or not isinstance(reference.get("path"), str) or not isinstance(info, dict):
        raise MetagenError(f"{where}: expected the objects base (path, weights_sha256) and info; save it again")
    base = Path(os.path.normpath(path.resolve() / reference["path"].replace("\0", "")))
    if not base.is_dir():
        raise MetagenError(
            f"{where}: its base model is not at {base}; put it there, or save it again with --standalone"
        )
    found = read_config(base, "model")["weights_sha256"]
    if found != reference.get("weights_sha256"):
        raise MetagenError(
            f"{where}: made from a base with weights {str(reference.get('weights_sha256'))[:12]}, but {base} has "
            f"{found[:12]}; put the right base there"
        )
    return _read_tensors(path / "difference.safetensors", config), base, info


def read_config(path: Path, kind: str | None = None) -> dict[str, Any]:
    """The config of a saved folder, its version and (if given) kind checked.

    Raises:
        MetagenError: not such a folder.
    """
    where = path / "config.json"
    try:
        if where.stat().st_size > MAX_CONFIG_BYTES:
            raise MetagenError(f"{where}: larger than {MAX_CONFIG_BYTES} bytes; not a metagen config")
        config = json.loads(where.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MetagenError(f"{path}: not a saved model (no config.json); name a folder that metagen wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        raise MetagenError(f"{where}: cannot be read ({type(error).__name__}); export the model again") from error
    if not isinstance(config, dict) or config.get("format") != "metagen":
        raise MetagenError(f"{where}: not a metagen config")
    if config.get("version") != VERSION:
        raise MetagenError(f"{where}: version {config.get('version')!r}; this metagen reads version {VERSION}")
    if config.get("kind") not in KINDS or not isinstance(config.get("weights_sha256"), str):
        raise MetagenError(f"{where}: expected kind ({' or '.join(KINDS)}) and weights_sha256")
    if kind and config["kind"] != kind:
        raise MetagenError(f"{path}: expected a saved {kind} model, got one of kind {config['kind']!r}")
    return config


def check_tensors(where: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors whose names, shapes or types are not the expected ones.

    Raises:
        MetagenError: naming the first few that differ.
    """
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        raise MetagenError(f"{where}: missing tensors {missing[:5]}, unexpected tensors {extra[:5]}; not of this model")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise MetagenError(
                f"{where}: {name} expected {list(tensor.shape)} {tensor.dtype}, "
                f"got {list(found[name].shape)} {found[name].dtype}"
            )
        if not found[name].isfinite().all():
            raise MetagenError(f"{where}: {name} holds values that are not finite")


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    data = save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def _read_tensors(path: Path, config: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MetagenError(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != config["weights_sha256"]:
        raise MetagenError(
            f"{path}: its SHA-256 is {found[:12]}, not the stated {config['weights_sha256'][:12]}; damaged"
        )
    try:
        tensors: dict[str, torch.Tensor] = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise MetagenError(f"{path}: not a safetensors file ({error})") from error
    return tensors


def _write_config(folder: Path, kind: str, weights: str, content: Mapping[str, Any]) -> None:
    config = {"format": "metagen", "version": VERSION, "kind": kind, "weights_sha256": weights, **content}
    write_atomically(folder / "config.json", (json.dumps(config, indent=1) + "\n").encode())


def _card(learner: Learner, info: Mapping[str, Any], weights: str) -> str:
    parts = describe(learner)
    count = sum(w.numel() for w in learner.parameters())
    lines = [f"- {key}: `{json.dumps(value)}`" for key, value in {**parts, **info}.items() if key != "split"]
    return (
        f"# A metagen model: {parts['learner']['name']} over {parts['generator']['name']}\n\n"
        f"{count:,} parameters; weights SHA-256 `{weights}`.\n"
        "It adapts to a handful of images of something new:\n\n"
        "```python\nimport metagen\nmodel = metagen.load('this folder')\nmine = model.adapt('folder of images')\n"
        "mine.sample(64, seed=0)\n```\n\n" + "\n".join(lines) + "\n"
    )
