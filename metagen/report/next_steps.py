"""The words at the end of a verb: what was made, counted, and the commands to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metagen.storage.files import placed

if TYPE_CHECKING:
    from metagen.tasks.task_data import TaskData

Command = Sequence[object]  # the words after "metagen"
SUPPORT = "five_images/"  # a folder that the user makes
FEWEST_TASKS, FEWEST_QUERIES = 3, 4  # that a scorecard takes
FEWEST_TO_TRAIN = 2  # tasks of each split that training an extractor takes


def next_steps(*commands: Command) -> str:
    """Commands to type next, one a line, quoted for a shell."""
    lines = [shlex.join(["metagen", *map(str, words)]) for words in commands]
    return "next: " + "\n      ".join(lines)


def sibling(out: str | Path, what: str) -> str:
    """The name of a folder next to another: "my_glyph/" and "samples" to "my_glyph-samples"."""
    return f"{str(out).rstrip('/')}-{what}"


def adaptation(model: str | Path, out: str | Path, tasks: TaskData | None = None) -> Command:
    """The command that adapts a model: to a held-out task where its images lie in a folder of their own."""
    return ["adapt", "--model", model, "--support", _support(tasks), "--out", out]


def _support(tasks: TaskData | None) -> str | Path:
    if tasks is None or tasks.name != "folder" or not tasks.task_set.split.test:
        return SUPPORT
    place = placed(tasks.options["root"]) / tasks.task_set.split.test[0]
    return place if place.is_dir() else SUPPORT


def evaluation(model: str | Path, out: str | Path, tasks: TaskData, comparable: bool) -> list[Command]:
    """The commands that measure a model on tasks; the first trains an extractor where none of theirs is bundled.

    Of too few tasks or images for that: the one that measures the loss alone, or none.

    comparable: whether the loss of the model's generator says how good its images are.
    """
    words = ["evaluate", "--model", model, *task_words(tasks, of_a_model=True)]
    loss_alone: list[Command] = [[*words, "--extractor", "none", "--out", out]] if comparable else []
    split = tasks.task_set.split
    if tasks.queries < FEWEST_QUERIES or len(split.test) < FEWEST_TASKS:
        return loss_alone
    from metagen.metrics.extractors.extractor_files import bundled_for  # slow to import, and not for every verb

    if bundled_for(tasks, "report"):
        return [[*words, "--out", out]]
    if min(len(split.train), len(split.val)) < FEWEST_TO_TRAIN:
        return loss_alone
    extractor = sibling(out, "extractor")
    training = ["train-extractor", *task_words(tasks), "--out", extractor]
    return [training, [*words, "--extractor", extractor, "--out", out]]


def task_words(tasks: TaskData, of_a_model: bool = False) -> list[str]:
    """The options that name these tasks.

    of_a_model: leave out those that a model which was trained on them keeps.
    """
    options = tasks.of_this_machine | ({} if of_a_model else tasks.description)
    given = {name: value for name, value in options.items() if value not in (None, False)}
    return [
        word for name, value in given.items() for word in (f"--data.{name}", "true" if value is True else str(value))
    ]


def counted(number: int, noun: str) -> str:
    """A number with its noun, "2 rows"; an empty text for none."""
    return f"{number} {noun}{'s' * (number > 1)}" if number else ""
