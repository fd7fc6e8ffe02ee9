"""Memory that freed tensors leave is kept for the next ones, in place of going back to the system each time."""

from __future__ import annotations

import ctypes
import sys

# Of glibc's malloc.h: from which size a block is mapped by itself, how much freed memory is kept, and how much more
# than asked is taken. Older versions know no threshold above 32 MiB.
M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD = -3, -1, -2
MIB = 2**20
SETTINGS = ((M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 64 * MIB), (M_MMAP_THRESHOLD, 32 * MIB))
FURTHER = (M_MMAP_THRESHOLD, 1024 * MIB)


def keep_freed_memory() -> bool:
    """Whether this process keeps it from now on, as it can with glibc; for commands, not for a library's user.

    By default every large tensor is mapped anew and zeroed by the kernel, page by page: a quarter of the time of a CPU
    that adapts many tasks.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    taken = [mallopt(*setting) for setting in SETTINGS]
    mallopt(*FURTHER)
    return all(taken)
