"""The draws of before counter-based ones: of each row a generator of torch's, seeded by a hash of its key."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch

from metagen import model
from metagen.adaptation import draws
from metagen.core.philox import rows_of
from metagen.core.seeding import torch_rng
from metagen.learners import batched


class EarlierDraws:
    """As `metagen.core.philox.Draws`."""

    def __init__(
        self, key: Sequence[int | str], rows: torch.Tensor | None = None, device: torch.device | str = "cpu"
    ) -> None:
        rows = rows_of([0])[0] if rows is None else rows
        self.lead = rows.shape[:-1]
        self.rngs = [torch_rng(*earlier_key(key, *row)) for row in rows.reshape(-1, 2).tolist()]

    def uniform(self, *shape: int) -> torch.Tensor:
        return self._each(torch.rand, shape)

    def normal(self, *shape: int) -> torch.Tensor:
        return self._each(torch.randn, shape)

    def _each(self, draw: Callable[..., torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
        drawn = [draw(shape, generator=rng) for rng in self.rngs]
        return torch.stack(drawn).reshape(self.lead + shape) if drawn else torch.empty(self.lead + shape)


def earlier_key(key: Sequence[int | str], task: int, number: int) -> tuple[int | str, ...]:
    """The key by which a row was seeded."""
    *first, last = key
    if last in ("sample", "criterion"):  # an image of a seed; or those of a task
        return (*key, task) if len(first) == 1 else (*first, task, last)
    return (*key, task) if last == "task" else (*first, task, number, last)  # else the name of a player


def use_earlier_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let adaptation, training and sampling draw as they did."""
    for module in (draws, batched, model):
        monkeypatch.setattr(module, "Draws", EarlierDraws)
