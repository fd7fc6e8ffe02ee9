"""The parser of a verb, made from the signature of the function that does its work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, get_origin, get_type_hints

import docstring_parser
from jsonargparse import ArgumentError, ArgumentParser

from metagen.commands.complaints import explained

FLAT = "options"  # the parameter whose fields are options of the verb itself, without its name before them


class Schema:
    """The options of a verb: the parameters of its function.

    Attributes:
        function: the verb's.
        groups: the classes that parameters are annotated with, by the parameters' names: NAME.OPTION for each argument
            of the class. The fields of a dataclass whose parameter is called `options` are typed without a name before
            them.
        words: parameters that are one or more words, `Sequence[str]`.
        unnamed: positional-only parameters, which are typed without their names.
        settings: the names of `**settings`, in whose place the options of sampling are typed.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        parameters, hints = inspect.signature(function).parameters.values(), get_type_hints(function)
        self.function = function
        self.groups: dict[str, type[Any]] = {
            each.name: hints[each.name] for each in parameters if _is_group(hints[each.name])
        }
        self.words = [each for each in parameters if hints[each.name] == Sequence[str]]
        self.unnamed = [each for each in parameters if each.kind is each.POSITIONAL_ONLY]
        self.settings = [each.name for each in parameters if each.kind is each.VAR_KEYWORD]

    def add_to(self, parser: ArgumentParser) -> None:
        """Let a parser know of all parameters but the settings."""
        about = {each.arg_name: each.description for each in docstring_parser.parse(self.function.__doc__ or "").params}
        for each in self.unnamed:
            parser.add_argument(each.name, nargs="+" if each in self.words else None, help=about[each.name])
        for each in self.words:
            if each not in self.unnamed:
                parser.add_argument(f"--{each.name}", nargs="+", default=[*each.default], help=about[each.name])
        own = (each.name for each in (*self.words, *self.unnamed))
        skipped: set[str | int] = {*self.groups, *self.settings, *own}
        parser.add_function_arguments(self.function, as_positional=False, skip=skipped)
        for name, cls in self.groups.items():
            parser.add_class_arguments(cls, None if name == FLAT else name)

    def call(self, options: dict[str, Any]) -> None:
        """Call the function with parsed options; a group of them is made into the object that it describes."""
        for name, cls in self.groups.items():
            flat = name == FLAT
            own = {field.name: options.pop(field.name) for field in fields(cls)} if flat else options[name]
            options[name] = cls(**own)
        positional = [options.pop(each.name) for each in self.unnamed]
        self.function(*positional, **options)


def _is_group(hint: object) -> bool:
    return isinstance(hint, type) and get_origin(hint) is None and hint not in (str, int, float, bool, type(None))


def run_verb(function: Callable[..., None], argv: Sequence[str], example: str) -> None:
    """Call the function of a verb with the options that a user typed.

    Args:
        function: whose signature says what may be typed (see `Schema`), and whose docstring explains it.
        argv: the words after the verb.
        example: a command that the help ends with.

    Raises:
        MetagenError: an option is unknown, missing or refused.
    """
    verb, schema = function.__name__.replace("_", "-"), Schema(function)
    parser = _parser(verb, schema, argv, example)
    try:
        options = parser.parse_args(list(argv)).as_dict()
    except ArgumentError as error:
        raise explained(error, verb, parser._option_string_actions) from error
    schema.call({name: value for name, value in options.items() if name != "config"})


def _parser(verb: str, schema: Schema, argv: Sequence[str], example: str) -> ArgumentParser:
    parser = ArgumentParser(
        prog=f"metagen {verb}", exit_on_error=False, allow_abbrev=False, epilog=f"example: {example}"
    )
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    schema.add_to(parser)
    of_a_model = "data" in schema.groups and "--model" in parser._option_string_actions
    if schema.settings or of_a_model:
        from metagen.commands import model_options  # slow to import, and not for every verb

        if schema.settings:
            model_options.add_sampling_arguments(parser)
        if of_a_model:
            model_options.take_defaults(parser, argv, as_many_queries=verb == "embed")
    return parser
