"""A start, and a step, that depend on the task by a code of its support (TADAM, Oreshkin 2018, arXiv:1805.10123)."""

from __future__ import annotations

from typing import Literal

import torch

from metagen.adaptation import Encoder, EncoderName, Engine, Optimiser, PerWeight, TaskNoise, encoder_for, select_params
from metagen.adaptation.steps.engine import bounded, output_axis
from metagen.core.functional import Weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_choice
from metagen.generators import Generator
from metagen.learners.conditioned.base import Conditioned

Use = Literal["start", "gates", "step"]


class TaskEmbedding(Conditioned):
    """Learn a start, and how an embedding e of the support changes it, each other learned at once.

    By `uses`: "start" adds to each weight what is linear in e (of matrices, of rank one: a factor for each row, that
    is, output channel, or input channel of a transposed convolution, times a learned vector); "gates" multiplies each
    output channel of each weight by exp of what is linear in e (blocks of the network opened and closed, Vuorio 2019,
    arXiv:1910.13616), softly within 20-fold; "step" writes rates and preconditioners from e (see `Engine`). All of them
    begin at nothing. Where the embedding is hidden, as it is of an empty support, start and gates have e = 0: theta
    itself is the start. The step is never without e, since it is taken on a support.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training; at 0 the embedding alone adapts.
        rate: the inner learning rate; where all rates begin, where the step is written.
        optimiser: "sgd" or "adam"; where the step is written, "sgd".
        encoder: "set", "prototype", "attention" or "gradient"; see `ENCODERS`.
        code: how many numbers there are in e.
        uses: what e is used for.
        null_rate: how often the embedding is hidden from start and gates in meta-training, so that theta is a start,
            too.
        adapted_params: what moves, and what e changes (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.

    Raises:
        MetagenError: an option is unknown or out of range.
    """

    reads = "embedding"

    def __init__(
        self,
        generator: Generator,
        steps: int = 3,
        rate: float = 1e-3,
        optimiser: Optimiser = "sgd",
        encoder: EncoderName = "set",
        code: int = 16,
        uses: tuple[Use, ...] = ("start",),
        null_rate: float = 0.1,
        adapted_params: tuple[str, ...] = ("*",),
        test_steps: int | None = None,
    ) -> None:
        for use in uses:
            check_choice("uses", use, Use)
        if not uses or ("step" in uses and optimiser != "sgd") or not 0 <= null_rate < 1:
            raise MetagenError(
                "expected one use or more, sgd where the step is written, and a null_rate of 0 or more and less than "
                f"1, got {list(uses)}, {optimiser!r} and {null_rate}"
            )
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        self.encoder, self.code, self.uses, self.null_rate = encoder, code, tuple(uses), null_rate
        weights = select_params(generator, adapted_params)
        self.conditioned = "start" in uses or "gates" in uses  # else N = 0 is theta, whatever the support
        self.axes = {name: output_axis(generator, name) for name in weights}
        reader = encoder_for(encoder, generator, code)
        if "step" in uses:
            self.step = Engine(generator, weights, rate, 0.0, reader)  # which holds the reader, so that it is one
        else:
            self.reader = reader
        if "start" in uses:
            self.offsets = PerWeight(
                {name: w.new_zeros(w.shape[0] if w.ndim else 1, code) for name, w in weights.items()}
            )
            self.rows = PerWeight({name: _row(w) for name, w in weights.items() if w.ndim > 1})
        if "gates" in uses:
            self.gates = PerWeight({name: w.new_zeros(self._channels(name, w), code) for name, w in weights.items()})
        self.to(next(generator.parameters()))

    def weight_changes(self, start: Weights, support: torch.Tensor, task_noise: TaskNoise) -> Weights:
        """The change of each weight that adapts, by gates and offsets of the embedding."""
        e = self.embedding(support)
        if "embedding" in task_noise:
            e = torch.where(task_noise["embedding"]["hidden"] < self.null_rate, 0, e)
        changed = {name: start[name] for name in sorted(self.adapted_names)}
        if "gates" in self.uses:
            changed = {name: w * self._factors(name, w, e) for name, w in changed.items()}
        if "start" in self.uses:
            changed = {name: w + self._offset(name, w, e) for name, w in changed.items()}
        return {name: w - start[name] for name, w in changed.items()}

    @property
    def encodes(self) -> Encoder:
        """The encoder of the support."""
        return self.step.encoder if isinstance(self.step, Engine) else self.reader

    def embedding(self, support: torch.Tensor) -> torch.Tensor:
        """The embedding [code] of a support [k, C, H, W] in [0, 1]; 0 of an empty one."""
        e: torch.Tensor = self.encodes(support)
        return e if len(support) else torch.zeros_like(e)

    def task_noise(self, draws: Draws) -> TaskNoise:
        """See `Learner`; also a uniform draw, by which the embedding is hidden."""
        return {**super().task_noise(draws), "embedding": {"hidden": draws.uniform()}}

    def _offset(self, name: str, weight: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        offset = self.offsets[name] @ e
        return (offset[:, None] * self.rows[name] if weight.ndim > 1 else offset).view_as(weight)

    def _factors(self, name: str, weight: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        shape = [-1 if axis == self.axes[name] else 1 for axis in range(weight.ndim)]
        return bounded(self.gates[name] @ e).exp().reshape(shape)

    def _channels(self, name: str, weight: torch.Tensor) -> int:
        return weight.shape[self.axes[name]] if weight.ndim else 1


def _row(weight: torch.Tensor) -> torch.Tensor:
    """The direction of each channel's offset: random, of length 1, over all axes of a weight but the first."""
    row = torch.randn(weight[0].numel(), dtype=weight.dtype, device=weight.device)
    return row / row.norm()
