"""A learner whose update rule is written for each task, by a network that reads the support."""

from __future__ import annotations

import torch

from metagen.adaptation import Engine, Exact, Rule, SetEncoder, select_params
from metagen.generators import Generator
from metagen.learners.base import Learner


class RuleEngine(Learner):
    """Learn a start, and an engine that reads a support and emits the rule by which to adapt to it (see `Engine`).

    Args:
        generator: whose weights are theta.
        steps: N in meta-training.
        rate: where all rates begin.
        momentum: where all momenta begin, in [0, 1); at 0 they stay there.
        widths: channels of the engine's convolutions, which halve the images once each; None for those of a VAE of
            that size.
        code: how many numbers the engine makes of a support.
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
    """

    meta_gradient = Exact()
    reads = "rule"
    step: Engine

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: float = 1e-3,
        momentum: float = 0.1,
        widths: tuple[int, ...] | None = (8, 16),
        code: int = 16,
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        encoder = SetEncoder(generator, code, widths)
        engine = Engine(generator, select_params(generator, adapted_params), rate, momentum, encoder)
        super().__init__(generator, engine, steps, test_steps, adapted_params)
        self.rate, self.momentum, self.widths, self.code = rate, momentum, encoder.widths, code

    def rule(self, support: torch.Tensor) -> Rule:
        """The rule for a support [k, C, H, W] in [0, 1]."""
        start = self.start()
        return self.step.rule({name: start[name] for name in sorted(self.adapted_names)}, support)
