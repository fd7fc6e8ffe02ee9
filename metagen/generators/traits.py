"""Declarations of a generator: what it can do, which of its weights are special, and its options for sampling."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import nn

NORMS = (nn.GroupNorm, nn.LayerNorm)


class Traits(nn.Module):
    """Class attributes and properties of a generator, with defaults that a subclass may override.

    Attributes:
        uses_support: whether new images are made by looking at the support, so that it belongs to an adapted model.
        estimated: globs over the names of weights whose gradient is an estimate, passing what has none.
        batched: of one player, names of the methods that also take tasks that share all weights, as one more leading
            axis of every tensor: where nothing moves that is faster than `torch.func.vmap`, and gives the same.
        still: globs over the names of weights that no inner step ever moves.
        frozen: globs over the names of weights that nothing trains, neither inner steps nor meta-training.
        defining: names of the options that give weights their meaning, though no shape tells of them.
        sampling: names of the options of sampling, which may change after training.
        after_steps: sampling options by name, in place of the others where inner steps moved the weights.
        shared: names of draws that are the same for every update in one inner step, or for one query.
        comparable: whether a low loss means good images; a player's loss in a game tells how good the other one is.
        descends: whether its `project` seeks latents by descent, in many passes, for want of an encoder.
        betas: of Adam, where this generator is trained.
        consistency: how much its last player pays in an inner loop for changing which images are like which.
        size: height and width of the images in pixels.
        channels: 1 or 3.
    """

    uses_support: ClassVar[bool] = False
    estimated: ClassVar[tuple[str, ...]] = ()
    batched: ClassVar[tuple[str, ...]] = ()
    still: ClassVar[tuple[str, ...]] = ()
    frozen: ClassVar[tuple[str, ...]] = ()
    defining: ClassVar[tuple[str, ...]] = ()
    sampling: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    comparable: ClassVar[bool] = True
    descends: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    after_steps: Mapping[str, float] = MappingProxyType({})
    consistency: float = 0.0
    size: int
    channels: int

    @property
    def likelihood_of_samples(self) -> bool:
        """Whether its likelihood is of what it samples; redraw's is of blurred drawings."""
        return False

    @property
    def grid(self) -> Mapping[str, tuple[float, ...]]:
        """Values to choose sampling options from after training, the plain one first; options in order of choosing."""
        return {}

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Names for groups of weights that an inner loop may adapt, each for globs over names of weights.

        Every generator has "biases" and, where it has norms, "normalisation"; "head" (the last layer that makes the
        image) and "last_block" (all since the last change of scale) are its own.
        """
        norms = tuple(f"{name}.*" for name, module in self.named_modules() if isinstance(module, NORMS))
        return {"biases": ("*.bias",), **({"normalisation": norms} if norms else {})}

    @property
    def searched(self) -> dict[str, Any] | None:
        """The options of the plain VAE that an architecture search arrived at; None of what is not searched."""
        return None

    def is_frozen(self, name: str) -> bool:
        """Whether nothing trains the weight of that name."""
        return any(fnmatchcase(name, glob) for glob in self.frozen)

    def check_sampling(self) -> None:
        """Refuse values of the options named in `sampling`; a constructor calls it, too.

        Raises:
            MetagenError: one is out of range.
        """

    def anneal(self, progress: float) -> None:
        """Go to a point of meta-training, from 0 to 1, if anything is annealed."""

    def diagnostics(
        self, images: torch.Tensor, noise: dict[str, torch.Tensor], support: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Scalars to log beside the criterion, by name, of images [n, C, H, W] outside the support."""
        return {}
