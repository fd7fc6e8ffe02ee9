"""iMAML: MAML with implicit gradients (Rajeswaran 2019, arXiv:1909.04630)."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation import Implicit, Optimiser, PlayerNoise
from metagen.core.functional import Weights
from metagen.errors import MetagenError
from metagen.generators import Generator, Noise, PerPlayer
from metagen.learners.fixed_rate import FixedRate


class IMAML(FixedRate):
    """Learn a start near which the support loss has a minimum that makes the query loss small.

    The inner problem is the support loss plus proximal / 2 |phi - theta|^2. The meta-gradient is that of its minimum
    (`Implicit`), so take enough steps to come near it: then N may be large, for no more memory.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training, 1 or more.
        rate: the inner learning rate; of plain descent, below 2 / (largest curvature + proximal).
        optimiser: "sgd" or "adam".
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        proximal: lambda, above 0, in units of the support loss per squared weight: how strongly the start holds.
        cg_steps: of conjugate gradient, 1 or more.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        generator: Generator,
        steps: int = 16,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
        proximal: float = 2.0,
        cg_steps: int = 5,
    ) -> None:
        if steps < 1:
            raise MetagenError(f"steps: expected 1 or more, since the gradient is that of a minimum, got {steps}")
        self.meta_gradient = Implicit(proximal, cg_steps)
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        self.proximal, self.cg_steps = proximal, cg_steps

    def step_noise(self, noise: PlayerNoise, index: int) -> PlayerNoise:
        """The draws of the first update, for every one: only a fixed function has a minimum to be at."""
        return tree_map(lambda draws: draws[:1].expand_as(draws), super().step_noise(noise, 0))

    def support_loss(
        self, weights: Weights, start: Weights, player: str, support: torch.Tensor, noise: Noise
    ) -> torch.Tensor:
        """The generator's, and what it costs this player's weights to be away from their start."""
        own = [name for name in sorted(self.adapted_names) if self.generator.player_of(name) == player]
        away = sum((weights[name] - start[name]).square().sum() for name in own)
        return super().support_loss(weights, start, player, support, noise) + self.proximal / 2 * away
