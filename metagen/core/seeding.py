"""Seeds that depend on what a draw is for, never on batch, chunk or number of processes."""

from __future__ import annotations

import zlib
from functools import cache
from typing import Any

import numpy as np
import torch
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from metagen.errors import MetagenError


def _sequence(key: tuple[int | str, ...]) -> np.random.SeedSequence:
    negative = [k for k in key if isinstance(k, int) and k < 0]
    if negative:
        raise MetagenError(f"seed: expected 0 or more, got {negative[0]}")
    return np.random.SeedSequence([zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key])


def words_of(*key: int | str) -> tuple[int, int]:
    """Two words of 32 bits that a key names."""
    first, second = _sequence(key).generate_state(2, np.uint32).tolist()
    return first, second


def torch_rng(*key: int | str) -> torch.Generator:
    """A CPU generator for one purpose, named by a key: (run, "train", episode, "support", task, step, player)."""
    seed = int(_sequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator().manual_seed(seed)


def numpy_rng(*key: int | str) -> np.random.Generator:
    """The same for numpy (PCG64)."""
    return np.random.Generator(np.random.PCG64(_sequence(key)))


class seeded(TorchDispatchMode):
    """Make networks in the block whose weights depend on the seed alone, whatever other threads draw meanwhile.

    Random operations of this thread that name no generator take their draws from one of the block's own: those that
    `torch.manual_seed(seed)` would give. Torch's own generators, which all threads share, stay as they are.

    Args:
        seed: 0 or more.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else torch imports its compiler where the first network is made: 1.6 s
        return False

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        given = kwargs or {}
        drawing = _with_generator(func)
        device = args[0].device if isinstance(args[0] if args else None, torch.Tensor) else given.get("device")
        device = torch.device("cpu" if device is None else device)
        if drawing is None or given.get("generator") is not None:
            return func(*args, **given)
        if device.type == "meta":  # there is nothing to draw, and torch would import its compiler to do it
            inplace = func.overloadpacket.__name__.endswith("_")
            return args[0] if inplace else torch.empty(args[0], dtype=given.get("dtype"), device=device)
        if device not in self._generators:
            self._generators[device] = torch.Generator(device).manual_seed(self._seed)
        return drawing(*args, **{**given, "generator": self._generators[device]})


@cache
def _with_generator(func: OpOverload) -> OpOverload | None:
    """The overload of an operation that takes a generator, if there is one."""
    packet, names = func.overloadpacket, (func._overloadname, f"{func._overloadname}_generator", "generator")
    for overload in (getattr(packet, name) for name in names if name in packet.overloads()):
        if any(argument.name == "generator" for argument in overload._schema.arguments):
            return overload
    return None
