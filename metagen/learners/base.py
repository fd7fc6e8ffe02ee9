"""Learners: how one task is adapted to, and the outer loss that its query gives."""

from __future__ import annotations

from typing import TypeVar

import torch

from metagen.adaptation.batch import NO_NOISE, Carry, PlayerNoise, TaskBatch, TaskNoise
from metagen.adaptation.inner_loop import at_step, inner_step, trajectory
from metagen.adaptation.protocol import Losses
from metagen.adaptation.steps import weight_of
from metagen.core.functional import Weights, with_weights
from metagen.generators import Noise, consistency_penalty
from metagen.learners.parameters import Parts

L = TypeVar("L", bound="Learner")


class Learner(Parts):
    """A learner, written for one task and lifted to many by its meta-gradient; for its arguments see `Parts`."""

    def with_weights(self: L, weights: Weights) -> L:
        """The learner with these meta-parameters; see `metagen.core.functional.with_weights`."""
        return with_weights(self, weights)

    # Adaptation

    def start(self, task_noise: TaskNoise = NO_NOISE) -> Weights:
        """theta, every weight, for one task."""
        weights: Weights = dict(self.generator.named_parameters())
        return {**weights, **self.generator.for_task(weights, task_noise.get("generator", {}))}

    def begin(self, support: torch.Tensor, task_noise: TaskNoise = NO_NOISE) -> Carry:
        """phi_0, the weights that adapt, and the state of the step."""
        start = self.start(task_noise)
        own = {name: start[name] for name in sorted(self.adapted_names)}
        return own, self.step.init(own, support, task_noise.get("step", {}))

    def step_noise(self, noise: PlayerNoise, index: int) -> PlayerNoise:
        """The draws of inner step number `index`, by player [v, k, ...], of those of all steps."""
        return at_step(noise, index)

    def advance(
        self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, index: int, task_noise: TaskNoise
    ) -> Carry:
        """Inner step number `index`, with its noise by player [v, k, ...]."""
        start = self.start(task_noise)

        def loss(weights: Weights, player: str, draws: Noise) -> torch.Tensor:
            return self.support_loss(weights, start, player, support, draws)

        second_order = self.meta_gradient.second_order and self.progress >= self.second_order_from
        return inner_step(self.generator, self.step, loss, start, carry, noise, index, second_order)

    def support_loss(
        self, weights: Weights, start: Weights, player: str, support: torch.Tensor, noise: Noise
    ) -> torch.Tensor:
        """The inner loss of a player at these weights, having begun at `start`."""
        loss: torch.Tensor = with_weights(self.generator, weights).support_loss(player, support, noise)
        if self.generator.consistency and player == self.generator.players[-1]:
            loss = loss + consistency_penalty(self.generator, start, weights, support, noise)
        return loss

    # The outer loss

    def query_losses(self, weights: Weights, task: TaskBatch) -> Losses:
        """Every player's loss on one task's query at the given weights, in the generator's units."""
        adapted, query = with_weights(self.generator, weights), task.query
        return {p: adapted.query_loss(p, query, task.query_noise[p], task.support) for p in self.generator.players}

    def loss_weights(self) -> tuple[float, ...]:
        """The weight in the outer loss of the query loss at each of phi_0 ... phi_N; of the last alone by default."""
        return (*[0.0] * self.steps, 1.0)

    def start_loss(self, carry: Carry, task: TaskBatch) -> Losses:
        """A term of each player's objective that depends on phi_0; none by default."""
        return {}

    def outer_loss_terms(self, carry: Carry, task: TaskBatch, index: int) -> tuple[Losses, Losses]:
        """The terms of each player's objective that depend on phi_index, and the query losses there.

        At phi_N the regulariser adds its penalties; the query losses are then taken at weights that it disturbed.
        """
        start, moved, penalties = self.start(task.task_noise), carry[0], Losses()
        if self.regulariser is not None and index == self.steps:
            penalties = self.regulariser.penalties(self.generator, start, moved)
            moved = self.regulariser.disturbed(start, moved, task.task_noise)
        losses = self.query_losses({**start, **moved}, task)
        weight = self.loss_weights()[index]
        weighted = {p: weight * x if weight else torch.zeros_like(x) for p, x in losses.items()}  # 0 * inf is nan
        return {player: each + penalties.get(player, 0) for player, each in weighted.items()}, losses

    def objectives(self, task: TaskBatch) -> tuple[Losses, Losses, Weights]:
        """Each player's outer loss on one task, its query losses after adaptation, and the task's record."""
        total, losses = Losses(), Losses()
        loss_weights = self.loss_weights()
        path = trajectory(self, task.support, task.support_noise, self.steps, task.task_noise, factored=True)
        for index, carry in enumerate(path):
            if not index:
                total = self.start_loss(carry, task)
            if loss_weights[index] or index == self.steps:
                terms, losses = self.outer_loss_terms(carry, task, index)
                total = {player: total.get(player, 0) + each for player, each in terms.items()}
        return total, losses, self.task_record(carry, task)

    def task_record(self, carry: Carry, task: TaskBatch) -> Weights:
        """Tensors for `update_buffers`, by name, of a task whose query loss was taken at phi_N; none by default."""
        return {}

    @property
    def context_only(self) -> bool:
        """Whether meta-training adapts by looking at the support and nothing else, so that tasks share all weights."""
        return not self.adapted_names and not self.conditioned

    def player_of(self, name: str) -> str:
        """The player that trains a meta-parameter: that of its weight; the last one for what belongs to no weight."""
        part, _, rest = name.partition(".")
        if part == "generator":
            return self.generator.player_of(rest)
        weight = weight_of(name)
        belongs = any(each.startswith(weight) for each in self.adapted_names)
        return self.generator.player_of(weight) if belongs else self.generator.players[-1]
