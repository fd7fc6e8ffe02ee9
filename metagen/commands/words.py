"""The words that a user types: bare switches spelled out, and configs that the parser would misread refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from metagen.errors import MetagenError
from metagen.storage.bundled import resource
from metagen.storage.earlier import CONFIGS, run_config
from metagen.storage.files import placed

log = logging.getLogger(__name__)

SWITCHES = (
    "--overwrite",
    "--standalone",
    "--invert",
    "--auto",
    "--full",
    "--baselines",
    "--turned",
    "--sheet",
    "--data.invert",
    "--data.binarise",
    "--data.download",
    "--data.augment",
)


def spelled_out(argv: Sequence[str]) -> list[str]:
    """Turn the words that a user types into those that the parser takes.

    `--overwrite` is `--overwrite true`, `--dry-run` is `--print_config`, and a config that is no file here is the one
    of that name bundled with metagen.

    Raises:
        MetagenError: there is no such config; the nearest one is named.
    """
    words: list[str] = []
    argv = [part for word in argv for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    for before, word, after in zip(["", *argv], argv, [*argv[1:], ""], strict=False):  # no word, no triple
        bare = word in SWITCHES and after.lower() not in ("true", "false", "auto")
        if before in ("--config", "-c"):
            words.append(_config(word))
        else:
            words += [word, "true"] if bare else ["--print_config" if word == "--dry-run" else word]
    return words


def _config(name: str) -> str:
    if placed(name).is_file():
        check_config(placed(name))
        return _of_today(placed(name))
    plain = name.removeprefix("configs/").removesuffix(".yaml")
    if plain in CONFIGS:
        raise MetagenError(f"--config: {name}: is called configs/{CONFIGS[plain]}.yaml now")
    try:
        return str(resource("configs", f"{plain}.yaml"))
    except MetagenError as error:
        raise MetagenError(f"--config: {name}: no such file, and none bundled with metagen: {error}") from None


def _of_today(path: Path) -> str:
    """The path of a config or, where an earlier version wrote it, its text with the option names of today."""
    options, renamed = run_config(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    for note in renamed:
        log.warning("--config: %s: %s", path, note)
    return yaml.safe_dump(options, sort_keys=False) if renamed else str(path)


def check_config(path: Path) -> None:
    """Refuse a YAML file of which the parser would drop something, or that it cannot read at all.

    Raises:
        MetagenError: it is no text, no YAML, holds no options by name, one twice, or a part that lies in itself.
    """
    try:
        root = yaml.compose(path.read_text(encoding="utf-8-sig"), Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode):
            raise MetagenError(f"--config: {path}: expected options by name, as in model: {{...}}")
        _check_keys(path, root, (), set())
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split()).replace(' in "<unicode string>"', "")
        raise MetagenError(f"--config: {path}: cannot be read as YAML: {reason}") from error
    except RecursionError:
        raise MetagenError(f"--config: {path}: nested too deep") from None


def _check_keys(path: Path, node: yaml.Node, above: tuple[yaml.Node, ...], done: set[yaml.Node]) -> None:
    if node in above:
        raise MetagenError(f"--config: {path}: {_line_of(node)} holds itself (by & and *)")
    if node in done or isinstance(node, yaml.ScalarNode):
        return
    done.add(node)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(path, value, (*above, node), done)
        return
    seen: set[str] = set()
    for key, value in node.value:
        if str(key.value) in seen:
            raise MetagenError(f"--config: {path}: {_line_of(key)} gives {key.value} again; keep one of them")
        seen.add(str(key.value))
        _check_keys(path, value, (*above, node), done)


def _line_of(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"
