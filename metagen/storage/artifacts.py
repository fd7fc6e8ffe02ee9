"""A saved folder: config.json (kind, version), tensors as safetensors with their hash, README.md; never pickle.

Whatever is read is checked first. The kinds and their files:

A model:          config.json, model.safetensors, split.json, seen.json, README.md
An adapted model: config.json, difference.safetensors, README.md; support.safetensors if its generator uses it;
                  base/, a complete model, if standalone
An extractor:     config.json, model.safetensors, split.json, seen.json, README.md
A zoo:            config.json, deltas.safetensors, seen.json, README.md
"""

from __future__ import annotations

import hashlib
import reprlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from metagen.core.seeding import seeded
from metagen.errors import MetagenError
from metagen.storage.earlier import model_config
from metagen.storage.files import fresh_folder, write_atomically
from metagen.storage.strict_json import page, read_json
from metagen.storage.weight_limit import no_more_weights_than

M = TypeVar("M", bound=nn.Module)
VERSION, EARLIER = 2, (1,)  # of what is written; of what is read, too
KINDS = {  # what a saved folder is, in words, and the verb that writes it
    "model": ("a model", "metagen fit"),
    "adapted": ("an adapted model", "metagen adapt"),
    "extractor": ("an extractor", "metagen train-extractor"),
    "zoo": ("a zoo", "metagen zoo"),
}
FULL, HALF = "float32", "float16"  # what weights are computed in; how they may also be stored
CHECKPOINTS, ARCHIVES = (".ckpt", ".pt", ".pth", ".bin"), (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
MAX_CONFIG_BYTES = 1_000_000
MAX_SHOWN = 500  # characters of what a file holds, in a message
SLACK = 4  # a network may register a weight more than once while it is built
SMALL = 100_000  # weights that may always be described, so that the message on a file that lacks some names them


def read_config(path: Path, *kinds: str) -> dict[str, Any]:
    """The config of a saved folder, its version checked, and that it is of one of the kinds, where any are given.

    Raises:
        MetagenError: not such a folder.
    """
    where = path / "config.json"
    try:
        if where.stat().st_size > MAX_CONFIG_BYTES:
            raise MetagenError(f"{where}: larger than {MAX_CONFIG_BYTES} bytes; not a metagen config")
        config = read_json(where)
    except (FileNotFoundError, NotADirectoryError):
        raise _misnamed(path, kinds or tuple(KINDS), _instead(path)) from None
    except (OSError, ValueError, RecursionError) as error:
        raise MetagenError(f"{where}: cannot be read ({type(error).__name__}); export the model again") from error
    if not isinstance(config, dict) or config.get("format") != "metagen":
        raise MetagenError(f"{where}: not a metagen config")
    version = config.get("version")
    if type(version) is not int or version not in (VERSION, *EARLIER):
        read = " and ".join(map(str, sorted((*EARLIER, VERSION))))
        raise MetagenError(
            f"{where}: version {reprlib.repr(version)}; this metagen reads versions {read}: use the metagen that wrote "
            "it, or make it again with this one"
        )
    if config.get("kind") not in [*KINDS] or not isinstance(config.get("weights_sha256"), str):
        raise MetagenError(f"{where}: expected kind ({' or '.join(KINDS)}) and weights_sha256")
    if kinds and config["kind"] not in kinds:
        raise _misnamed(path, kinds, KINDS[config["kind"]][0])
    return model_config(config) if version in EARLIER and config["kind"] == "model" else config


def read_description(path: Path, kind: str, parts: Sequence[str]) -> dict[str, Any]:
    """The config of a saved folder of one kind, which has these parts, each an object.

    Raises:
        MetagenError: not such a folder.
    """
    config = read_config(path, kind)
    if not all(isinstance(config.get(part), dict) for part in parts):
        raise MetagenError(f"{path / 'config.json'}: expected the objects {', '.join(parts)}; export it again")
    return config


def _misnamed(path: Path, kinds: Sequence[str], got: str) -> MetagenError:
    """The error for a folder of none of the expected kinds; `got` says in words what it is instead."""
    words, verbs = (" or ".join(each) for each in zip(*(KINDS[kind] for kind in kinds), strict=True))
    base = " (of an adapted model, name its base)" if kinds == ("model",) else ""
    return MetagenError(f"{path}: expected {words}, got {got}; name a folder that {verbs} wrote{base}")


def _instead(path: Path) -> str:
    """In words, the file or folder at a path that is no saved folder, with a hint at the one to name."""
    if path.is_dir() or not path.exists():
        export = path / "export"
        return f"a run, whose model is {export}" if (export / "config.json").is_file() else "no config.json"
    if path.suffix in CHECKPOINTS:
        return "a file of weights, such as a run goes on from (its model is the folder export)"
    if path.name.lower().endswith(ARCHIVES):
        return "an archive, which has to be unpacked"
    return f"a file (its folder is {path.parent})" if (path.parent / "config.json").is_file() else "a file"


def check_tensors(where: Path, tensors: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors whose names, shapes or types are not the expected ones.

    Raises:
        MetagenError: naming the first few that differ.
    """
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        names = f"missing tensors {brief(missing[:5])}, unexpected tensors {brief(extra[:5])}"
        raise MetagenError(f"{where}: {names}; not of this model")
    for name, like in expected.items():
        if tensors[name].shape != like.shape or tensors[name].dtype != like.dtype:
            raise MetagenError(
                f"{where}: {name} expected {list(like.shape)} {like.dtype}, "
                f"got {list(tensors[name].shape)} {tensors[name].dtype}"
            )
        if not tensors[name].isfinite().all():
            raise MetagenError(f"{where}: {name} holds values that are not finite")


def save_module(
    path: Path,
    kind: str,
    module: nn.Module,
    content: Mapping[str, Any],
    card: Callable[[Mapping[str, Any], int, str], str],
    files: Mapping[str, bytes],
    overwrite: bool,
) -> str:
    """Write a folder of a kind whose weights are those of one module, all of it or nothing.

    Args:
        path: the folder.
        kind: one of `KINDS`.
        module: its state is what is stored, in the type that `content` declares as `stored_as`.
        content: the rest of config.json.
        card: makes README.md of the content, the number of parameters and the hash of the weights.
        files: further files by name.
        overwrite: replace what stands at `path`.

    Returns:
        The SHA-256 of the weights file.

    Raises:
        MetagenError: the place is taken, or cannot be written, or float16 cannot hold a weight.
    """
    tensors = _narrowed(path, module.state_dict(), content.get("stored_as", FULL))
    with fresh_folder(path, overwrite) as folder:
        weights = write_tensors(folder / "model.safetensors", tensors)
        write_config(folder, kind, weights, content)
        count = sum(w.numel() for w in module.parameters())
        write_atomically(folder / "README.md", card(content, count, weights).encode())
        for name, data in files.items():
            write_atomically(folder / name, data)
    return weights


def load_module(path: Path, config: Mapping[str, Any], build: Callable[[Mapping[str, Any]], M]) -> M:
    """The module that a config describes, with the weights of its folder, frozen and in evaluation mode.

    Args:
        path: the folder.
        config: its config, as `read_description` returns it.
        build: makes the module of the config, with weights of any values.

    Raises:
        MetagenError: the weights are missing or damaged, or not those of such a module.
    """
    tensors = read_tensors(path / "model.safetensors", config["weights_sha256"])
    most = max(SMALL, SLACK * sum(t.numel() for t in tensors.values()))
    try:
        with seeded(0), torch.device("meta"), no_more_weights_than(most):
            planned = build(config)
    except (MetagenError, RecursionError) as error:  # the latter of a value nested too deep to be shown
        raise MetagenError(f"{path / 'config.json'}: {brief(error)}") from error
    expected = _stored(path / "config.json", planned.state_dict(), config.get("stored_as", FULL))
    check_tensors(path / "model.safetensors", tensors, expected)
    with seeded(0):  # so that loading a model draws nothing from torch's own generator
        module = build(config)
    module.load_state_dict(tensors)
    return module.requires_grad_(False).eval()


def brief(value: object) -> str:
    """A value as one line, its end cut off if it is long: a damaged file can hold names of any length."""
    text = " ".join(str(value).split())
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]} ..."


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    """Write a safetensors file, and return its SHA-256.

    Raises:
        MetagenError: it cannot be written there.
    """
    data = save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def read_tensors(path: Path, stated: object) -> dict[str, torch.Tensor]:
    """Read a safetensors file whose SHA-256 is the stated one.

    Raises:
        MetagenError: it is missing, damaged or another one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MetagenError(f"{path}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != stated:
        raise MetagenError(
            f"{path}: its SHA-256 is {reprlib.repr(digest)}, not the stated {reprlib.repr(stated)}; damaged"
        )
    try:
        tensors: dict[str, torch.Tensor] = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise MetagenError(f"{path}: not a safetensors file ({brief(error)})") from error
    return tensors


def write_config(folder: Path, kind: str, weights: str, content: Mapping[str, Any]) -> None:
    """Write config.json: the format, its version, the kind, the SHA-256 of the weights file and the content.

    Raises:
        MetagenError: it cannot be written there.
    """
    config = {"format": "metagen", "version": VERSION, "kind": kind, "weights_sha256": weights, **content}
    write_atomically(folder / "config.json", page(config))


def _stored(where: Path, tensors: Mapping[str, torch.Tensor], stored_as: object) -> dict[str, torch.Tensor]:
    """The tensors in the type that a config declares: floating ones narrowed, unless it is the full one."""
    if stored_as not in (FULL, HALF):
        got = reprlib.repr(stored_as)
        raise MetagenError(f"{where}: stored_as: expected {FULL} or {HALF}, got {got}; save it again")
    half = stored_as == HALF
    return {name: t.half() if half and t.is_floating_point() else t for name, t in tensors.items()}


def _narrowed(path: Path, tensors: Mapping[str, torch.Tensor], stored_as: object) -> dict[str, torch.Tensor]:
    """The tensors as they are to be stored; none may overflow."""
    narrow = _stored(path, tensors, stored_as)
    for name, tensor in narrow.items():
        if tensor.dtype == torch.float16 and not tensor.isfinite().all():
            most = tensors[name].abs().max().item()
            raise MetagenError(f"{path}: {name} holds {most:g}, beyond {HALF}; store it as {FULL}")
    return narrow
