"""Options that depend on models: the tasks that one was trained on are the default, and which options sampling has."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, DefaultHelpFormatter

from metagen.core.registry import options_of
from metagen.generators import generators
from metagen.model import load_base
from metagen.tasks import task_sets
from metagen.tasks.shots import distribution_of, held_out_shots
from metagen.tasks.task_data import TaskData

# Those of an exported model's tasks, which are the defaults of verbs that take one.
OF_THE_MODEL = (
    *("task_set", "size", "channels", "invert", "val", "test", "partition"),
    *("binarise", "min_images", "identities", "shots", "queries"),
)


class OfTheModel(DefaultHelpFormatter):
    """The help of a verb that takes a model, whose own tasks are the default."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text = super()._get_help_string(action)
        group, _, name = action.dest.partition(".")
        return text.replace("%(default)s", "the model's own") if group == "data" and name in OF_THE_MODEL else text


def add_sampling_arguments(parser: ArgumentParser) -> None:
    """Add the sampling options of all generators; the model knows which of them it has."""
    for name in sorted({name for cls in generators.classes for name in cls.sampling}):
        able = ", ".join(cls.__name__ for cls in generators.classes if name in cls.sampling)
        about = f"in place of the model's own; of {able}"
        parser.add_argument(f"--{name}", type=float | None, default=None, help=about)


def take_defaults(parser: ArgumentParser, argv: Sequence[str], as_many_queries: bool) -> None:
    """Let the options of tasks default to those that the named model was trained with.

    as_many_queries: whether a task is embedded by its shots and by as many queries, so that by default there are no
        fewer.

    Raises:
        MetagenError: there is no such model, or it is damaged.
    """
    parser.formatter_class = OfTheModel
    first = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    first.add_argument("--model", nargs="?")
    first.add_argument("--config", action="append", default=[])
    first.add_argument("--data.task_set", dest="task_set")
    if as_many_queries:
        first.add_argument("--data.shots", dest="shots", type=int)
    typed = first.parse_known_args(list(argv))[0]
    model = typed.model or _in_files(typed.config).get("model")
    data = load_base(model).info.get("data") if isinstance(model, str) else None
    if isinstance(data, dict):
        known = inspect.signature(TaskData).parameters.keys() - _of_another(data.get("task_set"), typed.task_set)
        parser.set_defaults({f"data.{key}": value for key, value in data.items() if key in known})
    if as_many_queries:
        shots = typed.shots or held_out_shots(distribution_of(parser.get_default("data.shots")))[-1]
        parser.set_defaults({"data.queries": max(shots, parser.get_default("data.queries"))})


def _of_another(own: str | None, typed: str | None) -> set[str]:
    """The options of the model's task set that the one typed does not have."""
    if {own, typed} <= {*task_sets}:
        return {*options_of(task_sets[str(own)])} - {*options_of(task_sets[str(typed)])}
    return set()


def _in_files(configs: Sequence[str]) -> dict[str, Any]:
    """The options in YAML files, the later before the earlier; nothing of those that the parser will refuse."""
    options: dict[str, Any] = {}
    for name in configs:
        with suppress(OSError, ValueError, yaml.YAMLError):
            written = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
            options |= written if isinstance(written, dict) else {}
    return options
