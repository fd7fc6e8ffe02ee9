"""What a learner is: start + step + what moves + meta-gradient."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from metagen.adaptation import (
    Carry,
    MetaGradient,
    PlayerNoise,
    Regulariser,
    Step,
    TaskBatch,
    TaskNoise,
    at_step,
    fixed_rate_step,
    inner_step,
    select_params,
    weight_of,
)
from metagen.adaptation.meta_gradients import Losses
from metagen.errors import MetagenError, check_at_least
from metagen.generators import Generator, Noise, PerPlayer, Weights, by_player, distance_consistency, with_weights

NOTHING: TaskNoise = {}


class Learner(nn.Module):
    """A base generator and how it adapts; its parameters, but for frozen ones, are the meta-parameters.

    Args:
        generator: whose weights are theta.
        step: how one inner update moves.
        steps: N in meta-training.
        test_steps: N where a trained model adapts; None for the same.
        adapted_params: what moves (see `select_params`); nothing at all where there are no steps.

    Attributes:
        meta_gradient: how the outer loss reaches the meta-parameters.
        moving: the names of the weights that move.
        progress: how far meta-training has come, from 0 to 1; what is annealed depends on it.
        second_order_from: the progress from which inner gradients are differentiated (derivative-order annealing,
            Antoniou 2019, arXiv:1810.09502); where the meta-gradient is of first order they never are.
        reads: what is read from the support beside its gradients, in a word; None for nothing.
        conditioned: whether the start depends on the support, so that it adapts before any step.
        regulariser: what the outer loss of meta-training asks of phi_N beside a low query loss; None for nothing.

    Raises:
        MetagenError: an option is out of range, nothing moves, or a meta-parameter could not be trained.
    """

    meta_gradient: MetaGradient
    second_order_from: float = 0.0
    reads: ClassVar[str | None] = None
    conditioned: bool = False
    regulariser: Regulariser | None = None

    def __init__(
        self, generator: Generator, step: Step, steps: int, test_steps: int | None, adapted_params: Sequence[str]
    ) -> None:
        super().__init__()
        for name, value in (("steps", steps), ("test_steps", test_steps or 0)):
            check_at_least(name, value, 0)
        if not adapted_params and (steps or test_steps):
            raise MetagenError(
                "adapted_params: expected at least one glob where there are inner steps; '*' moves every weight"
            )
        self.generator = generator
        self.step = step
        self.steps = steps
        self.test_steps = steps if test_steps is None else test_steps
        self.adapted_params = tuple(adapted_params)
        self.adapted_names = frozenset(select_params(generator, self.adapted_params))
        self.progress = 1.0
        stuck = [name for name in self.meta_parameters() if not self.meta_gradient.trains(self, name)]
        if stuck:
            raise MetagenError(
                f"{type(self).__name__}: {len(stuck)} meta-parameters would never be trained, {stuck[0]} first; "
                "let all weights move, or choose another meta-gradient"
            )

    @property
    def reads_alone(self) -> bool:
        """Whether adapting is looking at the support and nothing else, so that all tasks share all weights."""
        return not self.adapted_names and not self.conditioned

    def meta_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that meta-training trains, by name: all that the generator does not freeze."""
        prefix = "generator."
        frozen = {prefix + name for name, _ in self.generator.named_parameters() if self.generator.is_frozen(name)}
        return {name: w for name, w in self.named_parameters() if name not in frozen}

    def player_of(self, name: str) -> str:
        """The player that trains a meta-parameter: that of its weight; the last one for what belongs to no weight."""
        part, _, rest = name.partition(".")
        if part == "generator":
            return self.generator.player_of(rest)
        weight = weight_of(name)
        belongs = any(each.startswith(weight) for each in self.adapted_names)
        return self.generator.player_of(weight) if belongs else self.generator.players[-1]

    def anneal(self, progress: float) -> None:
        """Go to a point of meta-training, from 0 to 1."""
        self.progress = progress
        self.generator.anneal(progress)

    def task_noise(self, rng: torch.Generator) -> TaskNoise:
        """The draws that are one for a whole task in meta-training; a trained model does without."""
        drawn = {"generator": self.generator.task_noise(rng), "step": self.step.task_noise(rng)}
        if self.regulariser is not None:
            weights = self.generator.named_parameters()
            drawn |= self.regulariser.task_noise({name: w for name, w in weights if name in self.adapted_names}, rng)
        return drawn

    def prepare(self, supports: Callable[[int], torch.Tensor]) -> None:
        """Take what is fixed before meta-training from supports of as many train tasks as asked; none by default."""

    def start(self, task_noise: TaskNoise = NOTHING) -> Weights:
        """phi_0: where adaptation begins, every weight."""
        weights: Weights = dict(self.generator.named_parameters())
        return {**weights, **self.generator.for_task(weights, task_noise.get("generator", {}))}

    def begin(self, support: torch.Tensor, task_noise: TaskNoise = NOTHING) -> Carry:
        """The weights that move, at their start, and the state of the step."""
        start = self.start(task_noise)
        own = {name: start[name] for name in sorted(self.adapted_names)}
        return own, self.step.init(own, support, task_noise.get("step", {}))

    def advance(self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, index: int, whole: TaskNoise) -> Carry:
        """Inner step number `index`, with that step's noise by player [v, k, ...] and the noise of the whole task."""
        start = self.start(whole)

        def loss(weights: Weights, player: str, draws: Noise) -> torch.Tensor:
            return self.support_loss(weights, start, player, support, draws)

        second_order = self.meta_gradient.second_order and self.progress >= self.second_order_from
        return inner_step(self.generator, self.step, loss, start, carry, noise, index, second_order)

    def carries(
        self,
        support: torch.Tensor,
        noise: PlayerNoise,
        steps: int,
        task_noise: TaskNoise = NOTHING,
        read: torch.Tensor | None = None,
    ) -> Iterator[Carry]:
        """What goes from step to step of one task, phi_0 to phi_N with the state of the step; see `adapt`."""
        carry = self.begin(support if read is None else read, task_noise)
        yield carry
        for index in range(steps):
            carry = self.advance(carry, support, at_step(noise, index), index, task_noise)
            yield carry

    def path(self, support: torch.Tensor, noise: PlayerNoise, steps: int, *more: Any) -> Iterator[Weights]:  # noqa: ANN401
        """phi_0 to phi_N of one task, the weights that move; see `carries`."""
        return (moved for moved, _ in self.carries(support, noise, steps, *more))

    def adapt(
        self,
        support: torch.Tensor,
        noise: PlayerNoise,
        steps: int | None = None,
        task_noise: TaskNoise = NOTHING,
        read: torch.Tensor | None = None,
    ) -> Weights:
        """phi_N of one task, every weight.

        Args:
            support: [k, C, H, W] in [0, 1].
            noise: by player, the draws of its loss at each visit of each step, each [N, v, k, ...].
            steps: N; that of meta-training if None.
            task_noise: the draws of `task_noise`; none for a trained model.
            read: images [j, C, H, W] that a step's rule is read from; the support if None.
        """
        path = self.path(support, noise, self.steps if steps is None else steps, task_noise, read)
        (last,) = deque(path, maxlen=1)  # holds on to no phi_i on the way
        return {**self.start(task_noise), **last}

    def support_loss(
        self, weights: Weights, start: Weights, player: str, support: torch.Tensor, noise: Noise
    ) -> torch.Tensor:
        """What a player minimises in the inner loop at these weights, having begun at `start`."""
        loss: torch.Tensor = with_weights(self.generator, weights).support_loss(player, support, noise)
        weight = self.generator.consistency
        if not weight or player != self.generator.players[-1]:
            return loss
        before, after = (with_weights(self.generator, at).generate(noise, support) for at in (start, weights))
        return loss + weight * distance_consistency(before, after)

    def query_losses(self, weights: Weights, task: TaskBatch) -> Losses:
        """Every player's loss on one task's query at the given weights, in the generator's units."""
        return {
            p: with_weights(self.generator, weights).query_loss(p, task.query, task.query_noise[p], task.support)
            for p in self.generator.players
        }

    def loss_weights(self) -> tuple[float, ...]:
        """How much the query loss at each of phi_0 ... phi_N counts in the outer loss; the last alone by default."""
        return (*[0.0] * self.steps, 1.0)

    def start_loss(self, carry: Carry, task: TaskBatch) -> Losses:
        """What phi_0 adds to each player's objective before any step; nothing by default."""
        return {}

    def outer_loss_terms(self, carry: Carry, task: TaskBatch, index: int) -> tuple[Losses, Losses]:
        """What phi_index, and the state there, add to each player's objective, and the query losses there.

        At phi_N the regulariser has its say: those losses are then taken where it moves the weights by chance.
        """
        start, moved, penalties = self.start(task.task_noise), carry[0], Losses()
        if self.regulariser is not None and index == self.steps:
            penalties = self.regulariser.penalties(self.generator, start, moved)
            moved = self.regulariser.disturbed(start, moved, task.task_noise)
        losses = self.query_losses({**start, **moved}, task)
        share = self.loss_weights()[index]
        counted = {p: share * loss if share else torch.zeros_like(loss) for p, loss in losses.items()}  # 0 * inf is nan
        return {player: each + penalties.get(player, 0) for player, each in counted.items()}, losses

    def objectives(self, task: TaskBatch) -> tuple[Losses, Losses, Weights]:
        """What each player's meta-parameters minimise on one task, its query losses after adaptation, and `kept`."""
        total: Losses = {}
        losses: Losses = {}
        shares = self.loss_weights()
        for index, carry in enumerate(self.carries(task.support, task.support_noise, self.steps, task.task_noise)):
            if not index:
                total = self.start_loss(carry, task)
            if shares[index] or index == self.steps:
                added, losses = self.outer_loss_terms(carry, task, index)
                total = {player: total.get(player, 0) + each for player, each in added.items()}
        return total, losses, self.task_record(carry, task)

    def task_record(self, carry: Carry, task: TaskBatch) -> Weights:
        """What training is to write down of a task once its query loss was taken, by name; nothing by default."""
        return {}

    def update_buffers(self, gradients: Weights, task_records: Weights) -> None:
        """Update the buffers after a meta-step; nothing by default.

        Args:
            gradients: of the meta-parameters, averaged over the batch, before an update and before clipping.
            task_records: `task_record` of every task of the batch, in the order of their numbers, each [T, ...].
        """


class FixedRate(Learner):
    """A learner whose inner optimiser has one fixed rate.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate, of all players or each one's by its name.
        optimiser: "sgd" or "adam".
        adapted_params: what moves: globs over the generator's weight names, or names of its parts; see
            `select_params`.
        test_steps: N where a trained model adapts; None for the same.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: str = "sgd",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        of_player = by_player("rate", rate, generator)
        rates = {name: of_player[generator.player_of(name)] for name in select_params(generator, adapted_params)}
        super().__init__(
            generator, fixed_rate_step(optimiser, rates, generator.betas), steps, test_steps, adapted_params
        )
        self.rate, self.optimiser = rate, optimiser
