"""A start, and steps, that read from a memory how other tasks adapted (Santoro 2016, arXiv:1605.06065)."""

from __future__ import annotations

import torch

from metagen.adaptation import (
    Carry,
    EncoderName,
    Memory,
    Optimiser,
    PerWeight,
    PlayerNoise,
    TaskBatch,
    TaskNoise,
    encoder_for,
    select_params,
)
from metagen.adaptation.memory import Writing, check_size
from metagen.core.functional import Weights
from metagen.generators import Generator, PerPlayer
from metagen.learners.conditioned.base import Conditioned


class MemoryLearner(Conditioned):
    """Learn a start, and a memory of how train tasks adapted, which new tasks begin from and are drawn to.

    A value is how far adaptation went, phi_N - theta; its key is a code of the support. phi_0 is theta plus, of each
    number, a learned share of the mean value by attention over keys; after each step phi moves by a learned share
    towards the mean value by attention over values (from phi - theta itself). After the query loss of a meta-step was
    taken its tasks are written, in the order of their numbers, whichever process had them; a trained model's memory
    stays as it is. It is empty at first, and then nothing is added.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate.
        optimiser: "sgd" or "adam".
        slots: how many tasks the memory holds.
        writing: "least_used" or "gated"; see `Memory`.
        encoder: of the support, "set", "prototype", "attention" or "gradient"; see `ENCODERS`.
        code: numbers in a key.
        adapted_params: what moves, and what is remembered of it (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.

    Raises:
        MetagenError: an option is unknown or out of range, or the memory would be too large.
    """

    reads = "memory"

    def __init__(
        self,
        generator: Generator,
        steps: int = 3,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        slots: int = 128,
        writing: Writing = "least_used",
        encoder: EncoderName = "set",
        code: int = 16,
        adapted_params: tuple[str, ...] = ("biases",),
        test_steps: int | None = None,
    ) -> None:
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        self.slots, self.writing, self.encoder, self.code = slots, writing, encoder, code
        weights = select_params(generator, adapted_params)
        total = sum(w.numel() for w in weights.values())
        check_size(slots, total)
        self.reader = encoder_for(encoder, generator, code)
        self.memory = Memory(slots, code, total, writing)
        self.taken = PerWeight({name: torch.full_like(w.detach(), 0.5) for name, w in weights.items()})
        self.pulls = PerWeight({name: w.new_zeros(()) for name, w in weights.items()})
        self.to(next(generator.parameters()))

    def weight_changes(self, start: Weights, support: torch.Tensor, task_noise: TaskNoise) -> Weights:
        """The learned share of what the memory holds for this support; nothing for an empty one."""
        value, _ = self.memory.by_key(self.reader(support))
        changes = self._apart(value if len(support) else torch.zeros_like(value), start)
        return {name: self.taken[name] * each for name, each in changes.items()}

    def advance(
        self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, index: int, task_noise: TaskNoise
    ) -> Carry:
        """See `Learner`; then towards what the memory holds for where phi is."""
        moved, state = super().advance(carry, support, noise, index, task_noise)
        start = self.start(task_noise)
        gone = self._together({name: w - start[name] for name, w in moved.items()})
        there = self.memory.filled.amax()  # 0 while the memory is empty
        way = self._apart(there * (self.memory.by_value(gone) - gone), start)
        return {name: w + self.pulls[name] * way[name] for name, w in moved.items()}, state

    def task_record(self, carry: Carry, task: TaskBatch) -> Weights:
        """A task's key, its value, and each slot's share in what it read."""
        start, key = self.start(task.task_noise), self.reader(task.support)
        gone = self._together({name: w - start[name] for name, w in carry[0].items()})
        return {"keys": key, "values": gone, "shares": self.memory.by_key(key)[1]}

    def update_buffers(self, gradients: Weights, task_records: Weights) -> None:
        """See `Learner`."""
        self.memory.write(**task_records)

    def _together(self, moved: Weights) -> torch.Tensor:
        return torch.cat([moved[name].flatten() for name in sorted(self.adapted_names)])

    def _apart(self, value: torch.Tensor, like: Weights) -> Weights:
        names = sorted(self.adapted_names)
        parts = value.split([like[name].numel() for name in names])
        return {name: part.view_as(like[name]) for name, part in zip(names, parts, strict=True)}
