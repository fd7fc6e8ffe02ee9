"""Adaptation: a pure function from weights and a support to adapted weights, written for one task."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch.func import grad

from metagen.adaptation.steps import Step
from metagen.generators import Generator, Noise, Weights, call


def inner_loop(
    generator: Generator,
    step: Step,
    weights: Weights,
    support: torch.Tensor,
    noise: dict[str, Noise],
    moves: Collection[str],
    steps: int,
) -> Weights:
    """N inner steps; each visits the players in order, the others held fixed.

    Args:
        generator: the base generator, used for its structure alone.
        step: how one update moves.
        weights: phi_0, where adaptation begins: every weight of the generator.
        support: images [k, C, H, W] in [0, 1].
        noise: by player, the draws of its loss at each step, each [N, k, ...].
        moves: the names of the weights that move.
        steps: N, at least 0.

    Returns:
        phi_N: every weight, moved or not.
    """
    movers = {p: [name for name in weights if name in moves and generator.player_of(name) == p] for p in noise}
    state = step.init({name: weights[name] for name in weights if name in moves})
    for index in range(steps):
        for player in generator.players:

            def loss(moving: Weights, player: str = player, index: int = index) -> torch.Tensor:
                drawn = {key: draw[index] for key, draw in noise[player].items()}
                return call(generator, {**weights, **moving}, "support_loss", player, support, drawn)

            moving = {name: weights[name] for name in movers[player]}
            own_state = {name: state[name] for name in movers[player] if name in state}
            moved, own_state = step.update(moving, grad(loss)(moving), own_state, index)
            weights, state = {**weights, **moved}, {**state, **own_state}
    return weights
