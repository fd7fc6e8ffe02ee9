"""Transfer: joint training, then fine-tuning that stays near its start."""

from __future__ import annotations

from typing import Literal

import torch

from metagen.adaptation import Optimiser
from metagen.core.functional import Weights
from metagen.errors import MetagenError, check_at_least, check_choice
from metagen.generators import Generator, Noise, PerPlayer
from metagen.learners.baselines.joint import Joint

Anchor = Literal["l2", "ewc"]
DECAY = 0.99  # of the mean over meta-steps of squared gradients


class Transfer(Joint):
    """`Joint`, whose fine-tuning minimises the support loss + strength / 2 * sum_i F_i (w_i - theta_i)^2.

    "l2" has F = 1 (L2-SP, Li 2018, arXiv:1802.01483). "ewc", elastic weight consolidation (Kirkpatrick 2017,
    arXiv:1612.00796; Li 2020, arXiv:2012.02780), holds those weights most that the train tasks ask for most: F is the
    diagonal of the Fisher information, here the empirical one of batch gradients: the mean over meta-steps, of which
    the last hundred or so count, of the squared gradient of the mean query loss of all of a batch's tasks. That is
    smaller than of single images, about by their number, so its strengths are larger. Before any training F is 0.

    Freezing what is low in a critic (FreezeD, Mo 2020, arXiv:2002.10964) needs no more than `adapted_params`:
    ["*", "!critic_low"].

    Args:
        generator: whose weights are theta.
        rate: of fine-tuning.
        optimiser: "sgd" or "adam".
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts.
        anchor: what F is, "l2" or "ewc".
        strength: how strongly the start holds, 0 or more, in units of the support loss per squared weight and F.

    Raises:
        MetagenError: an option is out of range.
    """

    writes: torch.Tensor  # how many batches F is a mean of

    def __init__(
        self,
        generator: Generator,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "adam",
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int = 50,
        anchor: Anchor = "l2",
        strength: float = 1.0,
    ) -> None:
        check_choice("anchor", anchor, Anchor)
        check_at_least("strength", strength, 0)
        if strength == float("inf"):
            raise MetagenError("strength: expected a finite number, got inf; adapted_params may hold weights fixed")
        super().__init__(generator, rate, optimiser, adapted_params, test_steps)
        self.anchor, self.strength = anchor, strength
        if anchor == "ewc":
            self.register_buffer("writes", torch.tensor(0))
            for name, w in generator.named_parameters():
                if name in self.adapted_names:
                    self.register_buffer(_buffer(name), torch.zeros_like(w.detach()))

    def importance(self, name: str) -> torch.Tensor | float:
        """F of a weight that moves, shaped like it; 1 of all of them with "l2"."""
        return self.get_buffer(_buffer(name)) if self.anchor == "ewc" else 1.0

    def update_buffers(self, gradients: Weights, task_records: Weights) -> None:
        """Take one more batch's squared gradients into F: an exponential mean, corrected for where it began."""
        if self.anchor != "ewc":
            return
        self.writes += 1
        share = (1 - DECAY) / (1 - DECAY ** int(self.writes))
        for name in sorted(self.adapted_names):
            self.get_buffer(_buffer(name)).lerp_(gradients[f"generator.{name}"].square(), share)

    def support_loss(
        self, weights: Weights, start: Weights, player: str, support: torch.Tensor, noise: Noise
    ) -> torch.Tensor:
        """The generator's, and what it costs this player's weights to be away from their start."""
        own = [name for name in sorted(self.adapted_names) if self.generator.player_of(name) == player]
        away = sum((self.importance(name) * (weights[name] - start[name]).square()).sum() for name in own)
        return super().support_loss(weights, start, player, support, noise) + self.strength / 2 * away


def _buffer(weight: str) -> str:
    return "fisher/" + weight.replace(".", "/")  # no buffer's name may hold a dot
