"""Seeds that depend on what a draw is for, never on batch, chunk or number of processes."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from metagen.errors import MetagenError

DRAWING = threading.RLock()  # held by who makes a network: it draws from torch's own generator, one for all threads
if hasattr(os, "register_at_fork"):  # a process forked meanwhile would wait for good for a thread that it has not
    os.register_at_fork(before=DRAWING.acquire, after_in_parent=DRAWING.release, after_in_child=DRAWING.release)


def _sequence(key: tuple[int | str, ...]) -> np.random.SeedSequence:
    negative = [k for k in key if isinstance(k, int) and k < 0]
    if negative:
        raise MetagenError(f"seed: expected 0 or more, got {negative[0]}")
    return np.random.SeedSequence([zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key])


def torch_rng(*key: int | str) -> torch.Generator:
    """A CPU generator for one purpose, named by a key: (run, "train", episode, "support", task, step, player)."""
    seed = int(_sequence(key).generate_state(1, np.uint64)[0]) >> 1
    return torch.Generator().manual_seed(seed)


def numpy_rng(*key: int | str) -> np.random.Generator:
    """The same for numpy (PCG64)."""
    return np.random.Generator(np.random.PCG64(_sequence(key)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make networks in the block whose weights depend on the seed alone; torch's own generator stays as it was."""
    with DRAWING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
