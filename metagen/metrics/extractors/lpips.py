"""LPIPS, a distance between images as people see them, through AlexNet (Zhang 2018, arXiv:1801.03924)."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import ClassVar

import torch
from torch import nn

from metagen.metrics.extractors.base import AnySize
from metagen.metrics.extractors.published import Published

# Torchvision's AlexNet; the first eight digits are in its name.
URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
SHA256 = "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02"
# The weights of its channels that were fitted to people's judgements, version 0.1; they come with torchmetrics.
CHANNELS = "functional/image/lpips_models/alex.pth"
CHANNELS_SHA256 = "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
SMALLEST = 64  # px that AlexNet takes, nearly
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of red, green and blue in [-1, 1]
EPSILON = 1e-8  # under the root of a norm, as torchmetrics has it


class LPIPS(AnySize):
    """Images of any size, 1 or 3 channels, to vectors of which LPIPS is the squared Euclidean distance.

    That is exact: of each of AlexNet's five layers LPIPS takes activations of unit norm over channels, weighs the
    squared difference of each channel, and takes the mean over places. Here each activation is multiplied by the root
    of its weight and divided by the root of the number of places. Images under 64 px are made as large as that,
    bilinearly; larger ones stay as they are; grey is the same red, green and blue.

    Args:
        source: torchvision's weights file alexnet-owt-7be5be79.pth, or "download" to fetch it into metagen's cache.

    Attributes:
        weights_sha256: of that file; through any other nothing may be called LPIPS.

    Raises:
        MetagenError: the weights are missing or not those published.
    """

    shift: torch.Tensor
    scale: torch.Tensor
    at_once = 64  # of 128 px: some 0.1 GB
    about: ClassVar[Mapping[str, str]] = {"backbone": "alex", "images": f"bilinear to {SMALLEST} px where smaller"}

    def __init__(self, source: str) -> None:
        super().__init__()
        from torchvision.models import alexnet  # slow to import, and for this alone

        weights = Published("LPIPS", URL, SHA256, 244).tensors(source)
        with torch.device("meta"):
            self.network = alexnet().features[:-1]
        trunk = {name.removeprefix("features."): w for name, w in weights.items() if name.startswith("features.")}
        self.network.load_state_dict(trunk, assign=True)
        fitted = Published("LPIPS", CHANNELS, CHANNELS_SHA256, 0)
        hint = "install another version of torchmetrics, such as 1.9"
        channels = fitted.tensors(str(files("torchmetrics") / CHANNELS), hint)
        self.roots = nn.ParameterList(channels[name].sqrt() for name in sorted(channels))
        self.requires_grad_(False)
        self.register_buffer("shift", torch.tensor(SHIFT).view(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).view(3, 1, 1))
        self.weights_sha256 = SHA256

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, d]; d grows with the images, 31,872 at 64 px and 148,608 at 128 px."""
        sides = [max(SMALLEST, side) for side in images.shape[-2:]]
        x = nn.functional.interpolate(images.expand(-1, 3, -1, -1), sides, mode="bilinear")
        x = (2 * x - 1 - self.shift) / self.scale
        layers: list[torch.Tensor] = []
        for layer in self.network:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                unit = x / (x.square().sum(1, keepdim=True) + EPSILON).sqrt()
                layers.append((unit * self.roots[len(layers)] / x.shape[-2:].numel() ** 0.5).flatten(1))
        return torch.cat(layers, 1)

    def of_tasks(self, images: torch.Tensor, support: torch.Tensor, room: int) -> torch.Tensor:
        """Of each task, `within_support` of features: [T, n, k + room], in float64."""
        pairs = zip(images, support, strict=True)
        return torch.stack([within_support(self.of(each), self.of(shown), room) for each, shown in pairs])


def within_support(features: torch.Tensor, support: torch.Tensor, room: int) -> torch.Tensor:
    """Features as fewer numbers, with the same distances from each other and from a support.

    The first k are places along an orthonormal basis of what the support spans; the others are places of the rest,
    along a basis of the rest of these features alone: distances between the results of two calls mean nothing, but
    those from what a call makes of the support itself.

    Args:
        features: [n, d].
        support: [k, d].
        room: how many numbers there are for the rest: n or more, but for the support itself, which has no rest.

    Returns:
        [n, k + room], float64.
    """
    features, support = features.double(), support.double()
    basis = torch.linalg.qr(support.mT).Q
    along = features @ basis
    rest = torch.linalg.qr((features - along @ basis.mT).mT, mode="r").R.mT
    short = torch.cat([along, rest], -1)
    return nn.functional.pad(short, (0, len(support) + room - short.shape[-1]))
