"""Names for the things a user chooses from, and their options as plain data."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from metagen.errors import MetagenError, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """Named classes of one kind.

    Every registered class keeps each constructor argument as an attribute of the same name, so an object
    can be written down as `{"name": ..., option: value, ...}` and built again without importing anything
    that a file names.
    """

    def __init__(self, kind: str, **classes: type[T]) -> None:
        self.kind = kind
        self._classes = classes

    def __iter__(self) -> Iterator[str]:
        return iter(self._classes)

    def __getitem__(self, name: str) -> type[T]:
        if name not in self._classes:
            raise unknown(self.kind, name, self._classes)
        return self._classes[name]

    @property
    def classes(self) -> list[type[T]]:
        """All registered classes."""
        return list(self._classes.values())

    def name_of(self, thing: T) -> str:
        """The registered name of an object's class."""
        for name, cls in self._classes.items():
            if type(thing) is cls:
                return name
        raise MetagenError(f"{type(thing).__name__} is not a registered {self.kind}: add it to the registry")

    def describe(self, thing: T) -> dict[str, Any]:
        """The object as JSON-ready data: its name and every constructor option."""
        options = {key: getattr(thing, key) for key in options_of(type(thing))}
        return {"name": self.name_of(thing), **options}

    def build(self, description: Mapping[str, Any], *given: Any) -> T:  # noqa: ANN401
        """The object that `describe` wrote down, from it and the leading arguments that are not options.

        Raises:
            MetagenError: the name or an option is unknown, or an option's value is refused.
        """
        options = dict(description)
        cls = self[str(options.pop("name", None))]
        for key in options:
            if key not in options_of(cls):
                raise unknown(f"option of {self.kind} {description['name']}", key, options_of(cls))
        required = [k for k, p in inspect.signature(cls).parameters.items() if p.default is p.empty]
        for key in required:
            if key in options_of(cls) and key not in options:
                raise MetagenError(f"{self.kind} {description['name']}: needs the option {key!r}")
        try:
            return cls(*given, **{key: tuple(v) if isinstance(v, list) else v for key, v in options.items()})
        except MetagenError:
            raise
        except Exception as error:  # a damaged file can hold anything, and so can what the class makes of it
            raise MetagenError(f"{self.kind} {description['name']}: bad options {options}: {error}") from error


def options_of(cls: type) -> list[str]:
    """Names of every constructor argument but the generator, which a learner is given.

    Where a constructor takes `**more`, it passes on the keyword-only options of the class above.
    """
    names: list[str] = []
    for each in cls.__mro__:
        if "__init__" in vars(each):
            parameters = [p for p in inspect.signature(each).parameters.values() if p.name != "generator"]
            passed = [
                p.name for p in parameters if p.kind is not p.VAR_KEYWORD and (not names or p.kind is p.KEYWORD_ONLY)
            ]
            names += [name for name in passed if name not in names]
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
    return names
