"""An external memory: keys and values, read by attention, bounded (Santoro 2016, arXiv:1605.06065)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from metagen.errors import MetagenError, check_at_least, check_choice

Writing = Literal["least_used", "gated"]
DECAY = 0.99  # of how much a slot was used, a meta-step
ALIKE = 0.9  # the cosine of two keys from which a gated write renews a slot that is there
RENEWAL = 0.5  # of what a renewed slot holds, the share that is new
TINY = 1e-12  # added to a squared length, so that its root has every derivative also at 0


class Memory(nn.Module):
    """Slots that each hold a key and a value; what is in them is state, and no parameter.

    After Santoro 2016, section 3.2: reading is a softmax over cosines, use decays. Unlike there, a write replaces what
    the least used slot holds, and never adds to the slot that was read.

    Args:
        slots: how many there are.
        key: numbers in a key.
        value: numbers in a value.
        writing: where something new goes: to the "least_used" slot, or "gated": where a slot's key is like its own it
            is mixed into that slot, else it goes to the least used one.

    Raises:
        MetagenError: an option is unknown or out of range.
    """

    keys: torch.Tensor
    values: torch.Tensor
    used: torch.Tensor
    filled: torch.Tensor

    def __init__(self, slots: int, key: int, value: int, writing: Writing = "least_used") -> None:
        super().__init__()
        check_at_least("slots", slots, 1)
        check_choice("writing", writing, Writing)
        self.gated = writing == "gated"
        self.sharpness = nn.Parameter(torch.tensor([5.0, 5.0]))  # of reading by keys, and by values
        sizes = {"keys": (slots, key), "values": (slots, value), "used": (slots,), "filled": (slots,)}
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))

    def by_key(self, key: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean value [v] by how near keys are to a key [d], and each slot's share in it [slots]."""
        return self._read(cosines(key, self.keys), 0)

    def by_value(self, value: torch.Tensor) -> torch.Tensor:
        """The mean value [v] by how near values are to a value [v]."""
        return self._read(cosines(value, self.values), 1)[0]

    def _read(self, likeness: torch.Tensor, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        there = self.filled > 0
        shares = torch.where(there, self.sharpness[place] * likeness, -1e9).softmax(0) * there
        return shares @ self.values, shares

    def write(self, keys: torch.Tensor, values: torch.Tensor, shares: torch.Tensor) -> None:
        """Take up n keys [n, d] and values [n, v], one after the other; shares [n, slots] are what was read before."""
        self.used.mul_(DECAY).add_(shares.sum(0))
        for key, value in zip(keys, values, strict=True):
            slot, share = self._place(key)
            self.keys[slot].lerp_(key, share)
            self.values[slot].lerp_(value, share)
            self.used[slot] = self.used.max().clamp(min=1)  # what is new has not had its chance yet
            self.filled[slot] = 1

    def _place(self, key: torch.Tensor) -> tuple[int, float]:
        """A slot, and how much of it is to be new."""
        likeness = torch.where(self.filled > 0, cosines(key, self.keys), -2.0)
        if self.gated and likeness.max() > ALIKE:
            return int(likeness.argmax()), RENEWAL
        free = self.used - 2 * self.used.max().clamp(min=1) * (self.filled == 0)
        return int(free.argmin()), 1.0


def cosines(one: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Of [d] with each of [n, d]: [n]; 0 with what is 0."""
    lengths = ((others.square().sum(1) + TINY) * (one.square().sum() + TINY)).sqrt()
    return others @ one / lengths


def check_size(slots: int, value: int, most: int = 20_000_000) -> None:
    """Refuse a memory that would not fit a model's file.

    Raises:
        MetagenError: its values are more numbers than that.
    """
    if slots * value > most:
        raise MetagenError(
            f"slots: {slots} slots of {value} numbers that move are {slots * value}, more than {most}; let fewer "
            "weights move, or take fewer slots"
        )
