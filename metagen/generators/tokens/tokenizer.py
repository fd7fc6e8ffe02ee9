"""The tokenizer: a VAE whose latent is a grid of discrete codes, which a prior then learns to write."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_at_least
from metagen.generators.base import Context, Generator, Likelihood, LikelihoodName, Noise
from metagen.generators.networks import Residual, normalisation, silent
from metagen.generators.tokens.quantiser import Quantiser

DEFAULT_HALVINGS = {28: 2, 32: 2, 64: 3, 128: 4}  # to grids of 7 x 7 or 8 x 8 codes


class Tokenizer(Generator):
    """Convolutional VAE with finite scalar quantisation (Mentzer 2023, arXiv:2309.15505) and a uniform prior.

    The posterior is a point mass on one code a place, so the loss, -log p(x | codes) + log(codes) a place, is a
    negative evidence lower bound in nats per image.

    Args:
        size: height and width in pixels; a multiple of 2 ** halvings.
        channels: 1 or 3.
        width: channels at full size; there are twice as many below.
        levels: of each channel of a code, 3 or more; their product is the number of codes.
        halvings: how often the image is halved down to the grid of codes; None for a grid of 7 x 7 or 8 x 8.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.

    Raises:
        MetagenError: an option is out of range.
    """

    players: ClassVar[tuple[str, ...]] = ("vae",)
    defining: ClassVar[tuple[str, ...]] = ("levels",)
    estimated: ClassVar[tuple[str, ...]] = ("encoder.*",)
    batched: ClassVar[tuple[str, ...]] = ("query_loss",)

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        width: int = 32,
        levels: tuple[int, ...] = (8, 6, 5),
        halvings: int | None = None,
        likelihood: LikelihoodName = "bernoulli",
    ) -> None:
        super().__init__()
        check_at_least("width", width, 1)
        self.size, self.channels, self.width, self.likelihood = size, channels, width, likelihood
        self.levels, self.halvings = tuple(levels), halvings_for(size, halvings)
        self.quantiser = Quantiser(self.levels)
        self.side = size >> self.halvings
        self.encoder = nn.Sequential(*_down(channels, width, self.halvings, len(self.levels)))
        self.decoder = nn.Sequential(*_up(channels, width, self.halvings, len(self.levels)))
        self.log_likelihood = Likelihood(likelihood)

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`."""
        last = len(self.decoder) - 1
        block = tuple(f"decoder.{place}.*" for place in range(last - 2, last + 1))
        return {**super().parts, "head": block[-1:], "last_block": block}

    @property
    def places(self) -> int:
        """The number of codes of an image."""
        return self.side**2

    def noise(self, n: int, draws: Draws) -> Noise:
        """One uniform number a code [..., n, places]."""
        return {"codes": draws.uniform(n, self.places)}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """Negative ELBO, nats per image: of images [n, C, H, W], or of those of each of T tasks [T]."""
        flat = images.flatten(0, -4)
        likelihood = self.log_prob_given(self.quantiser.rounded(self.bounded(flat)), flat)
        return self.places * math.log(self.quantiser.codes) - likelihood.unflatten(0, images.shape[:-3]).mean(-1)

    def query_loss(self, player: str, query: torch.Tensor, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """See `Generator`; also of tasks [T, q, C, H, W] that share all weights: [T]."""
        return self.loss(player, query, noise, None)

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """Images [n, C, H, W] of codes that are drawn evenly."""
        return self.log_likelihood.expected(self.decode((noise["codes"] * self.quantiser.codes).long()))

    def bounded(self, images: torch.Tensor) -> torch.Tensor:
        """Code maps [n, g, g, d] of images [n, C, H, W] before they are rounded."""
        return self.quantiser.bounded(at_least_single(self.encoder(images).permute(0, 2, 3, 1)))

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """The codes [n, places], row by row, of images [n, C, H, W]."""
        return self.quantiser.index(self.quantiser.rounded(self.bounded(images))).flatten(1)

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode codes [n, places] to logits or means [n, C, H, W], as the likelihood takes them."""
        values = self.quantiser.values(codes, next(self.decoder.parameters()))
        return self._decoded(values.unflatten(1, (self.side, self.side)))

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through their codes and back."""
        return self.log_likelihood.expected(self.decode(self.project(images)))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, by maps not yet rounded: [n, steps, C, H, W]."""
        return self.log_likelihood.expected(self.blended(first, last, steps).flatten(0, 1)).unflatten(0, (-1, steps))

    def blended(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """Logits or means on the way from `first` [n, C, H, W] to `last`: [n, steps, C, H, W]."""
        path = torch.linspace(0, 1, steps).to(first)[:, None, None, None]
        start, end = (self.bounded(images)[:, None] for images in (first, last))
        return self._decoded(torch.lerp(start, end, path).flatten(0, 1)).unflatten(0, (-1, steps))

    def log_prob_given(self, rounded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(image | code map [n, g, g, d]) of each of images [n, C, H, W], nats [n]."""
        return self.log_likelihood(at_least_single(self._decoded(rounded)), images)

    def _decoded(self, values: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.quantiser.scaled(values).permute(0, 3, 1, 2))


def at_least_single(x: torch.Tensor) -> torch.Tensor:
    """Numbers that autocast may have left in half precision, in single precision or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def halvings_for(size: int, halvings: int | None) -> int:
    """The number of halvings of an image of that size: the given one if it fits, or its default.

    Raises:
        MetagenError: the size is no multiple of 2 ** halvings, or has no default.
    """
    if halvings is None and size not in DEFAULT_HALVINGS:
        raise MetagenError(f"halvings: size {size} has no default (only {list(DEFAULT_HALVINGS)}); give halvings")
    chosen = DEFAULT_HALVINGS[size] if halvings is None else halvings
    check_at_least("halvings", chosen, 1)
    if size % 2**chosen:
        raise MetagenError(f"halvings: {chosen} of them need a size that is a multiple of {2**chosen}, got {size}")
    return chosen


def residual(width: int) -> Residual:
    """Two 3x3 convolutions beside a path that keeps the features; it begins as that path alone."""
    return Residual(
        *(normalisation("group", width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU()),
        silent(nn.Conv2d(width, width, 3, padding=1)),
    )


def _down(channels: int, width: int, halvings: int, outputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), residual(width)]
    for place in range(halvings):
        before = width if place == 0 else 2 * width
        layers += [nn.Conv2d(before, 2 * width, 4, stride=2, padding=1), residual(2 * width)]
    return [*layers, residual(2 * width), nn.Conv2d(2 * width, outputs, 1)]


def _up(channels: int, width: int, halvings: int, inputs: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(inputs, 2 * width, 3, padding=1), residual(2 * width), residual(2 * width)]
    for place in range(halvings):
        after = width if place == halvings - 1 else 2 * width
        layers += [nn.ConvTranspose2d(2 * width, after, 4, stride=2, padding=1), residual(after)]
    return [*layers, nn.Conv2d(width, channels, 3, padding=1)]
