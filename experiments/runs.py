"""CLI commands that an experiment runs; their output is reused while arguments and input weights are unchanged."""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
from pathlib import Path

from metagen.cli import main
from metagen.storage.artifacts import read_config
from metagen.storage.bundled import bundled
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page, read_json

NOTE = "made.json"  # next to a product: its arguments, the weights it came from, and the revision that made it


def made(product: Path, words: list[object], of: str = "") -> Path:
    """Run a command unless its product was made by the same arguments from the same weights.

    Args:
        product: what the command writes; the note goes into the folder that holds it.
        words: the command's arguments.
        of: hash of the weights it reads.

    Raises:
        RuntimeError: the command failed; with its message.
    """
    note, wanted = product.parent / NOTE, {"words": [str(word) for word in words], "of": of}
    known = read_json(note) if product.exists() and note.is_file() else {}
    if {key: known.get(key) for key in wanted} == wanted:
        return product
    note.unlink(missing_ok=True)
    began = revision()  # the code has been read by now; its files may change before the command ends
    metagen(*words)
    write_atomically(note, page({**wanted, "revision": began}))
    return product


def fitted(run: Path, *words: object, of: str = "") -> Path:
    """Run `metagen fit` into a folder; the folder of the export."""
    where = ("--run_dir", run, "--overwrite", "--trainer.enable_progress_bar", "false")
    return made(run / "export", ["fit", *words, *where], of)


def config_of(name: str) -> str:
    """The config that trains runs/NAME: configs/omniglot/vae-maml.yaml for omniglot-vae-maml."""
    return f"configs/{name.replace('-', '/', 1)}.yaml"


def evaluated(export: Path, out: Path, *words: object) -> Path:
    """Run `metagen evaluate`; the path of result.json."""
    command = ["evaluate", "--model", export, "--out", out, "--overwrite", *words]
    return made(out / "result.json", command, weights(export))


def weights(export: str | Path) -> str:
    """The hash of the weights of a model, or of an extractor at a path."""
    return str(read_config(bundled("models", export), "model", "extractor")["weights_sha256"])


def revision_of(product: Path) -> str:
    """The revision that made a product; the present one where its note names none."""
    noted: str | None = read_json(product.parent / NOTE).get("revision")
    return noted or revision()


def revision() -> str:
    """The present revision of the code, by `git describe`."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def metagen(*words: object) -> None:
    """Run a command in this process.

    Raises:
        RuntimeError: it failed; with its message.
        KeyboardInterrupt: it was stopped.
    """
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        code = main([str(word) for word in words])
    print(errors.getvalue(), end="", file=sys.stderr)
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise RuntimeError(errors.getvalue().strip().rpartition("\n")[2])


def parser(description: str | None, root: str | None = None) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring; `root` is the help of an option --root."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if root:
        made.add_argument("--root", required=True, help=root)
    return made
