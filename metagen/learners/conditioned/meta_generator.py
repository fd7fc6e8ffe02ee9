"""A network that writes an adapted model's weights (Ha 2017, arXiv:1609.09106; Ruiz 2023, arXiv:2307.06949)."""

from __future__ import annotations

import torch

from metagen.adaptation import NO_NOISE, Carry, Losses, Optimiser, TaskBatch, TaskNoise, WeightWriter, add_deltas
from metagen.core.functional import Weights
from metagen.generators import Generator, PerPlayer
from metagen.learners.conditioned.base import Conditioned

RANK = 1  # of the deltas that are written and, so that they fit, of a zoo's; no layer is too narrow for it


class MetaGenerator(Conditioned):
    """Learn to write low-rank changes of the weights in one forward pass, from the weights and the support.

    Of every delta L R the network writes L, and steps that follow move it; R is fixed (see `add_deltas`). The network
    begins by writing 0, and of an empty support always does: theta itself is the start.

    Args:
        generator: whose weights are theta; it is given the deltas.
        steps: N in meta-training; at 0 what is written is all.
        rate: the inner learning rate.
        optimiser: "sgd" or "adam".
        layers: whose weights are changed: globs over weight names, or names of the generator's parts (see
            `select_params`); None for those of the last player.
        rank: of every delta.
        width: of the network's tokens.
        widths: channels of its convolutions, which halve the images once each; None for those of a VAE of that size.
        frozen: keep theta as it is, so that the network alone is trained, and what a zoo holds stays right.
        test_steps: N where a trained model adapts; None for the same.

    Attributes:
        regress: how much it counts in meta-training that what is written is not what a zoo's model has.

    Raises:
        MetagenError: an option is out of range.
    """

    reads = "weights"
    regress: float = 1.0

    def __init__(
        self,
        generator: Generator,
        steps: int = 0,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        layers: tuple[str, ...] | None = None,
        rank: int = RANK,
        width: int = 64,
        widths: tuple[int, ...] | None = (8, 16),
        frozen: bool = False,
        test_steps: int | None = None,
    ) -> None:
        adapted_params = add_deltas(generator, rank, layers, fixed=True)
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        changed = {name: name.replace(".0.left", ".original") for name in adapted_params}
        self.writer = WeightWriter(generator, changed, width, widths)
        self.layers, self.rank, self.width, self.widths = layers and tuple(layers), rank, width, self.writer.widths
        self.frozen = frozen

    @property
    def keeps_generator(self) -> bool:
        """See `Parts`."""
        return self.frozen

    def start(self, task_noise: TaskNoise = NO_NOISE) -> Weights:
        """See `Learner`."""
        weights = super().start(task_noise)
        return {name: w.detach() for name, w in weights.items()} if self.frozen else weights

    def weight_changes(self, start: Weights, support: torch.Tensor, task_noise: TaskNoise) -> Weights:
        """The change of every L."""
        if not len(support):
            return {name: torch.zeros_like(start[name]) for name in sorted(self.adapted_names)}
        changes: Weights = self.writer(start, support)
        return changes

    def start_loss(self, carry: Carry, task: TaskBatch) -> Losses:
        """The distance of what is written for each player from a zoo's model."""
        errors: dict[str, list[torch.Tensor]] = {}
        for name, target in task.targets.items():
            errors.setdefault(self.generator.player_of(name), []).append(relative_error(carry[0][name], target))
        return {player: self.regress * torch.stack(each).mean() for player, each in errors.items()}


def relative_error(estimate: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The mean squared error in units of the target's mean square; 0 where the target is nothing but zeros."""
    size = target.square().mean()
    return torch.where(size > 0, (estimate - target).square().mean() / torch.where(size > 0, size, 1), 0)
