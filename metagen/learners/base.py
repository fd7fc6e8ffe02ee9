"""What a learner is: start + step + what moves + meta-gradient."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import nn

from metagen.adaptation import MetaGradient, PlayerNoise, Step, TaskBatch, fixed_rate_step, inner_loop
from metagen.errors import MetagenError
from metagen.generators import Generator, Weights, call


class Learner(nn.Module):
    """A base generator and how it adapts; its parameters are the meta-parameters.

    Args:
        generator: whose weights are theta.
        step: how one inner update moves.
        steps: N in meta-training.
        test_steps: N where a trained model adapts; None for the same.
        moves: globs over the generator's weight names ("decoder.*"); one that starts with "!" takes away again. None at
            all where there are no steps.

    Raises:
        MetagenError: an option is out of range, nothing moves, or a meta-parameter could not be trained.
    """

    meta_gradient: ClassVar[MetaGradient]

    def __init__(
        self, generator: Generator, step: Step, steps: int, test_steps: int | None, moves: Sequence[str]
    ) -> None:
        super().__init__()
        for name, value in (("steps", steps), ("test_steps", test_steps or 0)):
            if value < 0:
                raise MetagenError(f"{name}: expected 0 or more, got {value}")
        if not moves and (steps or test_steps):
            raise MetagenError("moves: expected at least one glob where there are inner steps; '*' moves every weight")
        self.generator = generator
        self.step = step
        self.steps = steps
        self.test_steps = steps if test_steps is None else test_steps
        self.moves = tuple(moves)
        self.moving = _matching(self.moves, [name for name, _ in generator.named_parameters()])
        stuck = [n for n, _ in self.named_parameters() if not self.meta_gradient.trains(self, n)]
        if stuck:
            raise MetagenError(
                f"{type(self).__name__}: {len(stuck)} meta-parameters would never be trained, {stuck[0]} first; "
                "let all weights move, or choose another meta-gradient"
            )

    def player_of(self, name: str) -> str:
        """The player that trains a meta-parameter: a weight's own; the last one for what belongs to no weight."""
        part, _, rest = name.partition(".")
        return self.generator.player_of(rest) if part == "generator" else self.generator.players[-1]

    def start(self) -> Weights:
        """phi_0: where adaptation begins."""
        return dict(self.generator.named_parameters())

    def adapt(self, support: torch.Tensor, noise: PlayerNoise, steps: int | None = None) -> Weights:
        """phi_N of one task: support [k, C, H, W], noise by player [N, k, ...]; N as in meta-training if None."""
        count = self.steps if steps is None else steps
        return inner_loop(self.generator, self.step, self.start(), support, noise, self.moving, count)

    def query_loss(self, weights: Weights, player: str, task: TaskBatch) -> torch.Tensor:
        """One player's loss on one task's query at the given weights, in the generator's units."""
        return call(self.generator, weights, "query_loss", player, task.query, task.query_noise[player], task.support)

    def query_losses(self, task: TaskBatch) -> dict[str, torch.Tensor]:
        """Every player's loss on one task's query after adaptation to its support."""
        weights = self.adapt(task.support, task.support_noise)
        return {player: self.query_loss(weights, player, task) for player in self.generator.players}

    def forward(self, method: str, *args: Any) -> Any:  # noqa: ANN401
        """The method of that name: the door through which `call` runs it at other meta-parameters."""
        return getattr(self, method)(*args)


class FixedRate(Learner):
    """A learner whose inner optimiser has one fixed rate.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: the inner learning rate.
        optimiser: "sgd" or "adam".
        moves: globs over the generator's weight names; one that starts with "!" takes away again.
        test_steps: N where a trained model adapts; None for the same.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-3,
        optimiser: str = "sgd",
        moves: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        if not 0 < rate < float("inf"):
            raise MetagenError(f"rate: expected a finite number above 0, got {rate}")
        super().__init__(generator, fixed_rate_step(optimiser, rate), steps, test_steps, moves)
        self.rate, self.optimiser = rate, optimiser


def _matching(globs: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    chosen: set[str] = set()
    for glob in globs:
        found = {name for name in names if fnmatchcase(name, glob.removeprefix("!"))}
        if not found:
            raise MetagenError(f"moves: {glob!r} matches no weight; the generator has {', '.join(sorted(names))}")
        chosen = chosen - found if glob.startswith("!") else chosen | found
    if globs and not chosen:
        raise MetagenError(f"moves: {list(globs)} leaves no weight to move")
    return frozenset(chosen)
