"""Work on several threads of Python at once, each with a share of torch's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

A = TypeVar("A")
B = TypeVar("B")


def watched() -> bool:
    """Whether a dispatch mode, such as one that measures memory, sees what this thread does."""
    return _get_current_dispatch_mode() is not None


def workers_for(device: torch.device, items: int, least: int) -> int:
    """How many threads to give n items, of which each is to have `least` or more; 1 where threads would not help.

    Small operations leave all but one of torch's own threads idle, so that threads of Python do more with them; on a
    GPU they would not. What is watched stays in one thread, which alone is seen.
    """
    if device.type != "cpu" or watched():
        return 1
    return max(1, min(torch.get_num_threads(), items // least))


def in_threads(function: Callable[[A], B], items: Sequence[A]) -> list[B]:
    """The function of each item, all at once, in the autograd and autocast mode of the caller."""
    if len(items) < 2:
        return [function(item) for item in items]
    threads, grad = torch.get_num_threads(), torch.is_grad_enabled()
    cast, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def in_mode(item: A) -> B:
        with torch.set_grad_enabled(grad), torch.autocast("cpu", dtype, cast):
            return function(item)

    try:
        return list(_pool(len(items), max(1, threads // len(items)), os.getpid()).map(in_mode, items))
    finally:
        torch.set_num_threads(threads)  # a new thread's own number became everyone's default


@cache
def _pool(workers: int, threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that stay, of one process: a fork has none of them."""
    return ThreadPoolExecutor(workers, "metagen", torch.set_num_threads, (threads,))
