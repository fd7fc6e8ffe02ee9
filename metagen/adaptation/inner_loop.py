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
    state = step.init({name: w for name, w in weights.items() if name in moves})
    for index in range(steps):
        for player in generator.players:
            own = {name: w for name, w in weights.items() if name in moves and generator.player_of(name) == player}
            drawn = {name: draws[index] for name, draws in noise[player].items()}
            gradients = grad(_support_loss)(own, weights, generator, player, support, drawn)
            own_state = {name: state[name] for name in own if name in state}
            own, own_state = step.update(own, gradients, own_state, index)
            weights, state = {**weights, **own}, {**state, **own_state}
    return weights


def _support_loss(
    own: Weights, weights: Weights, generator: Generator, player: str, support: torch.Tensor, noise: Noise
) -> torch.Tensor:
    """A function of the weights that one player moves; the others stay as they are."""
    loss: torch.Tensor = call(generator, {**weights, **own}, "support_loss", player, support, noise)
    return loss
