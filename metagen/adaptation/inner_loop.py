"""Adaptation: a pure function from weights and a support to adapted weights, written for one task."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

from metagen.adaptation.batch import PlayerNoise
from metagen.adaptation.steps import State, Step
from metagen.generators import Generator, Noise, Weights

Carry = tuple[Weights, State]  # what goes from one inner step to the next: the weights that move, the step's state
SupportLoss = Callable[[Weights, str, Noise], torch.Tensor]  # of all weights, one player, its draws


def inner_step(
    generator: Generator,
    step: Step,
    support_loss: SupportLoss,
    still: Weights,
    carry: Carry,
    noise: PlayerNoise,
    index: int,
    second_order: bool = True,
) -> Carry:
    """One inner step: it visits the players in order, each as often as the generator says, the others held fixed.

    Args:
        generator: the base generator, used for its structure alone.
        step: how one update moves.
        support_loss: what a player minimises on the support.
        still: the weights that do not move.
        carry: the weights that do, and the step's state.
        noise: by player, the draws of its loss at each of its v visits, each [v, k, ...].
        index: of the step, from 0; an update of a player's weights is told how many that player had before.
        second_order: whether the gradient depends on the weights it was taken at, for whoever differentiates the step.
    """
    weights, state = carry
    movers = {generator.player_of(name) for name in weights}
    for player, visit, draws in scheduled_updates(generator, movers, noise):
        at = {**still, **weights} if second_order else tree_map(torch.Tensor.detach, {**still, **weights})
        own = {name: w for name, w in at.items() if name in weights and generator.player_of(name) == player}

        def loss(own: Weights, at: Weights = at, player: str = player, draws: Noise = draws) -> torch.Tensor:
            return support_loss({**at, **own}, player, draws)

        gradients, value = grad_and_value(loss)(own)
        own_state = {name: state[name] for name in own if name in state}
        before = index * generator.player_updates[player] + visit
        moved, own_state = step.update({name: weights[name] for name in own}, gradients, own_state, before, value)
        weights, state = {**weights, **moved}, {**state, **own_state}
    return weights, state


def scheduled_updates(generator: Generator, movers: set[str], noise: PlayerNoise) -> Iterator[tuple[str, int, Noise]]:
    """Who is visited in one inner step, for which time in it, and with which draws [k, ...]."""
    for player in (p for p in generator.players if p in movers):
        for visit in range(generator.player_updates[player]):
            yield player, visit, {name: draws[visit] for name, draws in noise[player].items()}


def at_step(noise: PlayerNoise, index: int) -> PlayerNoise:
    """The draws of one inner step, [v, k, ...], of those of all of them, [N, v, k, ...]."""
    return {player: {name: draws[index] for name, draws in of.items()} for player, of in noise.items()}
