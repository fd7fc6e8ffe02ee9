"""What is shared: folders of safetensors and JSON, checked when read, never pickle.

A model:          config.json, model.safetensors, split.json, seen.json, README.md
An adapted model: config.json, difference.safetensors, README.md; support.safetensors if its generator looks at it;
                  base/, a whole model, if standalone
An extractor:     config.json, model.safetensors, split.json, seen.json, README.md
A zoo:            config.json, deltas.safetensors, seen.json, README.md
"""

from __future__ import annotations

import hashlib
import logging
import os
import reprlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from metagen.core.seeding import DRAWING
from metagen.errors import MetagenError
from metagen.generators import generators
from metagen.learners import Learner, learners
from metagen.metrics import Extractor, extractors
from metagen.storage.bundled import all_bundled
from metagen.storage.earlier import model_config
from metagen.storage.files import fresh_folder, write_atomically
from metagen.storage.model_cards import extractor_card, model_card
from metagen.storage.strict_json import page, read_json
from metagen.storage.weight_limit import no_more_weights_than
from metagen.tasks.seen import FILE as SEEN
from metagen.tasks.seen import SeenTasks
from metagen.tasks.splits import Split

log = logging.getLogger(__name__)
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
MAX_TOLD = 500  # characters of what a file holds, in a message
SLACK = 4  # a network may register a weight more than once while it is built
SMALL = 100_000  # weights that may always be described, so that a file that lacks some is told to lack them


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

    split: the tasks it was trained on and those held out, written beside it.
    seen: all that it has seen, with hashes of the images, the same.
    stored_as: "float32", or "float16" for a file of half the size, which is widened when it is loaded.

    Returns:
        The SHA-256 of its weights file.

    Raises:
        MetagenError: the place is taken, or cannot be written, or float16 cannot hold a weight.
    """
    stored = {} if stored_as == FULL else {"stored_as": stored_as}
    content = {**describe(learner), **stored, "info": dict(info)}
    return _save(path, "model", learner, content, model_card, split, overwrite, seen)


def load_model(path: Path) -> tuple[Learner, dict[str, Any], str]:
    """The learner of an exported model, what is told of it, and the hash of its weights.

    Raises:
        MetagenError: something is missing, damaged, of another version, or does not fit together.
    """
    config = _described(path, "model", ("generator", "learner", "info"))
    learner = _with_weights(path, config, build)
    return learner, config["info"], config["weights_sha256"]


def save_extractor(
    path: Path,
    extractor: Extractor,
    info: Mapping[str, Any],
    split: Split | None = None,
    overwrite: bool = False,
    seen: SeenTasks | None = None,
) -> str:
    """Write an extractor; the arguments, the hash that is returned and the errors are those of `save_model`."""
    content = {"extractor": extractors.describe(extractor), "info": dict(info)}
    return _save(path, "extractor", extractor, content, extractor_card, split, overwrite, seen)


def load_extractor(path: Path) -> tuple[Extractor, dict[str, Any], str]:
    """An extractor, what is told of it, and the hash of its weights.

    Raises:
        MetagenError: something is missing, damaged, of another version, or does not fit together.
    """
    config = _described(path, "extractor", ("extractor", "info"))
    extractor = _with_weights(path, config, lambda described: extractors.build(described["extractor"]))
    return extractor, config["info"], config["weights_sha256"]


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

    support: the images [k, C, H, W] that its generator looks at, if it does.
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
        where = "base" if standalone else _from(place, home)
        weights = _write_tensors(folder / "difference.safetensors", difference)
        reference = {"path": Path(where).as_posix(), "weights_sha256": base_hash}
        content: dict[str, Any] = {"base": reference, "info": dict(info)}
        if support is not None:
            content["support_sha256"] = _write_tensors(folder / "support.safetensors", {"support": support})
        _write_config(folder, "adapted", weights, content)
        text = f"# An adapted model\n\nMade by metagen from {info.get('shots')} images. Load it with `metagen.load`.\n"
        write_atomically(folder / "README.md", text.encode())


def _from(place: Path, home: Path) -> str:
    """The way from one folder to another: relative, so that both may move, where there is such a way."""
    try:
        return os.path.relpath(home, place)
    except ValueError:  # from one drive of Windows to another
        return str(home)


def load_adapted(path: Path) -> tuple[dict[str, torch.Tensor], torch.Tensor | None, Path, dict[str, Any]]:
    """An adapted model's difference and support (unchecked against the base), its base's place, what is told of it.

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
    difference = _read_tensors(path / "difference.safetensors", config["weights_sha256"])
    support = None
    if "support_sha256" in config:
        support = _read_tensors(path / "support.safetensors", config["support_sha256"]).get("support")
        if support is not None and support.dtype != torch.float32:
            raise MetagenError(f"{path / 'support.safetensors'}: expected torch.float32, got {support.dtype}")
    return difference, support, base, info


def _base_of(path: Path, reference: Mapping[str, Any]) -> Path:
    """The base that an adapted model names: what lies there or, where it has moved, is bundled with metagen."""
    way, stated = reference["path"].replace("\\", "/"), reference.get("weights_sha256")
    base = Path(os.path.normpath(path.resolve() / way))
    found = damage = None
    if os.path.isfile(base / "config.json"):  # where the name is too long, Path.is_file raises
        try:
            found = read_config(base, "model")["weights_sha256"]
        except MetagenError as error:
            damage = error
    if found and found == stated:
        return base
    for other in all_bundled("models"):
        if read_config(other)["weights_sha256"] == stated:
            log.warning("%s: its base model is not at %s any more; took %s", path, _brief(base), other.name)
            return other
    if damage:
        raise damage
    where = path / "config.json"
    if found is None:
        hint = "put it there, or save it again with --standalone"
        raise MetagenError(f"{where}: its base model is not at {_brief(base)}; {hint}")
    raise MetagenError(
        f"{where}: made from a base with weights {reprlib.repr(stated)}, but {base} has {reprlib.repr(found)}; put the "
        "right base there"
    )


def save_zoo(
    path: Path,
    deltas: Mapping[str, torch.Tensor],
    info: Mapping[str, Any],
    overwrite: bool = False,
    seen: SeenTasks | None = None,
) -> None:
    """Write low-rank deltas of many tasks, each [T, ...], what is told of them, and what they have seen.

    Raises:
        MetagenError: the place is taken, or cannot be written.
    """
    with fresh_folder(path, overwrite) as folder:
        weights = _write_tensors(folder / "deltas.safetensors", deltas)
        _write_config(folder, "zoo", weights, {"info": dict(info)})
        if seen:
            write_atomically(folder / SEEN, seen.to_json().encode())
        text = f"# A zoo\n\n{len(info['tasks'])} models of one base; metagen fit learns from it (--model.zoo).\n"
        write_atomically(folder / "README.md", text.encode())


def load_zoo(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any], str]:
    """The deltas of a zoo, what is told of them, and the hash of their file.

    Raises:
        MetagenError: something is missing or damaged, or does not fit together.
    """
    config = _described(path, "zoo", ("info",))
    deltas, info = _read_tensors(path / "deltas.safetensors", config["weights_sha256"]), config["info"]
    tasks = info.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(each, str) for each in (*tasks, info.get("base_sha256"))):
        raise MetagenError(f"{path / 'config.json'}: expected names of tasks and base_sha256; make the zoo again")
    if any(len(d) != len(tasks) or not d.isfinite().all() for d in deltas.values()):
        raise MetagenError(f"{path / 'deltas.safetensors'}: expected finite deltas of {len(tasks)} tasks")
    return deltas, info, config["weights_sha256"]


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
        raise MetagenError(f"{where}: version {reprlib.repr(version)}; this metagen reads version {VERSION}")
    if config.get("kind") not in [*KINDS] or not isinstance(config.get("weights_sha256"), str):
        raise MetagenError(f"{where}: expected kind ({' or '.join(KINDS)}) and weights_sha256")
    if kinds and config["kind"] not in kinds:
        raise _misnamed(path, kinds, KINDS[config["kind"]][0])
    return model_config(config) if version in EARLIER and config["kind"] == "model" else config


def _misnamed(path: Path, kinds: Sequence[str], got: str) -> MetagenError:
    """What to say of a folder that is of none of the kinds that were asked for, but is, or has, what is told."""
    words, verbs = (" or ".join(each) for each in zip(*(KINDS[kind] for kind in kinds), strict=True))
    base = " (of an adapted model, name its base)" if kinds == ("model",) else ""
    return MetagenError(f"{path}: expected {words}, got {got}; name a folder that {verbs} wrote{base}")


def _instead(path: Path) -> str:
    """What stands at a place where no folder was saved, and what of it may be named."""
    if path.is_dir() or not path.exists():
        export = path / "export"
        return f"a run, whose model is {export}" if (export / "config.json").is_file() else "no config.json"
    if path.suffix in CHECKPOINTS:
        return "a file of weights, such as a run goes on from (its model is the folder export)"
    if path.name.lower().endswith(ARCHIVES):
        return "an archive, which has to be unpacked"
    return f"a file (its folder is {path.parent})" if (path.parent / "config.json").is_file() else "a file"


def check_tensors(where: Path, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Refuse tensors whose names, shapes or types are not the expected ones.

    Raises:
        MetagenError: naming the first few that differ.
    """
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        names = f"missing tensors {_brief(missing[:5])}, unexpected tensors {_brief(extra[:5])}"
        raise MetagenError(f"{where}: {names}; not of this model")
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape or found[name].dtype != tensor.dtype:
            raise MetagenError(
                f"{where}: {name} expected {list(tensor.shape)} {tensor.dtype}, "
                f"got {list(found[name].shape)} {found[name].dtype}"
            )
        if not found[name].isfinite().all():
            raise MetagenError(f"{where}: {name} holds values that are not finite")


def _save(
    path: Path,
    kind: str,
    module: nn.Module,
    content: Mapping[str, Any],
    card: Callable[[Mapping[str, Any], int, str], str],
    split: Split | None,
    overwrite: bool,
    seen: SeenTasks | None,
) -> str:
    tensors = _narrowed(path, module.state_dict(), content.get("stored_as", FULL))
    with fresh_folder(path, overwrite) as folder:
        weights = _write_tensors(folder / "model.safetensors", tensors)
        _write_config(folder, kind, weights, content)
        count = sum(w.numel() for w in module.parameters())
        write_atomically(folder / "README.md", card(content, count, weights).encode())
        if split:
            write_atomically(folder / "split.json", split.to_json().encode())
        if seen:
            write_atomically(folder / SEEN, seen.to_json().encode())
    return weights


def _described(path: Path, kind: str, parts: Sequence[str]) -> dict[str, Any]:
    config = read_config(path, kind)
    if not all(isinstance(config.get(part), dict) for part in parts):
        raise MetagenError(f"{path / 'config.json'}: expected the objects {', '.join(parts)}; export it again")
    return config


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


def _with_weights(path: Path, config: Mapping[str, Any], build: Callable[[Mapping[str, Any]], M]) -> M:
    tensors = _read_tensors(path / "model.safetensors", config["weights_sha256"])
    most = max(SMALL, SLACK * sum(t.numel() for t in tensors.values()))
    try:
        with DRAWING, torch.device("meta"), no_more_weights_than(most):
            planned = build(config)
    except (MetagenError, RecursionError) as error:  # the latter of a value nested too deep to be told
        raise MetagenError(f"{path / 'config.json'}: {_brief(error)}") from error
    expected = _stored(path / "config.json", planned.state_dict(), config.get("stored_as", FULL))
    check_tensors(path / "model.safetensors", tensors, expected)
    with DRAWING:
        module = build(config)
    module.load_state_dict(tensors)
    return module.requires_grad_(False).eval()


def _brief(told: object) -> str:
    """As one line, its end cut off if it is long: a damaged file can hold names of any length."""
    text = " ".join(str(told).split())
    return text if len(text) <= MAX_TOLD else f"{text[:MAX_TOLD]} ..."


def _write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> str:
    data = save_tensors({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    write_atomically(path, data)
    return hashlib.sha256(data).hexdigest()


def _read_tensors(path: Path, stated: object) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise MetagenError(f"{path}: cannot be read ({error.strerror})") from error
    found = hashlib.sha256(data).hexdigest()
    if found != stated:
        raise MetagenError(
            f"{path}: its SHA-256 is {reprlib.repr(found)}, not the stated {reprlib.repr(stated)}; damaged"
        )
    try:
        tensors: dict[str, torch.Tensor] = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise MetagenError(f"{path}: not a safetensors file ({_brief(error)})") from error
    return tensors


def _write_config(folder: Path, kind: str, weights: str, content: Mapping[str, Any]) -> None:
    config = {"format": "metagen", "version": VERSION, "kind": kind, "weights_sha256": weights, **content}
    write_atomically(folder / "config.json", page(config))
