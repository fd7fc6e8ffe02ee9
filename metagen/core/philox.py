"""Counter-based random numbers: Philox4x32-10 (Salmon 2011, "Parallel random numbers: as easy as 1, 2, 3", SC11)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from metagen.core.seeding import words_of

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key after each round
ROUNDS = 10
WORD = 0xFFFFFFFF
DOUBLE = ("cpu", "cuda")  # devices with double precision, which Apple's has not


def philox(counter: Sequence[torch.Tensor], key: Sequence[int]) -> list[torch.Tensor]:
    """Four random words of each counter of four words and the key of two: int64 in [0, 2**32), of broadcast shapes."""
    a, b, c, d = counter
    low, high = key
    for _ in range(ROUNDS):
        left, right = a * MULTIPLIERS[0], c * MULTIPLIERS[1]  # 64 bits; the sign is one of them
        a, b = (right >> 32 & WORD) ^ b ^ low, right & WORD
        c, d = (left >> 32 & WORD) ^ d ^ high, left & WORD
        low, high = (low + WEYL[0]) & WORD, (high + WEYL[1]) & WORD
    return [a, b, c, d]


class Draws:
    """Random numbers that a key and a row name: the same on any device, and whatever else is drawn beside them.

    Each call gives other numbers; of what a call gives, the first numbers do not depend on how many there are.

    Args:
        key: what they are for: (run, split, episode, purpose, ...).
        rows: [*lead, 2], numbers of 32 bits: whose they are, such as a task's number and an update's; one row (0, 0)
            without leading axes if None.
        device: where they are made, if it knows double precision; else on the CPU.
    """

    def __init__(
        self, key: Sequence[int | str], rows: torch.Tensor | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.key = words_of(*key)
        place = device if torch.device(device).type in DOUBLE else "cpu"
        self.rows = (rows_of([0])[0] if rows is None else rows).to(place)
        self.calls = 0

    def uniform(self, *shape: int) -> torch.Tensor:
        """Uniform in [0, 1), of 24 bits each: [*lead, *shape], float32."""
        count = math.prod(shape)
        return self._shaped((self._words(count)[..., :count] >> 8).float() * 2.0**-24, shape)

    def normal(self, *shape: int) -> torch.Tensor:
        """Standard normal (Box & Muller 1958): [*lead, *shape], float32.

        They are made in double precision, so that the last bits, in which devices differ, are rounded away.
        """
        count = math.prod(shape)
        first, second = (self._words(count).double() * 2.0**-32).unflatten(-1, (-1, 2)).unbind(-1)
        radius, angle = (-2 * (first + 2.0**-33).log()).sqrt(), 2 * math.pi * second
        pairs = torch.stack([radius * angle.cos(), radius * angle.sin()], -1)
        return self._shaped(pairs.flatten(-2)[..., :count].float(), shape)

    def _words(self, count: int) -> torch.Tensor:
        """At least so many random words, [*lead, a multiple of 4]."""
        blocks = torch.arange(-(-count // 4), device=self.rows.device)
        call = torch.full_like(blocks, self.calls)
        self.calls += 1
        first, second = self.rows[..., None].unbind(-2)
        return torch.stack(philox((blocks, call, first, second), self.key), -1).flatten(-2)

    def _shaped(self, numbers: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        return numbers.reshape((*self.rows.shape[:-1], *shape))


def rows_of(tasks: Sequence[int], numbers: torch.Tensor | None = None) -> torch.Tensor:
    """Rows of `Draws` [T, *, 2]: each task's number, and other numbers [*] of each; 0 if None. On the CPU, always."""
    others = torch.zeros((), dtype=torch.int64, device="cpu") if numbers is None else numbers
    first = torch.tensor(list(tasks), dtype=torch.int64, device="cpu").reshape(-1, *[1] * others.ndim)
    return torch.stack(torch.broadcast_tensors(first, others), -1)
