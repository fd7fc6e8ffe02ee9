"""The verbs, `metagen demo`, `fit`, `prepare`, `adapt`, `sample`, `evaluate`, `compare` and others: see `VERBS`.

A verb is a function in a file of its own in `commands/`, imported when it runs, so that a help or a mistyped verb waits
for no library.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from jsonargparse import ArgumentError

from metagen.commands.parsers import run_verb
from metagen.commands.words import spelled_out
from metagen.core.allocation import keep_freed_memory
from metagen.core.quiet import from_first_process, quieten
from metagen.errors import MetagenError, unknown


class Verb(NamedTuple):
    """A line of the overview, and a command that shows the verb at work."""

    summary: str
    example: str


VERBS = {
    "demo": Verb("see it at work, in about four minutes", "metagen demo"),
    "fit": Verb("meta-train a model", "metagen fit --config configs/quickstart.yaml"),
    "prepare": Verb("make photographs of drawings, or others, into a task", "metagen prepare photos/ drawings/"),
    "adapt": Verb("become one new thing", "metagen adapt --model runs/x/export --support five_images/ --out my_glyph/"),
    "sample": Verb("make new images of it", "metagen sample --model my_glyph/ --n 64 --out samples/"),
    "tune": Verb("choose how a model samples, on val tasks", "metagen tune --model runs/x/export --out runs/x/tuned"),
    "evaluate": Verb("measure on held-out tasks", "metagen evaluate --model runs/x/export --out runs/x/evaluation"),
    "compare": Verb("a league table of evaluated models", "metagen compare runs/x runs/y runs/z --out league/"),
    "embed": Verb(
        "tell tasks from tasks by a few numbers each",
        "metagen embed --model runs/x/export --ways gradient adapted --out runs/x/embedding",
    ),
    "zoo": Verb(
        "train models of many train tasks, for a learner that writes weights",
        "metagen zoo --model runs/x/export --tasks 300 --out runs/x/zoo",
    ),
    "train-extractor": Verb(
        "train what evaluate looks through",
        "metagen train-extractor --data.task_set folder --data.root my_images/ --out my_extractor/",
    ),
    "models": Verb("list the models bundled with metagen", "metagen models"),
}
OVERVIEW = "\n".join(
    [
        "usage: metagen VERB [options]     (metagen VERB --help for each)",
        "",
        *(f"  {name:15}  {verb.summary}\n{verb.example:>{19 + len(verb.example)}}" for name, verb in VERBS.items()),
        "",
        "with every verb: --dry-run prints the resolved options and stops; --debug shows the traceback of an error",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; 0 if it went well, 2 for a mistake of the user's, told in one line, 130 if interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what a terminal cannot show
    if logging.lastResort:  # what prints warnings
        logging.lastResort.addFilter(from_first_process)
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(OVERVIEW)
        return 0
    try:
        _run(words[0], words[1:])
    except KeyboardInterrupt as stop:
        print(f"metagen: stopped {stop}".rstrip(), file=sys.stderr)
        return 130
    except (MetagenError, ArgumentError) as error:
        if debug:
            raise
        print(f"metagen: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def _run(verb: str, argv: Sequence[str]) -> None:
    if verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    quieten()
    keep_freed_memory()
    words, name, example = spelled_out(argv), verb.replace("-", "_"), VERBS[verb].example
    function = getattr(import_module(f"metagen.commands.{name}"), name)
    if verb == "fit":  # whose options LightningCLI parses
        function(words, example)
    else:
        run_verb(function, words, example)


if __name__ == "__main__":
    sys.exit(main())
