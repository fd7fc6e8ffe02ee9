"""The parts of a learner and its meta-parameters: what `metagen.learners.base.Learner` is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, cast, get_args

import torch
from torch import nn

from metagen.adaptation import (
    Adaptable,
    Carry,
    Encoder,
    Hook,
    MetaGradient,
    PlayerNoise,
    Regulariser,
    Step,
    TaskNoise,
    select_params,
)
from metagen.core.functional import Weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_at_least
from metagen.generators import Generator


class Parts(nn.Module):
    """A base generator, a step, and the weights that adapt; its parameters, but for frozen ones, are meta-parameters.

    Args:
        generator: whose weights are theta.
        step: how one inner update moves.
        steps: N in meta-training.
        test_steps: N where a trained model adapts; None for the same.
        adapted_params: the weights that adapt (see `select_params`); none at all where there are no steps.

    Attributes:
        meta_gradient: how the outer loss reaches the meta-parameters.
        adapted_names: the names of the weights that adapt.
        progress: how far meta-training has come, from 0 to 1; annealing depends on it.
        second_order_from: the progress from which inner gradients are differentiated (derivative-order annealing,
            Antoniou 2019, arXiv:1810.09502); where the meta-gradient is of first order they never are.
        reads: the name of the source that is read beside the support's gradients; None for nothing.
        conditioned: whether the start depends on the support, so that it adapts before any step.
        regulariser: terms of the outer loss at phi_N beside the query loss; None for none.

    Raises:
        MetagenError: an option is out of range, nothing adapts, or the meta-gradient does not suit the learner.
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
                "adapted_params: expected at least one glob where there are inner steps; '*' adapts every weight"
            )
        self.generator, self.step, self.steps = generator, step, steps
        self.test_steps = steps if test_steps is None else test_steps
        self.adapted_params = tuple(adapted_params)
        self.adapted_names = frozenset(select_params(generator, self.adapted_params))
        self.progress = 1.0
        check_meta_gradient(self)

    @property
    def keeps_generator(self) -> bool:
        """Whether meta-training leaves the generator as it is."""
        return False

    @property
    def needs_trained(self) -> str | None:
        """The option by which training keeps the generator it begins from, so not a random one; None for none."""
        if self.keeps_generator:
            return "frozen"
        encoders = (module for module in self.modules() if isinstance(module, Encoder))
        return next((encoder.needs_trained for encoder in encoders if encoder.needs_trained), None)

    @property
    def pure(self) -> bool:
        """Whether its meta-gradient depends on meta-parameters and tasks alone, whatever the progress; unknown here."""
        return False

    @property
    def stationary(self) -> bool:
        """Whether all inner steps are one function of weights, support and draws; unknown here."""
        return False

    def factored(self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, steps: int) -> Carry:
        """phi_0 with weights of linear layers as `Factored`, where N steps with such draws go faster; as it is here."""
        return carry

    def meta_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that meta-training trains, by name: all that the generator does not freeze."""
        prefix = "generator."
        frozen = {prefix + name for name, _ in self.generator.named_parameters() if self.generator.is_frozen(name)}
        return {name: w for name, w in self.named_parameters() if name not in frozen}

    def prepare(self, supports: Callable[[int], torch.Tensor]) -> None:
        """Set what is fixed before meta-training, from supports of as many train tasks as asked; nothing by default."""

    def anneal(self, progress: float) -> None:
        """Go to a point of meta-training, from 0 to 1."""
        self.progress = progress
        self.generator.anneal(progress)

    def task_noise(self, draws: Draws) -> TaskNoise:
        """The draws that are one for a whole task in meta-training; a trained model does without."""
        noise = {"generator": self.generator.task_noise(draws), "step": self.step.task_noise(draws)}
        if self.regulariser is not None:
            weights = self.generator.named_parameters()
            noise |= self.regulariser.task_noise({name: w for name, w in weights if name in self.adapted_names}, draws)
        return noise

    def update_buffers(self, gradients: Weights, task_records: Weights) -> None:
        """Update the buffers after a meta-step; nothing by default.

        Args:
            gradients: of the meta-parameters, averaged over the batch, before an update and before clipping.
            task_records: `task_record` of every task of the batch, in the order of their numbers, each [T, ...].
        """


def overridden(module: nn.Module, methods: Sequence[str]) -> list[str]:
    """Those of the methods, each defined once by a base class, that the module's own class defines again."""
    return [name for name in methods if sum(name in vars(cls) for cls in type(module).__mro__) > 1]


def check_meta_gradient(learner: Parts) -> None:
    """Refuse a learner whose meta-gradient would pass over one of its hooks, or never train a meta-parameter.

    Raises:
        MetagenError: naming the first such hook or meta-parameter.
    """
    kind, meta_gradient = type(learner).__name__, learner.meta_gradient
    if ignored := [hook for hook in overridden(learner, get_args(Hook)) if hook not in meta_gradient.hooks]:
        raise MetagenError(
            f"{kind}: {type(meta_gradient).__name__} does not heed its {ignored[0]}; choose another meta-gradient"
        )
    if stuck := [
        name for name in learner.meta_parameters() if not meta_gradient.trains(cast(Adaptable, learner), name)
    ]:
        raise MetagenError(
            f"{kind}: {len(stuck)} meta-parameters would never be trained, {stuck[0]} first; "
            "let all weights move, or choose another meta-gradient"
        )
