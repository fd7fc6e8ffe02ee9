"""Where the configs and assets bundled with metagen lie: in an installed wheel and in a clone alike."""

from __future__ import annotations

from pathlib import Path

from metagen.errors import MetagenError, unknown
from metagen.storage.files import placed

KINDS = ("configs", "assets")
CONFIG = "config.json"  # what makes a folder one that metagen saved
_PACKAGE = Path(__file__).resolve().parents[1]


def resource(kind: str, name: str) -> Path:
    """The path of a file or folder bundled with metagen.

    kind: "configs" or "assets"; name: its path below that, with forward slashes.

    Raises:
        MetagenError: there is none of that name; the nearest ones are named.
    """
    if kind not in KINDS:
        raise unknown("kind of resource", kind, KINDS)
    root = next((place for place in (_PACKAGE / kind, _PACKAGE.parent / kind) if place.is_dir()), None)
    if root is None:
        raise MetagenError(f"no {kind} beside metagen in {_PACKAGE}: the installation is incomplete, install it again")
    known = {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.name.startswith(".")}
    if name not in known:  # an exact name below the root, so no "../" either
        raise unknown(kind.removesuffix("s"), name, known)
    return root / name


def all_bundled(kind: str) -> list[Path]:
    """The folders of the "models" or "extractors" bundled with metagen, in the order of their names."""
    places = resource("assets", "README.md").parent.glob(f"{kind}/*")
    return sorted(place for place in places if (place / CONFIG).is_file())


def bundled(kind: str, name: str | Path) -> Path:
    """A folder, or the name of one of the "models" or "extractors" bundled with metagen.

    A folder without a config.json, such as one of images, does not stand in the way of a name.

    Raises:
        MetagenError: it is neither; those that there are, are named.
    """
    if not isinstance(name, (str, Path)):
        raise MetagenError(f"expected a folder or the name of one of the {kind}, got {type(name).__name__}")
    path = placed(name)
    word = str(name).rstrip("/\\")
    if isinstance(name, Path) or (path / CONFIG).is_file() or word.startswith("~") or {"/", "\\"} & {*word}:
        return path
    there = {place.name: place for place in all_bundled(kind)}
    if place := there.get(word) or there.get(word.lower()):
        return place
    if path.is_dir():
        return path
    known = f"; those are {', '.join(there)}" if there else ""
    raise MetagenError(f"{name}: neither a folder nor one of the {kind} bundled with metagen{known}")
