"""Random draws of adaptation and meta-training, each seeded by what it is for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation.batch import PlayerNoise, TaskBatch
from metagen.adaptation.protocol import Adaptable
from metagen.core.functional import Weights
from metagen.core.seeding import torch_rng
from metagen.generators import Generator, Noise


def draw_noise(
    generator: Generator, key: Sequence[int | str], tasks: Sequence[int], n: int, steps: int | None = None
) -> PlayerNoise:
    """The draws of each player's loss on n images: [T, n, ...], or [T, N, v, n, ...] for N inner steps of v updates.

    A draw depends on (key, task, update, player) alone: not on the other tasks, nor on N, chunks or processes. What the
    generator names as `shared` depends on (key, task, step): players are shown the same.

    Args:
        generator: whose draws.
        key: what they are for: (run, split, episode, purpose).
        tasks: each task's number in its episode.
        n: number of images.
        steps: N; None for a loss that is taken once.
    """

    def once(player: str, task: int, update: int, step: int) -> Noise:
        own = generator.noise(n, torch_rng(*key, task, update, player))
        if not generator.shared:
            return own
        common = generator.noise(n, torch_rng(*key, task, step, "every player"))
        return own | {name: common[name] for name in generator.shared}

    def draws(player: str, task: int) -> Noise:
        if steps is None:
            return once(player, task, 0, 0)
        updates = generator.player_updates[player]
        each = [once(player, task, update, update // updates) for update in range(steps * updates)]
        return {name: torch.stack([e[name] for e in each]).unflatten(0, (steps, updates)) for name in each[0]}

    def stack(rows: list[Noise]) -> Noise:
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    if steps == 0:  # no draws at all, but of the right shapes
        blank, lead = generator.noise(n, torch.Generator()), (len(tasks), 0)
        return {
            player: {name: x.new_empty(*lead, generator.player_updates[player], *x.shape) for name, x in blank.items()}
            for player in generator.players
        }
    return {player: stack([draws(player, task) for task in tasks]) for player in generator.players}


def draw_alike(
    generator: Generator, key: Sequence[int | str], tasks: Sequence[int], n: int, steps: int | None = None
) -> PlayerNoise:
    """As `draw_noise`, but each task's n images are given the same draws, so that their order does not matter."""
    place = 1 if steps is None else 3  # of the axis of images
    one = draw_noise(generator, key, tasks, 1, steps)
    return tree_map(lambda x: x.expand(*x.shape[:place], n, *x.shape[place + 1 :]), one)


def task_batch(
    learner: Adaptable,
    support: torch.Tensor,
    query: torch.Tensor,
    key: Sequence[int | str],
    tasks: Sequence[int],
    targets: Weights | None = None,
) -> TaskBatch:
    """Support [T, k, C, H, W] and query [T, q, C, H, W] with every draw that meta-training on them needs."""
    generator = learner.generator
    inner = draw_noise(generator, (*key, "support"), tasks, support.shape[1], learner.steps)
    outer = draw_noise(generator, (*key, "query"), tasks, query.shape[1])
    each = [learner.task_noise(torch_rng(*key, "task", task)) for task in tasks]
    task_noise = tree_map(lambda *draws: torch.stack(draws), *each)
    return TaskBatch(support, query, *tree_map(lambda x: x.to(support), (inner, outer, task_noise, targets or {})))
