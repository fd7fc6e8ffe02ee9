"""The parser's complaints as lines that help: the option, the types that it takes, the nearest right names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from metagen.core.registry import options_of
from metagen.errors import MetagenError, unknown
from metagen.storage.earlier import class_note, renamed_option

# jsonargparse raises every complaint as text alone, so that option, type and value are read from its wording. The key
# of an option, each key within the one before; a value of another type than one or several; how a type is written down,
# and an option of a dictionary.
_KEY = re.compile(r'Parser key "([^"]+)"')
_MISMATCH = re.compile(r"Expected an? (.+?)\. Got value: (.*)|.*Subtypes: \[(.*?)\] Errors: .*Given value: (.*)")
_TYPE = re.compile(r"<class '(?:\w+\.)*(\w+)'>|typing\.Literal\[([^]]*)\]|typing\.")
_ITEM = re.compile(r"NestedArg\(key='(\w+)', val='?(.*?)'?\)")

# A config that names another one for a part of its options, which is no file.
_PART = re.compile(r"(?:Unable to load config \"|Expected a path but )(\S+\.ya?ml)\b")

# A class that may be named but cannot be made so, among what is wrong with all other types.
_REFUSED = re.compile(
    r"Problem with given class_path '(?:[\w.]*\.)?(\w+)': (?!Parser key)(.+?)(?= - [A-Z]| Given value|$)"
)

# The class that was meant: in the value, or in what could not be imported; and an option that it does not have.
_CLASS = re.compile(r"(?:class_path ?=?|has no attribute )'(?:[\w.]*\.)?(\w+)'|import path string: (?:[\w.]*\.)?(\w+)")
_OPTION = re.compile(r"Option '(\w+)' is not accepted")


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
    if part := _PART.search(text):
        return MetagenError(
            f"{part[1]}: no such file; a config names its parts by their paths from its own folder; to copy a bundled "
            "one, parts and all: metagen fit --config NAME --dry-run > mine.yaml"
        )
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
    types = _TYPE.sub(lambda each: each[1] or (each[2] or "").replace("'", ""), prose).replace("NoneType", "null")
    if "Literal" in prose:
        near = difflib.get_close_matches(value, types.split(", "), n=1, cutoff=0.5)
        return f"expected one of {types}, got {value!r}" + "".join(f"; did you mean {each}?" for each in near)
    several = "one of " if "Subtypes" in mismatch[0] else ""
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
        note = class_note(name)
        return MetagenError(f"unknown {kind} {name!r}: {note}") if note else unknown(kind, name, known)
    if name and option and (new := renamed_option(kind, option[1])):
        return MetagenError(f"unknown option of {kind} {name} {option[1]!r}: it is called {new} now")
    if name and option:
        return unknown(f"option of {kind} {name}", option[1], options_of(known[name]))
    return MetagenError(f"{kind}: {complaint.rpartition(' - ')[2]}")
