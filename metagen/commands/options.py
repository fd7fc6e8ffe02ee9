"""What a user types: bare switches spelled out, and the parser's complaints in words that help."""

from __future__ import annotations

import argparse
import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from metagen.core.registry import options_of
from metagen.errors import MetagenError, unknown
from metagen.generators import generators
from metagen.storage.bundled import resource
from metagen.storage.earlier import renamed_option, run_config
from metagen.storage.files import placed

log = logging.getLogger(__name__)

EXAMPLES = {
    "fit": "metagen fit --config configs/quickstart.yaml",
    "adapt": "metagen adapt --model runs/x/export --support five_images/ --out my_glyph/",
    "sample": "metagen sample --model my_glyph/ --n 64 --out samples/",
    "tune": "metagen tune --model runs/x/export --out runs/x/tuned",
    "evaluate": "metagen evaluate --model runs/x/export --out runs/x/evaluation",
    "compare": "metagen compare runs/x runs/y runs/z --out league/",
    "embed": "metagen embed --model runs/x/export --ways gradient adapted --out runs/x/embedding",
    "zoo": "metagen zoo --model runs/x/export --tasks 300 --out runs/x/zoo",
    "train-extractor": "metagen train-extractor --data.task_set folder --data.root my_images/ --out my_extractor/",
    "models": "metagen models",
}
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

# What an exported model says of its tasks, which are the defaults of verbs that take one.
OF_THE_MODEL = (
    *("task_set", "size", "channels", "invert", "val", "test", "partition"),
    *("binarise", "min_images", "shots", "queries"),
)

# What the parser says of a value that none of several types takes, and how it writes down an option of a group.
_UNION = re.compile(r".*Union subtypes Subtypes: \[(.*?)\] Errors: .*Given value: (.*)")
_NESTED = re.compile(r"NestedArg\(key='(\w+)', val='?(.*?)'?\)")

# What the parser says of a value that is none of the choices.
_LITERAL = re.compile(r"Expected a typing\.Literal\[([^]]*)\]\. Got value: (.*)")

# What the parser says of a class that may be named, but cannot be made so, among what is wrong with all other types.
_REFUSED = re.compile(r"Problem with given class_path '(?:[\w.]*\.)?(\w+)': (.+?)(?= - [A-Z]| Given value|$)")

# Where the parser names the class that was meant: in what it got, or in what it could not import.
_CLASS = re.compile(r"(?:class_path ?=?|has no attribute )'(?:[\w.]*\.)?(\w+)'|import path string: (?:[\w.]*\.)?(\w+)")


class OfTheModel(DefaultHelpFormatter):
    """The help of a verb that takes a model, whose own tasks are the default."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        group, _, name = action.dest.partition(".")
        return text.replace("%(default)s", "the model's own") if group == "data" and name in OF_THE_MODEL else text


def spelled_out(argv: Sequence[str]) -> list[str]:
    """What a user types as the parser wants it.

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
        told = " ".join(str(error).split()).replace(' in "<unicode string>"', "")
        raise MetagenError(f"--config: {path}: cannot be read as YAML: {told}") from error
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


def add_sampling_arguments(parser: ArgumentParser) -> None:
    """One option for each that bears on samples alone, of all generators: which of them the model has, it knows."""
    for name in sorted({name for cls in generators.classes for name in cls.sampling}):
        able = ", ".join(cls.__name__ for cls in generators.classes if name in cls.sampling)
        about = f"in place of the model's own; of {able}"
        parser.add_argument(f"--{name}", type=float | None, default=None, help=about)


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
    if found := re.search(r"unrecognized arguments: ([^\s=]+)|does not accept option '([^']+)'", text):
        return _unknown_option(found[1] or f"--{found[2]}", verb, options)
    keys = re.findall(r'Parser key "([^"]+)"', text)
    complaint = re.sub(r"Expected a <class '(\w+)'>. Got value: ", r"expected \1, got ", text.rpartition('": ')[2])
    for option, classes in (choices or {}).items():
        if keys and keys[0] == option and len(keys) == 1:
            return _unknown_choice(option.rpartition(".")[2], complaint, classes)
    if refused := refused_class(error):
        return MetagenError(f"--{'.'.join(keys)}: {refused}")
    complaint = _LITERAL.sub(lambda m: f"expected one of {m[1].replace(chr(39), '')}, got {m[2]!r}", complaint)
    complaint = _UNION.sub(_none_of, complaint).partition(". Got value: Namespace")[0]
    return MetagenError(f"--{'.'.join(keys)}: {complaint}" if keys else text)


def refused_class(error: Exception) -> str | None:
    """Why a class that a user names cannot be made, as one line: its library is missing, say; None of other errors."""
    found = _REFUSED.search(" ".join(str(error).split()))
    return f"{found[1]}: {found[2]}" if found else None


def _none_of(union: re.Match[str]) -> str:
    types = re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.", r"\1", union[1]).replace("NoneType", "null")
    value = _NESTED.sub(r"\1=\2", union[2])
    return f"expected one of {types}, got {value}"


def _unknown_option(name: str, verb: str, options: Collection[str]) -> MetagenError:
    near = difflib.get_close_matches(name, sorted(options), n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return MetagenError(f"unknown option {name}: {hint}metagen {verb} --help lists all")


def _unknown_choice(kind: str, complaint: str, classes: Iterable[type[Any]]) -> MetagenError:
    known = {cls.__name__: cls for cls in classes}
    found, option = _CLASS.search(complaint), re.search(r"Option '(\w+)' is not accepted", complaint)
    name = next(filter(None, found.groups())) if found else ""
    if name and name not in known:
        return unknown(kind, name, known)
    if name and option and (new := renamed_option(kind, option[1])):
        return MetagenError(f"unknown option of {kind} {name} {option[1]!r}: it is called {new} now")
    if name and option:
        return unknown(f"option of {kind} {name}", option[1], options_of(known[name]))
    return MetagenError(f"{kind}: {complaint.rpartition(' - ')[2]}")
