"""The largest network that a config may describe."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from metagen.errors import MetagenError


class _Room(threading.local):
    """How many numbers the weights of modules may hold that are built in this thread."""

    left = math.inf


_ROOM = _Room()


def _take_room(module: nn.Module, name: str, weight: nn.Parameter) -> None:
    if _ROOM.left < math.inf:
        _ROOM.left -= weight.numel()
    if _ROOM.left < 0:
        raise MetagenError("describes a far larger network than model.safetensors holds")


register_module_parameter_registration_hook(
    _take_room
)  # for good: adding one breaks what other threads build just then


@contextmanager
def no_more_weights_than(most: int) -> Iterator[None]:
    """Stop building modules in this thread when their weights hold more than `most` numbers.

    A config can describe a network of any size; one on the meta device takes no memory, but layers without end do.
    """
    _ROOM.left = most
    try:
        yield
    finally:
        _ROOM.left = math.inf
