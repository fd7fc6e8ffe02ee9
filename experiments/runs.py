"""Verbs of the command line whose outcome stands for as long as it was made by the same words from the same weights."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

from metagen.cli import main
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json

NOTE = "made.json"  # beside what was made: by which words, of which weights, in which state of the project


def made(product: Path, words: list[object], of: str = "") -> Path:
    """The product of a verb in a folder, made anew unless it was made by the same words of the same weights.

    Raises:
        RuntimeError: the verb failed; with its message.
    """
    note, wanted = product.parent / NOTE, {"words": [str(word) for word in words], "of": of}
    known = read_json(note) if product.exists() and note.is_file() else {}
    if {key: known.get(key) for key in wanted} == wanted:
        return product
    note.unlink(missing_ok=True)
    began = revision()  # what runs was read by now; the project may change before it ends
    metagen(*words)
    write_atomically(note, (to_json({**wanted, "revision": began}) + "\n").encode())
    return product


def revision_of(product: Path) -> str:
    """Which state of the project made this; where its note is from before notes said so, which one this is."""
    noted: str | None = read_json(product.parent / NOTE).get("revision")
    return noted or revision()


def metagen(*words: object) -> None:
    """Run a verb in this process.

    Raises:
        RuntimeError: it failed; with its message.
        KeyboardInterrupt: it was stopped.
    """
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    print(said.getvalue(), end="", file=sys.stderr)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(said.getvalue().strip().rpartition("\n")[2])


def revision() -> str:
    """Which state of the project this is."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
