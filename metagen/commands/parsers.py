"""The parser of a verb, made from the signature of the function that does its work."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from metagen.commands.options import EXAMPLES, OfTheModel, add_sampling_arguments, explained
from metagen.distributed.processes import Processes
from metagen.model import load_base

if TYPE_CHECKING:
    from metagen.tasks.task_data import TaskData


def run_verb(function: Callable[..., None], argv: Sequence[str]) -> None:
    """Call the function of a verb with what a user typed; a group of options is made into the object it describes.

    Raises:
        MetagenError: an option is unknown, missing or refused.
    """
    verb = function.__name__.replace("_", "-")
    groups = [name for name in ("data", "trainer") if name in inspect.signature(function).parameters]
    parser = _parser(function, verb, groups, argv)
    try:
        options = parser.parse_args(list(argv)).as_dict()
    except ArgumentError as error:
        raise explained(error, verb, parser._option_string_actions) from error
    made = {name: _made(name, options[name]) for name in groups}
    function(**{key: value for key, value in {**options, **made}.items() if key != "config"})


def _parser(function: Callable[..., None], verb: str, groups: Sequence[str], argv: Sequence[str]) -> ArgumentParser:
    of_the_model = "model" in inspect.signature(function).parameters
    parser = ArgumentParser(
        prog=f"metagen {verb}",
        exit_on_error=False,
        allow_abbrev=False,
        epilog=f"example: {EXAMPLES[verb]}",
        formatter_class=OfTheModel if of_the_model else DefaultHelpFormatter,
    )
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    if verb == "compare":
        parser.add_argument("results", nargs="+", help="result folders, runs or exported models, each evaluated alike")
    if verb == "embed":
        about = "one or more of gradient, fisher, adapted, filtering and generative; the first is drawn"
        parser.add_argument("--ways", nargs="+", default=["gradient"], help=about)
    parser.add_function_arguments(function, as_positional=False, skip={*groups, "results", "ways", "settings"})
    if verb == "sample":
        add_sampling_arguments(parser)
    if "data" in groups:
        _add_data_arguments(parser, argv, verb == "embed")
    if "trainer" in groups:
        parser.add_class_arguments(Processes, "trainer")
    return parser


def _made(group: str, options: dict[str, Any]) -> TaskData | Processes:
    from metagen.tasks.task_data import TaskData

    return TaskData(**options) if group == "data" else Processes(**options)


def _add_data_arguments(parser: ArgumentParser, argv: Sequence[str], twice: bool) -> None:
    """The one set of `--data.*` options; by default those that the named model was trained with.

    twice: a task is looked at by its shots and by as many queries, so that there are no fewer by default.
    """
    from metagen.tasks.shots import distribution_of, held_out_shots
    from metagen.tasks.task_data import TaskData

    parser.add_class_arguments(TaskData, "data")
    first = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    first.add_argument("--model", nargs="?")
    first.add_argument("--config", action="append", default=[])
    if twice:
        first.add_argument("--data.shots", dest="shots", type=int)
    typed = first.parse_known_args(list(argv))[0]
    model = typed.model or _written(typed.config).get("model")
    data = load_base(model).info.get("data") if isinstance(model, str) else None
    if isinstance(data, dict):
        known = inspect.signature(TaskData).parameters
        parser.set_defaults({f"data.{key}": value for key, value in data.items() if key in known})
    if twice:
        shots = typed.shots or held_out_shots(distribution_of(parser.get_default("data.shots")))[-1]
        parser.set_defaults({"data.queries": max(shots, parser.get_default("data.queries"))})


def _written(configs: Sequence[str]) -> dict[str, Any]:
    """The options in YAML files, the later before the earlier; nothing of those that the parser will refuse."""
    found: dict[str, Any] = {}
    for name in configs:
        with suppress(OSError, ValueError, yaml.YAMLError):
            options = yaml.safe_load(Path(name).read_text(encoding="utf-8"))
            found |= options if isinstance(options, dict) else {}
    return found
