"""The weights that an adaptation changes."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from metagen.core.functional import Weights
from metagen.errors import MetagenError
from metagen.generators import Generator


def select_params(generator: Generator, names: Sequence[str], option: str = "adapted_params") -> Weights:
    """Select the parameters that adaptation changes: by name, the weights.

    Args:
        generator: whose weights.
        names: globs over their names ("decoder.*") and names of `generator.parts` ("head", "biases"); one that starts
            with "!" takes away again. What `generator.still` or `generator.frozen` names never moves.
        option: what the user calls them.

    Raises:
        MetagenError: one matches nothing, or nothing is left.
    """
    fixed = (*generator.still, *generator.frozen)
    weights = {n: w for n, w in generator.named_parameters() if not any(fnmatchcase(n, glob) for glob in fixed)}
    parts = generator.parts
    chosen: set[str] = set()
    for word in names:
        name = word.removeprefix("!")
        globs = parts.get(name, (name,))
        matches = {weight for weight in weights for glob in globs if fnmatchcase(weight, glob)}
        if not matches:
            raise MetagenError(
                f"{option}: {word!r} matches no weight; the generator has the parts {', '.join(sorted(parts))} and the "
                f"weights {', '.join(sorted(weights))}"
            )
        chosen = chosen - matches if word.startswith("!") else chosen | matches
    if names and not chosen:
        raise MetagenError(f"{option}: {list(names)} leaves no weight to move")
    return {name: weights[name] for name in sorted(chosen)}
