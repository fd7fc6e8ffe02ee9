"""How a function written for one task runs over many: a switch that never changes a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.func import vmap
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from metagen.errors import unknown

EXECUTIONS = ("vmap", "loop")
CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv_transpose1d, torch.conv_transpose2d)


def over_tasks(function: Callable[..., Any], execution: str = "vmap", shared: int = 1) -> Callable[..., Any]:
    """Lift `function` to a leading axis of tasks on every argument but the first `shared` ones.

    Args:
        function: of one task; returns a pytree of tensors.
        execution: "vmap" runs all tasks at once; "loop" one after the other, with less memory.
        shared: how many leading arguments all tasks have in common.

    Raises:
        MetagenError: no such execution.
    """
    if execution not in EXECUTIONS:
        raise unknown("execution", execution, EXECUTIONS)

    def loop(*args: Any) -> Any:  # noqa: ANN401
        common, apart = args[:shared], args[shared:]
        results = [function(*common, *tree_map(lambda x, t=t: x[t], apart)) for t in range(len(tree_leaves(apart)[0]))]
        return tree_map(lambda *each: torch.stack(each), *results)

    def lifted(*args: Any) -> Any:  # noqa: ANN401
        return vmap(function, in_dims=(None,) * shared + (0,) * (len(args) - shared))(*args)

    chosen = loop if execution == "loop" else lifted

    def run(*args: Any) -> Any:  # noqa: ANN401
        if not any(torch.is_autocast_enabled(x.device.type) for x in tree_leaves(args) if isinstance(x, torch.Tensor)):
            return chosen(*args)
        with _Convolutions():
            return chosen(*args)

    return run


class _Convolutions(TorchFunctionMode):
    """Convolutions as autocast has them: `torch.func` hides from it, by device, all that they take or some of it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if func in CONVOLUTIONS and torch.is_autocast_enabled(args[0].device.type):
            args, kwargs = tree_map(_lowered, (args, kwargs))
        return func(*args, **kwargs)


def _lowered(given: Any) -> Any:  # noqa: ANN401
    """A tensor of single precision in that of autocast, anything else as it is."""
    single = isinstance(given, torch.Tensor) and given.dtype == torch.float32
    return given.to(torch.get_autocast_dtype(given.device.type)) if single else given
