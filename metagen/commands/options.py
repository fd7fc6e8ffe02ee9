"""The words that a user types: bare switches spelled out, and the parser's complaints as lines that help."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from metagen.core.registry import options_of
from metagen.errors import MetagenError, unknown
from metagen.storage.bundled import resource
from metagen.storage.earlier import renamed_option, run_config
from metagen.storage.files import placed

log = logging.getLogger(__name__)

SWITCHES = (
    "--overwrite",
    "--standalone",
    "--invert",
    "--auto",
    "--full",
    "--turned",
    "--data.invert",
    "--data.binarise",
    "--data.download",
    "--data.augment",
)

# jsonargparse raises every complaint as text alone, so that option, type and value are read from its wording. The key
# of an option, each key within the one before; a value of another type than one or several; how a type is written down,
# and an option of a dictionary.
_KEY = re.compile(r'Parser key "([^"]+)"')
_MISMATCH = re.compile(r"Expected an? (.+?)\. Got value: (.*)|.*Subtypes: \[(.*?)\] Errors: .*Given value: (.*)")
_TYPE = re.compile(r"<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[([^]]*)\]|typing\.")
_ITEM = re.compile(r"NestedArg\(key='(\w+)', val='?(.*?)'?\)")

# A class that may be named but cannot be made so, among what is wrong with all other types.
_REFUSED = re.compile(r"Problem with given class_path '(?:[\w.]*\.)?(\w+)': (.+?)(?= - [A-Z]| Given value|$)")

# The class that was meant: in the value, or in what could not be imported; and an option that it does not have.
_CLASS = re.compile(r"(?:class_path ?=?|has no attribute )'(?:[\w.]*\.)?(\w+)'|import path string: (?:[\w.]*\.)?(\w+)")
_OPTION = re.compile(r"Option '(\w+)' is not accepted")


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
    try:
        return str(resource("configs", f"{name.removeprefix('configs/').removesuffix('.yaml')}.yaml"))
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


def explained(
    error: Exception, verb: str, options: Collection[str], choices: Mapping[str, Iterable[type[Any]]] | None = None
) -> MetagenError:
    """The parser's error as one line with the nearest right names.

    Args:
        error: what the parser raised.
        verb: being run.
        options: of that verb, as typed.
        choices: the classes that may be named after an option, by option.
    """
    text = " ".join(str(error).split())
    if unrecognized := re.search(r"unrecognized arguments: ([^\s=]+)|does not accept option '([^']+)'", text):
        return _unknown_option(unrecognized[1] or f"--{unrecognized[2]}", verb, options)
    keys = _KEY.findall(text)
    complaint = text.rpartition('": ')[2].partition(". Got value: Namespace")[0]
    if len(keys) == 1 and choices and keys[0] in choices:
        return _unknown_choice(keys[0].rpartition(".")[2], text.rpartition('": ')[2], choices[keys[0]])
    complaint = refused_class(complaint) or _MISMATCH.sub(_expected, complaint)
    return MetagenError(f"--{'.'.join(keys)}: {complaint}" if keys else text)


def refused_class(text: str) -> str | None:
    """The reason why a class that a user names cannot be made, such as a missing library; None of other complaints."""
    refused = _REFUSED.search(" ".join(text.split()))
    return f"{refused[1]}: {refused[2]}" if refused else None


def _expected(mismatch: re.Match[str]) -> str:
    prose, value = (each for each in mismatch.groups() if each is not None)
    several = "one of " if "Subtypes" in mismatch[0] or "Literal" in prose else ""
    types = _TYPE.sub(lambda each: each[1] or (each[2] or "").replace("'", ""), prose).replace("NoneType", "null")
    return f"expected {several}{types}, got " + _ITEM.sub(r"\1=\2", value)


def _unknown_option(name: str, verb: str, options: Collection[str]) -> MetagenError:
    near = difflib.get_close_matches(name, sorted(options), n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return MetagenError(f"unknown option {name}: {hint}metagen {verb} --help lists all")


def _unknown_choice(kind: str, complaint: str, classes: Iterable[type[Any]]) -> MetagenError:
    known = {cls.__name__: cls for cls in classes}
    named, option = _CLASS.search(complaint), _OPTION.search(complaint)
    name = next(filter(None, named.groups())) if named else ""
    if name and name not in known:
        return unknown(kind, name, known)
    if name and option and (new := renamed_option(kind, option[1])):
        return MetagenError(f"unknown option of {kind} {name} {option[1]!r}: it is called {new} now")
    if name and option:
        return unknown(f"option of {kind} {name}", option[1], options_of(known[name]))
    return MetagenError(f"{kind}: {complaint.rpartition(' - ')[2]}")
