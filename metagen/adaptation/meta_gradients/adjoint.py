"""The exact meta-gradient with the graph of one inner step in memory at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch.func import vjp
from torch.utils._pytree import tree_map

from metagen.adaptation.batch import Carry, TaskBatch
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.core.functional import Execution, Weights, over_tasks
from metagen.errors import MetagenError

Pulled = dict[str, tuple[Weights, Carry]]  # by player, its objective's gradient: of meta-parameters, and of a carry


class Adjoint(MetaGradient):
    """The gradient of `Exact`, by the adjoint of the inner loop: one VJP of each step, from the last to the first.

    The states (weights that move, state of the step) go forward without a graph. Where not all of them are kept, those
    in between are made again segment by segment (Chen 2016, arXiv:1604.06174): then N / segment + segment states are in
    memory, the fewest where segment is ceil(sqrt(N)), for at most one forward pass more.

    Args:
        segment: a state is kept every so many steps; None for every step.
        truncate: how many steps are differentiated, the last ones (after Shaban 2019, arXiv:1810.10667); the steps
            before them count as constants that were added to phi_0, as in the first-order gradient, which 0 is. None
            for all.

    Raises:
        MetagenError: an option is out of range.
    """

    hooks: ClassVar[tuple[Hook, ...]] = ("loss_weights", "outer_loss_terms")

    def __init__(self, segment: int | None = None, truncate: int | None = None) -> None:
        if segment is not None and segment < 1:
            raise MetagenError(f"segment: expected 1 or more steps, got {segment}")
        if truncate is not None and truncate < 0:
            raise MetagenError(f"truncate: expected 0 or more steps, got {truncate}")
        self.segment, self.truncate = segment, truncate

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""
        loop, loss_weights, last = _Loop(learner, meta, batch, execution), learner.loss_weights(), learner.steps
        first = 0 if self.truncate is None else max(0, last - self.truncate)
        carry, early = loop.begin(meta), Pulled()
        for index in range(first):
            if loss_weights[index]:
                early = _sum(early, loop.outer_gradient(carry, index)[0])
            carry = loop.advance(meta, carry, index)
        pulled, losses = Pulled(), Losses()
        for index, before in loop.backwards(carry, first, self.segment or 1):
            if index < last:
                pulled = loop.step_back(pulled, before, index)
            if loss_weights[index] or index == last:
                added, at_index = loop.outer_gradient(before, index)
                pulled, losses = _sum(pulled, added), losses or at_index
        return MetaStep(loop.begin_back(_sum(early, pulled)), losses, {}, {})

    def trains(self, learner: Adaptable, name: str) -> bool:
        """All of them, but for those of the step where no step is differentiated."""
        return self.truncate != 0 or name.startswith("generator.")


class _Loop:
    """A learner's inner loop over the tasks of a batch, forwards and backwards.

    The VJP is outside and the tasks inside, so that a meta-parameter's gradient is summed over tasks as it is made.
    """

    def __init__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution) -> None:
        self.learner, self.meta, self.batch, self.execution = learner, meta, batch, execution

    def begin(self, meta: Weights) -> Carry:
        """Every task's first state."""

        def one_task(meta: Weights, task: TaskBatch) -> Carry:
            return self.learner.with_weights(meta).begin(task.support, task.task_noise)

        carry: Carry = over_tasks(one_task, self.execution)(meta, self.batch)
        return carry

    def advance(self, meta: Weights, carry: Carry, index: int) -> Carry:
        """Every task's state after inner step number `index`."""

        def one_task(meta: Weights, carry: Carry, task: TaskBatch) -> Carry:
            noise = self.learner.step_noise(task.support_noise, index)
            return self.learner.with_weights(meta).advance(carry, task.support, noise, index, task.task_noise)

        after: Carry = over_tasks(one_task, self.execution)(meta, carry, self.batch)
        return after

    def outer_loss_terms(self, meta: Weights, carry: Carry, index: int) -> tuple[Losses, Losses]:
        """The terms that phi_index adds to each player's objective, the mean over tasks; and the query losses."""

        def one_task(meta: Weights, carry: Carry, task: TaskBatch) -> tuple[Losses, Losses]:
            return self.learner.with_weights(meta).outer_loss_terms(carry, task, index)

        added, losses = over_tasks(one_task, self.execution)(meta, carry, self.batch)
        return {player: each.mean() for player, each in added.items()}, losses

    def backwards(self, carry: Carry, first: int, segment: int) -> Iterator[tuple[int, Carry]]:
        """States with their indices, from the last to number `first`, which is given; one in `segment` is kept."""
        last, kept = self.learner.steps, [carry]
        for index in range(first, last):
            carry = self.advance(self.meta, carry, index)
            if (index + 1 - first) % segment == 0:
                kept.append(carry)
        while kept:
            states = [kept.pop()]
            start = first + len(kept) * segment
            for index in range(start, min(start + segment - 1, last)):
                states.append(self.advance(self.meta, states[-1], index))
            while states:
                yield start + len(states) - 1, states.pop()

    def outer_gradient(self, carry: Carry, index: int) -> tuple[Pulled, Losses]:
        """The gradient of what phi_index adds to the objectives, and every task's query losses there."""
        pulled_back: Any = vjp(
            lambda meta, carry: self.outer_loss_terms(meta, carry, index), self.meta, carry, has_aux=True
        )
        added, pull_back, losses = pulled_back
        chosen = {p: {o: torch.full_like(each, o == p) for o, each in added.items()} for p in added}
        return {player: pull_back(one) for player, one in chosen.items()}, losses

    def step_back(self, pulled: Pulled, carry: Carry, index: int) -> Pulled:
        """From the gradient after step number `index` to the one before it, at the state it began with."""
        _, pull_back = vjp(lambda meta, carry: self.advance(meta, carry, index), self.meta, carry)  # type: ignore[misc]
        before: Pulled = {}
        for player, (gradients, after) in pulled.items():
            own, back = pull_back(after)
            before[player] = (tree_map(torch.add, gradients, own), back)
        return before

    def begin_back(self, pulled: Pulled) -> Weights:
        """From the gradient at the first state to that of the meta-parameters, of each from its own player."""
        total = {player: gradients for player, (gradients, _) in pulled.items()}
        if self.learner.adapted_names:
            _, pull_back = vjp(self.begin, self.meta)  # type: ignore[misc]
            total = {p: tree_map(torch.add, total[p], *pull_back(carry)) for p, (_, carry) in pulled.items()}
        return {name: total[self.learner.player_of(name)][name] for name in self.meta}


def _sum(first: Pulled, second: Pulled) -> Pulled:
    summed: Pulled = tree_map(torch.add, first, second) if first else second
    return summed
