"""The learner as adaptation sees it: what the inner loop and the meta-gradients ask of it."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar

import torch

from metagen.adaptation.batch import Carry, PlayerNoise, TaskBatch, TaskNoise
from metagen.core.functional import Weights
from metagen.core.philox import Draws
from metagen.generators import Generator, Noise

L = TypeVar("L", bound="Adaptable")
Losses = dict[str, torch.Tensor]  # by player, of one task [] or of each task [T]

# The methods of a learner by which its outer loss is more than the query loss at phi_N; see `metagen.learners.Learner`.
Hook = Literal["start_loss", "loss_weights", "outer_loss_terms", "task_record"]


class Adaptable(Protocol):
    """A base generator and how it adapts, for one task; `metagen.learners.Learner` says what each method is."""

    generator: Generator
    steps: int
    adapted_names: frozenset[str]

    @property
    def context_only(self) -> bool: ...
    def with_weights(self: L, weights: Weights) -> L: ...
    def player_of(self, name: str) -> str: ...
    def start(self, task_noise: TaskNoise = ...) -> Weights: ...
    def begin(self, support: torch.Tensor, task_noise: TaskNoise = ...) -> Carry: ...
    def step_noise(self, noise: PlayerNoise, index: int) -> PlayerNoise: ...
    def advance(
        self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, index: int, task_noise: TaskNoise
    ) -> Carry: ...
    def support_loss(
        self, weights: Weights, start: Weights, player: str, support: torch.Tensor, noise: Noise
    ) -> torch.Tensor: ...
    def query_losses(self, weights: Weights, task: TaskBatch) -> Losses: ...
    def loss_weights(self) -> tuple[float, ...]: ...
    def outer_loss_terms(self, carry: Carry, task: TaskBatch, index: int) -> tuple[Losses, Losses]: ...
    def objectives(self, task: TaskBatch) -> tuple[Losses, Losses, Weights]: ...
    def task_noise(self, draws: Draws) -> TaskNoise: ...
