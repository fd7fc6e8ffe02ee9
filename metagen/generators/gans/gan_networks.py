"""Networks of critics and of generators; all survive vmap and third order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from metagen.errors import check_at_least, check_choice
from metagen.generators.networks import Decoder, NormName, Refinement, Residual, convolution, halvings, repeated, silent

NetworkName = Literal["dcgan", "residual"]
CriticNormName = Literal[NormName, "spectral"]

SQUARINGS = 6  # of the Gram matrix: as many as 64 power iterations
TINY = 1e-12  # keeps a weight of zeros from dividing by 0
VARIANCE = 1e-8  # added to a variance, so that its root has every derivative also at 0


def spectral_norm(weight: torch.Tensor) -> torch.Tensor:
    """The largest singular value of a weight [a, b, ...] taken as a matrix [a, b ...], a scalar.

    By power iteration (Miyato 2018, arXiv:1802.05957) on the Gram matrix G of the smaller side instead of on a vector:
    squared six times it is G^64, and tr(G^65) / tr(G^64) is the largest eigenvalue of G, or a few per cent less where
    many are nearly as large. No vector is kept between calls, none can miss the largest direction, and gradients go
    through all of it.
    """
    with torch.autocast(weight.device.type, enabled=False):
        flat = weight.flatten(1)
        gram = flat @ flat.mT if flat.shape[0] <= flat.shape[1] else flat.mT @ flat
        size = gram.trace() + TINY
        power = gram = gram / size
        for _ in range(SQUARINGS):
            power = power @ power
            power = power / (power.trace() + TINY)
        return (size * ((gram * power).sum() + TINY)).sqrt()


class SpectralConv2d(nn.Conv2d):
    """A convolution by its weight divided by that weight's spectral norm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [n, C, s, s] -> [n, C', s', s']."""
        return self._conv_forward(x, self.weight / spectral_norm(self.weight), self.bias)


class SpectralLinear(nn.Linear):
    """A linear layer by its weight divided by that weight's spectral norm."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [n, a] -> [n, b]."""
        return F.linear(x, self.weight / spectral_norm(self.weight), self.bias)


class MinibatchDeviation(nn.Module):
    """One more channel: how far the images of a batch differ, everywhere the same (Karras 2018, arXiv:1710.10196)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [n, C, s, s] -> [n, C + 1, s, s]."""
        deviation = ((x - x.mean(0)).square().mean(0) + VARIANCE).sqrt().mean()
        return torch.cat([x, deviation.expand_as(x[:, :1])], 1)


class Critic(nn.Module):
    """Images [n, C, S, S] -> logits [n].

    "dcgan" (Radford 2016, arXiv:1511.06434) halves by convolutions that SiLU follows. BatchNorm is left out: it keeps
    state, and lets an image's logit depend on the others, so that slopes of single images (every gradient penalty) mean
    nothing. In its place stands GroupNorm, which sees one image at a time, or nothing.

    "residual" (after R3GAN, Huang 2024, arXiv:2501.05441) has a linear stem, then averages by twos; residual blocks
    follow each change of scale and begin as nothing.

    The last layer has no bias: losses that compare real with generated images do not depend on one.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        widths: channels after each halving.
        network: "dcgan" or "residual".
        depth: 3x3 convolutions, or residual blocks, that follow each halving.
        norm: "none", "group" or "spectral"; with the last, blocks do not begin as nothing.
        deviation: whether the last layer sees how far the images of a batch differ; see `MinibatchDeviation`.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        widths: tuple[int, ...],
        network: NetworkName,
        depth: int,
        norm: CriticNormName,
        deviation: bool,
    ) -> None:
        super().__init__()
        check_choice("critic_norm", norm, CriticNormName)
        self.convs = _halvings(channels, widths, network, depth, norm)
        self.deviation = MinibatchDeviation() if deviation else nn.Identity()
        linear = SpectralLinear if norm == "spectral" else nn.Linear
        self.head = linear((widths[-1] + deviation) * (size >> len(widths)) ** 2, 1, bias=False)

    def parts(self, name: str) -> dict[str, tuple[str, ...]]:
        """Of a critic of that name: its "critic_head", and "critic_low", all before its last change of scale.

        What is low is what FreezeD holds still (Mo 2020, arXiv:2002.10964); a critic of one scale has none.
        """
        last = max(n for n, layer in enumerate(self.convs) if getattr(layer, "stride", None) in (2, (2, 2)))
        low = tuple(f"{name}.convs.{n}.*" for n in range(last) if list(self.convs[n].parameters()))
        return {"critic_head": (f"{name}.head.*",), **({"critic_low": low} if low else {})}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, S, S] -> [n]."""
        return self.head(self.deviation(self.convs(images)).flatten(1)).squeeze(1)


class ResidualDecoder(Decoder):
    """`Decoder` without activations between its scales: a linear stem, residual blocks, doubling by repetition."""

    @staticmethod
    def layers(channels: int, widths: tuple[int, ...], norm: str, refinements: Sequence[Refinement]) -> list[nn.Module]:
        """See `Decoder`."""
        layers = refinements[0](widths[-1], norm)
        for width, after, refinement in zip(widths[:0:-1], widths[-2::-1], refinements[1:], strict=True):
            layers += [nn.Conv2d(width, after, 1), nn.Upsample(scale_factor=2), *refinement(after, norm)]
        return [*layers, nn.ConvTranspose2d(widths[0], channels, 4, stride=2, padding=1)]


class Affine(nn.Module):
    """shift + exp(log_scale) * z of each latent dimension: from where, and how widely, a GAN samples. Begins as z."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(latent))
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [n, latent] -> [n, latent]."""
        return self.shift + self.log_scale.exp() * latents


class GeneratorNetwork(nn.Module):
    """Latents [n, latent] -> images [n, C, S, S] in [0, 1]: the counterpart of a `Critic`.

    The latents pass through an `Affine` map first: the part "latent", for adaptation that moves nothing else.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        widths: channels before each doubling, the last one's first.
        latent: number of latent dimensions.
        network: "dcgan" or "residual"; see `Critic`.
        depth: 3x3 convolutions, or residual blocks, at each scale.
        norm: "none" or "group" (in place of DCGAN's BatchNorm, which keeps state).

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        widths: tuple[int, ...],
        latent: int,
        network: NetworkName,
        depth: int,
        norm: NormName,
    ) -> None:
        super().__init__()
        refinement, kind = _refinement(network, depth), ResidualDecoder if network == "residual" else Decoder
        self.latent = Affine(latent)
        self.decoder = kind(size, channels, widths, latent, norm, [refinement] * len(widths))

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`."""
        return {**self.decoder.parts("decoder"), "latent": ("latent.*",)}

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents [n, latent] -> [n, C, S, S]."""
        return self.decoder(self.latent(latents)).sigmoid()


def blocks(depth: int, layer: type[nn.Conv2d] = nn.Conv2d) -> Refinement:
    """`depth` residual blocks; the last convolution of each begins at 0, unless it is normalised.

    Args:
        depth: how many.
        layer: the kind of convolution.
    """

    def block(width: int, norm: str) -> Residual:
        last = layer(width, width, 3, padding=1)
        return Residual(*convolution(width, norm, layer=layer), last if layer is SpectralConv2d else silent(last))

    return lambda width, norm: [block(width, norm) for _ in range(depth)]


def _refinement(network: NetworkName, depth: int, layer: type[nn.Conv2d] = nn.Conv2d) -> Refinement:
    """The layers after each change of scale in the network of that name."""
    check_choice("network", network, NetworkName)
    check_at_least("depth", depth, 1 if network == "residual" else 0)
    return blocks(depth, layer) if network == "residual" else repeated(depth, layer)


def _halvings(
    channels: int, widths: tuple[int, ...], network: NetworkName, depth: int, critic_norm: CriticNormName
) -> nn.Sequential:
    layer, norm = (SpectralConv2d, "none") if critic_norm == "spectral" else (nn.Conv2d, critic_norm)
    refinement = _refinement(network, depth, layer)
    if network == "dcgan":
        return halvings(channels, widths, norm, [refinement] * len(widths), layer)
    layers: list[nn.Module] = [layer(channels, widths[0], 4, stride=2, padding=1), *refinement(widths[0], norm)]
    for before, width in pairwise(widths):
        layers += [nn.AvgPool2d(2), layer(before, width, 1), *refinement(width, norm)]
    return nn.Sequential(*layers, nn.SiLU())  # without it the last bias would only lift all logits
