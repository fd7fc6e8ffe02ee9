"""Convolutional encoder and decoder that survive vmap and second order: SiLU, GroupNorm or no norm."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn

from metagen.errors import MetagenError, check_choice

DEFAULT_WIDTHS = {28: (32, 64), 32: (32, 64), 64: (32, 64, 64), 128: (32, 64, 64, 64)}
NormName = Literal["none", "group"]
OperationName = Literal["skip", "conv1", "conv3", "separable", "dilated", "residual"]

Refinement = Callable[[int, str], list[nn.Module]]  # of channels and a norm: the layers after a change of scale


def widths_for(size: int, widths: tuple[int, ...] | None) -> tuple[int, ...]:
    """The channels after each halving of an image: the given ones if they fit the size, or its default.

    Raises:
        MetagenError: a width is not positive, the size is no multiple of 2 ** len(widths), or has no default.
    """
    if widths is None and size not in DEFAULT_WIDTHS:
        raise MetagenError(f"widths: size {size} has no default (only {list(DEFAULT_WIDTHS)}); give widths")
    chosen = tuple(DEFAULT_WIDTHS[size] if widths is None else widths)
    if not chosen or min(chosen) < 1:
        raise MetagenError(f"widths: expected one positive width for each halving of the image, got {list(chosen)}")
    if size % 2 ** len(chosen):
        raise MetagenError(
            f"widths: {len(chosen)} halvings need a size that is a multiple of {2 ** len(chosen)}, got size {size}; "
            "give fewer widths or another size"
        )
    return chosen


class GroupNorm(nn.GroupNorm):
    """In the precision of its weights, as autocast does it on a GPU alone; else the slopes of its slopes fail."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [n, C, s, s] -> [n, C, s, s]."""
        x = x.to(self.weight)
        try:
            return super().forward(x)
        except RuntimeError:  # torch 2.11 under vmap takes no features whose channels come last in memory
            return super().forward(x.contiguous())


def normalisation(norm: str, channels: int) -> nn.Module:
    """GroupNorm over groups of about 8 channels, or nothing.

    Raises:
        MetagenError: the name is neither "none" nor "group".
    """
    check_choice("norm", norm, NormName)
    groups = next(g for g in range(max(channels // 8, 1), 0, -1) if channels % g == 0)
    return GroupNorm(groups, channels) if norm == "group" else nn.Identity()


def silent(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """The layer with nothing but zeros, so that its output begins at 0."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """x + f(x) (He 2016, arXiv:1512.03385)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features [n, C, s, s] -> [n, C, s, s]."""
        return x + self.layers(x)


def convolution(
    width: int, norm: str, kernel: int = 3, dilation: int = 1, layer: type[nn.Conv2d] = nn.Conv2d
) -> list[nn.Module]:
    """A convolution (of the kind of `layer`) that keeps the shape, its norm and SiLU."""
    padding = dilation * (kernel // 2)
    return [
        layer(width, width, kernel, padding=padding, dilation=dilation),
        normalisation(norm, width),
        nn.SiLU(),
    ]


def _separable(width: int, norm: str) -> nn.Module:
    """A 3x3 filter for each channel, then a 1x1 convolution (Chollet 2017, arXiv:1610.02357)."""
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1, groups=width), *convolution(width, norm, kernel=1))


def _residual(width: int, norm: str) -> nn.Module:
    return Residual(*convolution(width, norm), nn.Conv2d(width, width, 3, padding=1))


# What may stand after a change of scale, by name: of channels and a norm, features [n, C, s, s] -> [n, C, s, s].
OPERATIONS: dict[OperationName, Callable[[int, str], nn.Module]] = {
    "skip": lambda width, norm: nn.Identity(),
    "conv1": lambda width, norm: nn.Sequential(*convolution(width, norm, kernel=1)),
    "conv3": lambda width, norm: nn.Sequential(*convolution(width, norm)),
    "separable": _separable,
    "dilated": lambda width, norm: nn.Sequential(*convolution(width, norm, dilation=2)),
    "residual": _residual,
}


def operation(name: OperationName) -> Refinement:
    """The operation of that name, as one layer.

    Raises:
        MetagenError: there is none.
    """
    check_choice("operation", name, OperationName)
    return lambda width, norm: [OPERATIONS[name](width, norm)]


def repeated(depth: int, layer: type[nn.Conv2d] = nn.Conv2d) -> Refinement:
    """`depth` 3x3 convolutions (of the kind of `layer`), three layers each."""
    return lambda width, norm: [each for _ in range(depth) for each in convolution(width, norm, layer=layer)]


def refinements(depth: int, blocks: tuple[OperationName, ...] | None, widths: tuple[int, ...]) -> list[Refinement]:
    """The refinements of an encoder, then those of its decoder: `depth` convolutions each, or the operations named.

    Raises:
        MetagenError: both are given, or there is not one operation for each width of both.
    """
    places = 2 * len(widths)
    if blocks is None:
        return [repeated(depth)] * places
    if depth or len(blocks) != places:
        raise MetagenError(
            f"blocks: expected depth 0 and {places} operations, one for each width of the encoder and of the "
            f"decoder, got depth {depth} and {len(blocks)}: {', '.join(blocks)}"
        )
    return [operation(name) for name in blocks]


def halvings(
    channels: int,
    widths: tuple[int, ...],
    norm: str,
    refinements: Sequence[Refinement] = (),
    layer: type[nn.Conv2d] = nn.Conv2d,
) -> nn.Sequential:
    """Convolutions that halve images [n, C, S, S] once a width, to features [n, widths[-1], s, s].

    Args:
        channels: of the images.
        widths: channels after each halving.
        norm: "none" or "group".
        refinements: what follows each halving; nothing if there are none.
        layer: the kind of convolution.
    """
    layers: list[nn.Module] = []
    each = refinements or [repeated(0)] * len(widths)
    for before, width, refinement in zip((channels, *widths), widths, each, strict=False):
        layers += [layer(before, width, 4, stride=2, padding=1), normalisation(norm, width), nn.SiLU()]
        layers += refinement(width, norm)
    return nn.Sequential(*layers)


class Encoder(nn.Sequential):
    """Images [n, C, S, S] -> features [n, outputs]: one halving a width, then a linear layer."""

    convs: nn.Sequential
    head: nn.Linear

    def __init__(
        self,
        size: int,
        channels: int,
        widths: tuple[int, ...],
        outputs: int,
        norm: str,
        refinements: Sequence[Refinement] = (),
    ) -> None:
        convs = halvings(channels, widths, norm, refinements)
        head = nn.Linear(widths[-1] * (size >> len(widths)) ** 2, outputs)
        super().__init__(OrderedDict(convs=convs, flatten=nn.Flatten(), head=head))


class Decoder(nn.Sequential):
    """Codes [n, inputs] -> images [n, C, S, S] before the likelihood: a linear layer, then one doubling a width.

    A refinement follows the linear layer, and every doubling but the last.
    """

    stem: nn.Linear
    convs: nn.Sequential

    def __init__(
        self,
        size: int,
        channels: int,
        widths: tuple[int, ...],
        inputs: int,
        norm: str,
        refinements: Sequence[Refinement],
    ) -> None:
        side = size >> len(widths)
        stem = nn.Linear(inputs, widths[-1] * side**2)
        convs = nn.Sequential(*self.layers(channels, widths, norm, refinements))
        super().__init__(OrderedDict(stem=stem, unflatten=nn.Unflatten(1, (widths[-1], side, side)), convs=convs))

    @staticmethod
    def layers(channels: int, widths: tuple[int, ...], norm: str, refinements: Sequence[Refinement]) -> list[nn.Module]:
        """All that follows the linear layer."""
        layers: list[nn.Module] = [normalisation(norm, widths[-1]), nn.SiLU(), *refinements[0](widths[-1], norm)]
        for width, after, refinement in zip(widths[:0:-1], widths[-2::-1], refinements[1:], strict=True):
            layers += [nn.ConvTranspose2d(width, after, 4, stride=2, padding=1), normalisation(norm, after), nn.SiLU()]
            layers += refinement(after, norm)
        return [*layers, nn.ConvTranspose2d(widths[0], channels, 4, stride=2, padding=1)]

    def parts(self, name: str) -> dict[str, tuple[str, ...]]:
        """The "head" (the last layer) and the "last_block" (from the doubling before it), of a decoder of that name."""
        changes = (nn.ConvTranspose2d, nn.Upsample)
        doublings = [n for n, layer in enumerate(self.convs) if isinstance(layer, changes)]
        first, last = (doublings[-2] if len(doublings) > 1 else 0), doublings[-1]
        block = tuple(f"{name}.convs.{n}.*" for n in range(first, last + 1) if list(self.convs[n].parameters()))
        return {"head": (f"{name}.convs.{last}.*",), "last_block": block}
