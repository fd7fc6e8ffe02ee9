"""Autocast inside `torch.func` transforms."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

CONVOLUTIONS = (torch.conv1d, torch.conv2d, torch.conv_transpose1d, torch.conv_transpose2d)


class Convolutions(TorchFunctionMode):
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
