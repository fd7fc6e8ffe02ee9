"""The parser of a verb, from the signature of its function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from metagen.commands.parsers import run_verb
from metagen.distributed.processes import Processes
from metagen.errors import MetagenError

ONE = Processes()
calls: list[tuple] = []


@dataclass(frozen=True)
class Options:
    """Options that several files share.

    Attributes:
        steps: of something.
        curve: numbers of steps.
    """

    steps: int
    curve: tuple[int, ...] = (0, 1)


def show(names: Sequence[str], /, options: Options, trainer: Processes = ONE, ways: Sequence[str] = ("a",)) -> None:
    """Show what is measured.

    Args:
        names: of models.
        options: see there.
        trainer: see there.
        ways: one or more.
    """
    calls.append((names, options, trainer, ways))


def shown(*words):
    calls.clear()
    run_verb(show, words, "metagen show x")
    return calls[0]


def test_a_signature_is_the_schema():
    assert shown("x", "--steps", "3") == (["x"], Options(3), Processes(), ["a"])
    words = ["x", "y", "--steps", "3", "--curve", "[2]", "--trainer.devices", "2", "--ways", "b", "c"]
    assert shown(*words) == (["x", "y"], Options(3, (2,)), Processes(2), ["b", "c"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "3"], "names"),
        (["x"], "steps"),
        (["x", "--options.steps", "3"], "unknown option --options.steps"),
        (["x", "--steps", "y"], "--steps: expected int, got y"),
        (["x", "--steps", "3", "--trainer.device", "2"], "did you mean --trainer.devices"),
    ],
)
def test_wrong_words_are_refused(words, said):
    with pytest.raises(MetagenError, match=said):
        shown(*words)


def test_the_help_says_what_the_docstrings_say(capsys):
    with pytest.raises(SystemExit):
        shown("--help")
    out = " ".join(capsys.readouterr().out.split())
    for text in ("of models", "of something. (required", "numbers of steps", "one or more", "metagen show x"):
        assert text in out
