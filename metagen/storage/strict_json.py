"""JSON as the standard has it, which knows no NaN and no Infinity: read and written here alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NOTES = "notes"


def to_json(data: object, **layout: Any) -> str:  # noqa: ANN401
    """Data as strict JSON, numbers that are not finite as null; `layout` is that of `json.dumps`."""
    return json.dumps(_nulled(data), allow_nan=False, **layout)


def page(data: Mapping[str, Any]) -> bytes:
    """A file of JSON: `finite` data, indented, and a line's end."""
    return (to_json(finite(data), indent=1) + "\n").encode()


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Read a file of JSON; NaN and Infinity, which earlier versions wrote, as None.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON, or an object holds a name twice.
    """
    return _nulled(json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once))


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, of which the parser would drop what is named twice; for its `object_pairs_hook`.

    Raises:
        ValueError: a name is there twice.
    """
    names = [name for name, _ in pairs]
    if twice := [name for name in names if names.count(name) > 1] if len({*names}) < len(names) else []:
        raise ValueError(f"{twice[0]!r} is there twice")
    return dict(pairs)


def number(value: float | None) -> float:
    """A number, or NaN for null, so that it can be computed with or drawn."""
    return math.nan if value is None else value


def finite(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data with None for every number that is not finite; `notes`, a list, tells each place, if there are any."""
    notes = [f"{place}: {', '.join(keys)} not finite, so null" for place, keys in _places(data, ())]
    listed = [*data.get(NOTES, ()), *notes]
    return {**_nulled(data), **({NOTES: listed} if listed else {})}


def _nulled(data: object) -> Any:  # noqa: ANN401
    if isinstance(data, Mapping):
        return {key: _nulled(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_nulled(value) for value in data]
    return None if _lost(data) else data


def _lost(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _places(data: object, path: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Where numbers are not finite, each place with the keys there; items of a list are called by their row or name."""
    if isinstance(data, Mapping):
        named = [(str(key), value) for key, value in data.items()]
    elif isinstance(data, (list, tuple)):
        named = [(_called(place, value), value) for place, value in enumerate(data)]
    else:
        return
    if lost := [key for key, value in named if _lost(value)]:
        yield "/".join(path) or "here", lost
    for key, value in named:
        yield from _places(value, (*path, key))


def _called(place: int, value: object) -> str:
    names = [value[key] for key in ("row", "name") if key in value] if isinstance(value, Mapping) else []
    return str(names[0] if names else place)
