"""Recorded functions of tensors: their operations without Python between them, and without those of no use."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import torch
from torch.utils._pytree import tree_flatten

from metagen.core.threads import watched

if TYPE_CHECKING:
    from torch.fx import GraphModule

R = TypeVar("R")
CONSTANTS = {"ones_like": 1.0, "zeros_like": 0.0}  # operations whose result depends on a shape alone

_ONE_AT_A_TIME = Lock()


class Recordings:
    """The recordings of one function, one for each layout of its arguments; the results are the same to the last bit.

    Args:
        after: how many calls of a layout are made before it is recorded, which takes as long as 10 to 100 of them.
    """

    def __init__(self, after: int) -> None:
        self.after = after
        self._calls: Counter[object] = Counter()
        self._graphs: dict[object, Callable[..., object]] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._graphs)

    def __reduce__(self) -> tuple[type[Recordings], tuple[int]]:
        return Recordings, (self.after,)  # a copy has recorded nothing

    def call(self, function: Callable[..., R], *args: object) -> R:
        """Return `function(*args)`, trees of tensors; it is the same function in all calls, and sees no other tensors.

        Nothing is recorded while a dispatch mode watches, or in mixed precision.
        """
        leaves, structure = tree_flatten(args)
        if watched() or torch.is_autocast_enabled(leaves[0].device.type):
            return function(*args)
        key = (repr(structure), *((x.shape, x.stride(), x.dtype, x.device) for x in leaves))
        with _ONE_AT_A_TIME:
            self._calls[key] += 1
            if key not in self._graphs and self._calls[key] > self.after:
                self._graphs[key] = _recorded(function, *args)
        return self._graphs.get(key, function)(*args)  # type: ignore[return-value]


def _recorded(function: Callable[..., R], *args: object) -> Callable[..., R]:
    """The operations of a call, as a function; the function itself where it does something that cannot be recorded."""
    from torch.func import functionalize
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

    try:
        graph = make_fx(functionalize(function, remove="mutations"))(*args)  # or what is overwritten counts as used
    except RuntimeError as error:
        warnings.warn(f"{error}; it runs unrecorded, which is slower", stacklevel=3)
        return function
    _fill_constants(graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def _fill_constants(graph: GraphModule) -> None:
    """Let a gradient's beginning, ones of the shape of a loss, not need the loss."""
    for node in graph.graph.nodes:
        name = getattr(node.target, "overloadpacket", None)
        value = CONSTANTS.get(getattr(name, "__name__", ""))
        if value is None:
            continue
        like = node.meta["val"]
        with graph.graph.inserting_before(node):
            options = {"dtype": like.dtype, "device": like.device}
            filled = graph.graph.call_function(torch.ops.aten.full.default, (list(like.shape), value), options)
        node.replace_all_uses_with(filled)
        graph.graph.erase_node(node)
