"""The inner loop: from weights and a support to adapted weights, one inner step after another, for one task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation.batch import NO_NOISE, Carry, PlayerNoise, State, TaskNoise
from metagen.adaptation.protocol import Adaptable
from metagen.adaptation.steps.base import Rates, Step
from metagen.core.factored import descended, gradients_and_value
from metagen.core.functional import Weights
from metagen.generators import Generator, Noise

SupportLoss = Callable[[Weights, str, Noise], torch.Tensor]  # of all weights, one player, its draws


class SGD(Step):
    """Gradient descent, w <- w - rate * g, at each weight's own rate."""

    def __init__(self, rates: Rates) -> None:
        super().__init__()
        self.rates = rates

    def init(self, weights: Weights, support: torch.Tensor, noise: Noise) -> State:
        """No state."""
        return {}

    def update(
        self, weights: Weights, gradients: Weights, state: State, index: int, loss: torch.Tensor
    ) -> tuple[Weights, State]:
        """One descent step."""
        return {name: descended(w, gradients[name], self.rates[name]) for name, w in weights.items()}, state


def adapt(
    learner: Adaptable,
    support: torch.Tensor,
    noise: PlayerNoise,
    steps: int | None = None,
    task_noise: TaskNoise = NO_NOISE,
    read: torch.Tensor | None = None,
) -> Weights:
    """phi_N of one task, every weight; the arguments are those of `trajectory`."""
    (last,) = deque(trajectory(learner, support, noise, steps, task_noise, read), maxlen=1)  # holds on to no phi_i
    return {**learner.start(task_noise), **last[0]}


def trajectory(
    learner: Adaptable,
    support: torch.Tensor,
    noise: PlayerNoise,
    steps: int | None = None,
    task_noise: TaskNoise = NO_NOISE,
    read: torch.Tensor | None = None,
    factored: bool = False,
) -> Iterator[Carry]:
    """phi_0 to phi_N of one task, the weights that adapt, each with the state of the step.

    Args:
        learner: where adaptation starts, and how a step moves.
        support: [k, C, H, W] in [0, 1].
        noise: by player, the draws of its loss at each of its v updates in each step, each [N, v, k, ...].
        steps: N; that of meta-training if None.
        task_noise: the draws that are one for the task; none in a trained model.
        read: images [j, C, H, W] that a step's rule is read from; the support if None.
        factored: whether weights of linear layers may be `Factored`, for who does nothing but put them into modules.
    """
    carry = learner.begin(support if read is None else read, task_noise)
    yield carry
    count = learner.steps if steps is None else steps
    if factored and count:
        carry = learner.factored(carry, support, learner.step_noise(noise, 0), count)
    for index in range(count):
        carry = learner.advance(carry, support, learner.step_noise(noise, index), index, task_noise)
        yield carry


def inner_step(
    generator: Generator,
    step: Step,
    support_loss: SupportLoss,
    fixed: Weights,
    carry: Carry,
    noise: PlayerNoise,
    index: int,
    second_order: bool = True,
) -> Carry:
    """One inner step: the players update in order, each as often as the generator says, the others held fixed.

    Args:
        generator: the base generator, used for its structure alone.
        step: how one update moves.
        support_loss: the loss of a player on the support.
        fixed: the weights that do not adapt.
        carry: the weights that do, and the step's state.
        noise: by player, the draws of its loss at each of its v updates, each [v, k, ...].
        index: of the step, from 0.
        second_order: whether the gradient depends on the weights it was taken at, for whoever differentiates the step.
    """
    weights, state = carry
    players = {generator.player_of(name) for name in weights}
    for player, update, draws in scheduled_updates(generator, players, noise):
        at = {**fixed, **weights} if second_order else tree_map(torch.Tensor.detach, {**fixed, **weights})
        own = {name: w for name, w in at.items() if name in weights and generator.player_of(name) == player}

        def loss(own: Weights, at: Weights = at, player: str = player, draws: Noise = draws) -> torch.Tensor:
            return support_loss({**at, **own}, player, draws)

        gradients, value = gradients_and_value(loss, own)
        own_state = {name: state[name] for name in own if name in state}
        before = index * generator.player_updates[player] + update  # updates that this player had
        moved, own_state = step.update({name: weights[name] for name in own}, gradients, own_state, before, value)
        weights, state = {**weights, **moved}, {**state, **own_state}
    return weights, state


def scheduled_updates(generator: Generator, players: set[str], noise: PlayerNoise) -> Iterator[tuple[str, int, Noise]]:
    """The updates of one inner step: the player, the update's number among its own, and its draws [k, ...]."""
    for player in (p for p in generator.players if p in players):
        for update in range(generator.player_updates[player]):
            yield player, update, {name: draws[update] for name, draws in noise[player].items()}


def at_step(noise: PlayerNoise, index: int) -> PlayerNoise:
    """The draws of one inner step, [v, k, ...], of those of all of them, [N, v, k, ...]."""
    return {player: {name: draws[index] for name, draws in of.items()} for player, of in noise.items()}
