"""A VAE whose architecture is meta-learned.

DARTS (Liu 2019, arXiv:1806.09055); MetaNAS (Elsken 2020, arXiv:1911.11090).
"""

from __future__ import annotations

from typing import Any, ClassVar, get_args

import torch
from torch import nn

from metagen.core.functional import Weights
from metagen.core.gumbel import ChoiceName, gumbel
from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_choice
from metagen.generators.base import LikelihoodName, Noise
from metagen.generators.networks import OPERATIONS, NormName, OperationName, Refinement
from metagen.generators.vae import VAE


class Mixed(nn.Module):
    """The sum of several operations, weighted by softmax(architecture / temperature) (DARTS, eq. 2).

    Args:
        names: of the operations.
        width: channels.
        norm: "none" or "group".
        temperature: near 0 the largest logit takes all.
    """

    def __init__(self, names: tuple[OperationName, ...], width: int, norm: str, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.operations = nn.ModuleDict({name: OPERATIONS[name](width, norm) for name in names})
        self.architecture = nn.Parameter(torch.zeros(len(names)))

    @property
    def chosen(self) -> str:
        """The name of the operation with the largest logit."""
        return list(self.operations)[int(self.architecture.argmax())]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [n, C, s, s] -> [n, C, s, s]."""
        shares = (self.architecture / self.temperature).softmax(0)
        parts = [share * each(x) for share, each in zip(shares, self.operations.values(), strict=True)]
        return torch.stack(parts).sum(0)  # a matrix product would be of another type under autocast


class SearchVAE(VAE):
    """A VAE with every operation at every place, mixed by logits that only the outer loss moves.

    The temperature falls in meta-training, so that at its end each mixture is nearly one operation; `searched` has the
    options of the plain VAE with these operations, to train in its place.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.
        norm: "none" or "group".
        free_bits: nats of KL that each latent dimension may spend unpunished (Kingma 2016, arXiv:1606.04934).
        operations: names in `OPERATIONS` of those to choose from at every place.
        choice: "relaxed" mixes by the logits as they are; "sampled" adds Gumbel noise to them in meta-training, one
            draw a task (Gumbel softmax, Jang 2017, arXiv:1611.01144).
        warm: temperature where meta-training begins.
        cold: temperature where it ends, and of a trained model; between the two it falls by an equal factor a step.

    Raises:
        MetagenError: an option is out of range.
    """

    still: ClassVar[tuple[str, ...]] = ("*.architecture",)

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 16,
        widths: tuple[int, ...] | None = None,
        likelihood: LikelihoodName = "bernoulli",
        norm: NormName = "none",
        free_bits: float = 0.0,
        operations: tuple[OperationName, ...] = get_args(OperationName),
        choice: ChoiceName = "relaxed",
        warm: float = 1.0,
        cold: float = 0.1,
    ) -> None:
        check_choice("choice", choice, ChoiceName)
        for name in operations:
            check_choice("operation", name, OperationName)
        if not 0 < cold <= warm < float("inf"):
            raise MetagenError(f"expected temperatures 0 < cold <= warm, got cold {cold} and warm {warm}")
        if len(operations) < 2 or len(set(operations)) < len(operations):
            raise MetagenError(f"operations: expected two or more different ones, got {', '.join(operations)}")
        self.operations, self.choice, self.warm, self.cold = tuple(operations), choice, warm, cold
        super().__init__(size, channels, latent, widths, likelihood, 0, norm, free_bits)

    def refinements(self) -> list[Refinement]:
        """See `VAE`."""
        return [lambda width, norm: [Mixed(self.operations, width, norm, self.cold)]] * (2 * len(self.widths))

    @property
    def mixtures(self) -> dict[str, Mixed]:
        """The mixture of every place by the name of its logits, in the order of `VAE.blocks`."""
        return {f"{name}.architecture": each for name, each in self.named_modules() if isinstance(each, Mixed)}

    def anneal(self, progress: float) -> None:
        """See `Generator`."""
        for mixed in self.mixtures.values():
            mixed.temperature = self.warm * (self.cold / self.warm) ** progress

    def task_noise(self, draws: Draws) -> Noise:
        """Standard Gumbel draws for the logits of every place."""
        if self.choice == "relaxed":
            return {}
        return {name: gumbel(draws, len(self.operations)) for name in self.mixtures}

    def for_task(self, weights: Weights, noise: Noise) -> Weights:
        """The logits with the draws."""
        return {name: weights[name] + draw for name, draw in noise.items()}

    @property
    def searched(self) -> dict[str, Any]:
        """The options of the plain VAE that has the operation of the largest logit at every place."""
        kept = ("size", "channels", "latent", "widths", "likelihood", "norm", "free_bits")
        blocks = tuple(mixed.chosen for mixed in self.mixtures.values())
        return {**{name: getattr(self, name) for name in kept}, "blocks": blocks}
