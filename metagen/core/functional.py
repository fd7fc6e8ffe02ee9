"""Modules as pure functions: with weights that are given, and over many tasks at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from metagen.core.autocast import Convolutions
from metagen.core.factored import Factored, FactoredLinear, Probed, Weights

__all__ = ["Execution", "Weights", "over_tasks", "with_weights"]

M = TypeVar("M", bound=nn.Module)
Execution = Literal["vmap", "loop"]  # all tasks at once, or one by one, with less memory: the results are the same


def with_weights(module: M, weights: Weights) -> M:
    """Return the module with these weights in place of its own, by name; any name of a shared weight will do.

    The copy is of modules alone and shares all other tensors. The given module is not touched, not even for a moment as
    `torch.func.functional_call` does it, so that threads may use it at once.

    >>> layer = nn.Linear(2, 1)
    >>> with_weights(layer, {"bias": torch.zeros(1)})(torch.zeros(3, 2)).flatten().tolist()
    [0.0, 0.0, 0.0]
    """
    own = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    given = {id(tensor): weights[name] for name, tensor in own if name in weights}
    return cast(M, _copied(module, given, {}))


def _copied(module: nn.Module, given: dict[int, torch.Tensor], copies: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy of a module with tensors replaced by their id; not a closure, whose cycle would keep them alive."""
    if module not in copies:
        copies[module] = copy = object.__new__(type(module))
        vars(copy).update(vars(module))
        for kind in ("_parameters", "_buffers"):
            tensors = vars(module)[kind]
            vars(copy)[kind] = {name: given.get(id(tensor), tensor) for name, tensor in tensors.items()}
        if isinstance(vars(copy)["_parameters"].get("weight"), Factored | Probed):
            copy.__class__ = FactoredLinear
        children = vars(module)["_modules"].items()
        vars(copy)["_modules"] = {
            name: None if child is None else _copied(child, given, copies) for name, child in children
        }
    return copies[module]


def over_tasks(function: Callable[..., Any], execution: Execution = "vmap", shared: int = 1) -> Callable[..., Any]:
    """Lift a function of one task to a leading axis of tasks on every argument but the first `shared` ones.

    Args:
        function: of one task; returns a pytree of tensors.
        execution: "vmap" for all tasks at once, "loop" for one after the other.
        shared: how many leading arguments all tasks have in common.
    """

    def loop(*args: Any) -> Any:  # noqa: ANN401
        common, own = args[:shared], args[shared:]
        results = [function(*common, *tree_map(lambda x, t=t: x[t], own)) for t in range(len(tree_leaves(own)[0]))]
        return tree_map(lambda *each: torch.stack(each), *results)

    def run(*args: Any) -> Any:  # noqa: ANN401
        in_dims = (None,) * shared + (0,) * (len(args) - shared)
        lifted = loop if execution == "loop" else vmap(function, in_dims=in_dims)
        if not any(torch.is_autocast_enabled(x.device.type) for x in tree_leaves(args) if isinstance(x, torch.Tensor)):
            return lifted(*args)
        with Convolutions():
            return lifted(*args)

    return run
