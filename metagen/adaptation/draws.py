"""Random draws of adaptation and meta-training, each seeded by what it is for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation.batch import PlayerNoise, TaskBatch
from metagen.adaptation.protocol import Adaptable
from metagen.core.functional import Weights
from metagen.core.philox import Draws, rows_of
from metagen.generators import Generator, Noise


def draw_noise(
    generator: Generator,
    key: Sequence[int | str],
    tasks: Sequence[int],
    n: int,
    steps: int | None = None,
    device: torch.device | str = "cpu",
) -> PlayerNoise:
    """The draws of each player's loss on n images: [T, n, ...], or [T, N, v, n, ...] for N inner steps of v updates.

    A draw depends on (key, task, update, player) alone: not on the other tasks, nor on N, chunks, processes or device.
    What the generator names as `shared` depends on (key, task, step): players are shown the same.

    Args:
        generator: whose draws.
        key: what they are for: (run, split, episode, purpose).
        tasks: each task's number in its episode.
        n: number of images.
        steps: N; None for a loss that is taken once.
        device: where they are made.
    """

    def of(player: str) -> Noise:
        updates = generator.player_updates[player]
        numbers = torch.arange(1 if steps is None else steps * updates, device="cpu")
        numbers = numbers[0] if steps is None else numbers
        own = generator.noise(n, Draws((*key, player), rows_of(tasks, numbers), device))
        if generator.shared:
            common = generator.noise(n, Draws((*key, "every player"), rows_of(tasks, numbers // updates), device))
            own |= {name: common[name] for name in generator.shared}
        return own if steps is None else {name: x.unflatten(1, (steps, updates)) for name, x in own.items()}

    return {player: of(player) for player in generator.players}


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
    generator, device = learner.generator, support.device
    inner = draw_noise(generator, (*key, "support"), tasks, support.shape[1], learner.steps, device)
    outer = draw_noise(generator, (*key, "query"), tasks, query.shape[1], device=device)
    task_noise = learner.task_noise(Draws((*key, "task"), rows_of(tasks), device))
    return TaskBatch(support, query, *tree_map(lambda x: x.to(support), (inner, outer, task_noise, targets or {})))
