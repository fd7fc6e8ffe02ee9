"""Encoders of a support: networks that read it, whatever the order of its images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import nn

from metagen.errors import check_at_least
from metagen.generators import Generator
from metagen.generators.networks import halvings, widths_for

LEAST_NORMED = 3  # numbers that a layer norm leaves something of: of one it leaves nothing, of two their order


class Encoder(nn.Module, ABC):
    """A support [k, C, H, W] in [0, 1], k >= 0, to a code [code] that does not depend on the order of its images.

    Args:
        generator: of whose kind the images are, and in whose precision the encoder is.
        code: how many numbers there are in the code.

    Attributes:
        prepared_by: how many train tasks it has to see before meta-training.
        needs_trained: where it keeps a copy of the generator as it is when training begins, which must not be random,
            the option that chooses this encoder, for the message; None where it keeps none.
        least: the fewest numbers that a code may have.

    Raises:
        MetagenError: the code has fewer.
    """

    prepared_by: ClassVar[int] = 0
    needs_trained: ClassVar[str | None] = None
    least: ClassVar[int] = 1

    def __init__(self, generator: Generator, code: int) -> None:
        super().__init__()
        check_at_least("code", code, self.least)
        self.code = code

    @abstractmethod
    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """The code of a support [k, C, H, W]: [code]."""

    def prepare(self, generator: Generator, supports: torch.Tensor) -> None:
        """Set what is fixed before meta-training, from supports [T, k, C, H, W] of `prepared_by` train tasks."""


class Convolutional(Encoder):
    """An encoder that sees each image through convolutions, which halve it once a width.

    Args:
        generator: see `Encoder`.
        code: see `Encoder`.
        widths: channels after each halving; None for those of a VAE of that size.
    """

    def __init__(self, generator: Generator, code: int, widths: tuple[int, ...] | None = (8, 16)) -> None:
        super().__init__(generator, code)
        self.widths = widths_for(generator.size, widths)
        self.images = halvings(generator.channels, self.widths, "group")
        self.seen = self.widths[-1] * (generator.size >> len(self.widths)) ** 2

    def features(self, support: torch.Tensor) -> torch.Tensor:
        """Features of each image: [k, seen]."""
        return self.images(support).flatten(1) if len(support) else support.new_zeros(0, self.seen)

    @staticmethod
    def mean(features: torch.Tensor) -> torch.Tensor:
        """The mean over images [k, d], 0 of none."""
        return features.sum(0) / max(len(features), 1)
