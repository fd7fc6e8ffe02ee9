"""Adaptation to many tasks at once, and the adapted generators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch.utils._pytree import tree_leaves, tree_map

from metagen.adaptation import NO_NOISE, Carry, PlayerNoise, draw_noise, trajectory
from metagen.core.functional import Weights, over_tasks, with_weights
from metagen.core.philox import Draws, rows_of
from metagen.core.recording import Recordings
from metagen.generators import Generator, Noise, with_sampling
from metagen.learners.base import Learner

TASKS_AT_ONCE = 16


class Adapted:
    """T adapted generators: the base weights, and what each task's adaptation added to them.

    The adapted weights are by definition base + difference, so that saving the difference loses nothing.

    Attributes:
        generator: the base generator, whose own weights are the base.
        difference: of the weights that moved, each [T, ...].
        support: what was adapted to, [T, k, C, H, W] in [0, 1].
    """

    def __init__(self, generator: Generator, difference: Weights, support: torch.Tensor) -> None:
        self.generator, self.difference, self.support = generator, difference, support

    def __len__(self) -> int:
        return len(self.support)

    def __getitem__(self, task: int) -> Adapted:
        """One task alone, T = 1."""
        own = slice(task, task + 1)
        return Adapted(self.generator, {name: d[own] for name, d in self.difference.items()}, self.support[own])

    def over(self, generator: Generator) -> Adapted:
        """The same differences from the weights of another generator of the same kind."""
        return Adapted(generator, self.difference, self.support)

    def each(self, method: str, per_task: dict[str, Any], **common: Any) -> Any:  # noqa: ANN401
        """`generator.method(**per_task, **common)` at every task's weights.

        Args:
            method: of the generator.
            per_task: arguments whose every tensor has leading axis T.
            common: arguments that all tasks share.
        """
        if not self.difference and method in self.generator.batched:
            with torch.no_grad():
                return by_chunks(lambda own: getattr(self.generator, method)(**own, **common), per_task)
        base = {name: w.detach() for name, w in self.generator.named_parameters()}

        def one_task(base: Weights, difference: Weights, own: dict[str, Any]) -> Any:  # noqa: ANN401
            moved = {name: base[name] + d for name, d in difference.items()}
            return getattr(with_weights(self.generator, {**base, **moved}), method)(**own, **common)

        with torch.no_grad():
            return by_chunks(lambda *apart: over_tasks(one_task)(base, *apart), self.difference, per_task)

    def query_loss(self, query: torch.Tensor, noise: PlayerNoise) -> dict[str, torch.Tensor]:
        """Every player's loss on query [T, q, C, H, W], noise by player [T, q, ...]: by player, of each task [T]."""
        tasks = {"query": query, "support": self.support}
        return {p: self.each("query_loss", {**tasks, "noise": noise[p]}, player=p) for p in self.generator.players}

    def diagnostics(
        self, query: torch.Tensor, key: Sequence[int | str], tasks: Sequence[int]
    ) -> dict[str, torch.Tensor]:
        """The generator's diagnostics of query [T, q, C, H, W], by name, of each task [T]."""
        noise = draw_noise(self.generator, key, tasks, query.shape[1], device=query.device)[self.generator.players[-1]]
        own = {"images": query, "noise": tree_map(lambda x: x.to(query), noise), "support": self.support}
        diagnostics: dict[str, torch.Tensor] = self.each("diagnostics", own)
        return diagnostics

    @property
    def moved(self) -> torch.Tensor:
        """Whether each task has weights other than the base's: bool [T]."""
        none = torch.zeros(len(self), dtype=torch.bool, device=self.support.device)
        return torch.stack([none, *(d.flatten(1).ne(0).any(1) for d in self.difference.values())]).any(0)

    def generate(self, noise: Noise) -> torch.Tensor:
        """New images [T, n, C, H, W] in [0, 1] from noise [T, n, ...]; where weights moved, as `after_steps` says."""
        after = self.generator.after_steps
        if not after or not (moved := self.moved).any():
            return self._generated(self.generator, noise)
        stepped = self._generated(with_sampling(self.generator, after), noise)
        if moved.all():
            return stepped
        return torch.where(moved[:, None, None, None, None], stepped, self._generated(self.generator, noise))

    def _generated(self, generator: Generator, noise: Noise) -> torch.Tensor:
        images: torch.Tensor = self.over(generator).each("generate", {"noise": noise, "support": self.support})
        return images

    def sample(self, n: int, key: Sequence[int | str], tasks: Sequence[int]) -> torch.Tensor:
        """New images [T, n, C, H, W] in [0, 1]; the key and each task's number name its draws."""
        noise = self.generator.noise(n, Draws(key, rows_of(tasks), self.support.device))
        return self.generate({name: x.to(self.support) for name, x in noise.items()})


def adapt_tasks(
    learner: Learner,
    support: torch.Tensor,
    key: Sequence[int | str],
    tasks: Sequence[int] | None = None,
    steps: int | None = None,
    read: torch.Tensor | None = None,
) -> Adapted:
    """Adapt to each of T supports, in any autograd mode, also Lightning's inference mode.

    Args:
        learner: the trained model.
        support: [T, k, C, H, W] in [0, 1].
        key: names the noise: (run, split, ...).
        tasks: each task's number, which names its noise too; 0 to T - 1 if None.
        steps: N; the learner's test_steps if None.
        read: what each task's step reads its rule from, [T, k, C, H, W]; its own support if None.
    """
    count = learner.test_steps if steps is None else steps
    numbers = range(len(support)) if tasks is None else tasks
    return adapt_after(learner, support, key, numbers, (count,), read)[count]


def adapt_after(
    learner: Learner,
    support: torch.Tensor,
    key: Sequence[int | str],
    tasks: Sequence[int],
    steps: Sequence[int],
    read: torch.Tensor | None = None,
    recordings: Recordings | None = None,
) -> dict[int, Adapted]:
    """`adapt_tasks` after each of several numbers of inner steps, along one trajectory: noise belongs to a step.

    Who adapts one learner time and again keeps `recordings` of its step; many steps take less time so.
    """
    with torch.inference_mode(False):  # as the draws, which take part in gradients
        own, most = (*key, "support"), max(steps)
        noise = draw_noise(learner.generator, own, tasks, support.shape[1], most, support.device)
        return adapt_by(learner, support, noise, steps, read, recordings)


def adapt_by(
    learner: Learner,
    support: torch.Tensor,
    noise: PlayerNoise,
    steps: Sequence[int],
    read: torch.Tensor | None = None,
    recordings: Recordings | None = None,
) -> dict[int, Adapted]:
    """`adapt_after` with draws that are given, by player: each [T, N, v, k, ...], N the most steps."""

    def one_task(support: torch.Tensor, read: torch.Tensor, noise: PlayerNoise) -> dict[int, Weights]:
        start, states = learner.start(), trajectory(learner, support, noise, max(steps), read=read)
        kept = {index: {**start, **weights} for index, (weights, _) in enumerate(states) if index in steps}
        names = sorted(learner.adapted_names) if max(steps) or not learner.context_only else ()  # all tasks share all
        return {index: {name: weights[name] - start[name] for name in names} for index, weights in kept.items()}

    def step_by_step(support: torch.Tensor, read: torch.Tensor, noise: PlayerNoise) -> dict[int, Weights]:
        return _step_by_step(learner, support, noise, steps, cast(Recordings, recordings))

    function = step_by_step if recordings is not None and learner.stationary else over_tasks(one_task, shared=0)
    with torch.inference_mode(False), torch.no_grad():
        support = support.clone()  # made under inference mode it could not take part in a gradient
        noise = tree_map(lambda x: x.to(support), noise)
        rule = support if read is None else read.clone()
        differences = by_chunks(function, support, rule, noise)
    return {index: Adapted(learner.generator, difference, support) for index, difference in differences.items()}


def _step_by_step(
    learner: Learner, support: torch.Tensor, noise: PlayerNoise, steps: Sequence[int], recordings: Recordings
) -> dict[int, Weights]:
    """The change of T tasks' weights, each [T, ...], after each number of steps, of a learner that is `stationary`."""

    def step(meta: Weights, carry: Carry, support: torch.Tensor, noise: PlayerNoise) -> Carry:
        advance = partial(learner.with_weights(meta).advance, index=0, task_noise=NO_NOISE)
        moved: Carry = over_tasks(advance, shared=0)(carry, support, noise)
        return moved

    meta = {name: w.detach() for name, w in learner.named_parameters()}
    carry: Carry = over_tasks(learner.begin, shared=0)(support)
    start, added = carry[0], dict[int, Weights]()
    for index in range(max(steps) + 1):
        if index:
            draws = tree_map(lambda x, index=index: x[:, index - 1], noise)
            carry = recordings.call(step, meta, carry, support, draws)
        if index in steps:
            added[index] = {name: w - start[name] for name, w in carry[0].items()}
    return added


def by_chunks(function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401
    """The function of all tasks, TASKS_AT_ONCE at a time, so that memory is bounded."""
    total = len(tree_leaves(args)[0])
    parts = [slice(start, start + TASKS_AT_ONCE) for start in range(0, total, TASKS_AT_ONCE)]
    results = [function(*tree_map(lambda x, p=part: x[p], args)) for part in parts]
    return tree_map(lambda *each: torch.cat(each), *results)
