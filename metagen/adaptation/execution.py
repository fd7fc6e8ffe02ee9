"""How a function written for one task runs over many: a switch that never changes a result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.func import vmap
from torch.utils._pytree import tree_leaves, tree_map

from metagen.errors import unknown

EXECUTIONS = ("vmap", "loop")


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

    return loop if execution == "loop" else lifted
