"""A user's own network as an extractor, from a TorchScript file."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import torch

from metagen.core.quiet import unwarned
from metagen.errors import MetagenError
from metagen.metrics.extractors.base import Extractor

SUFFIXES = (".pt", ".pth", ".ts")


class Scripted(Extractor):
    """A TorchScript file: images [n, C, H, W] in [0, 1] to features [n, d], each whatever else is in the batch.

    Args:
        path: what `torch.jit.save` wrote. It is a program: name only files of people whom you trust.
        size: height and width of the images that it will be given.
        channels: theirs, 1 or 3.

    Attributes:
        name: the file's, and the first 8 digits of its hash: another network is never taken for it.
        weights_sha256: of the whole file.

    Raises:
        MetagenError: it cannot be read, or does not make such features of such images.
    """

    def __init__(self, path: Path, size: int, channels: int) -> None:
        super().__init__()
        try:
            data = path.read_bytes()
        except OSError as error:
            raise MetagenError(f"{path}: cannot be read ({error.strerror}); name a TorchScript file") from error
        self.path, self.size, self.channels = path, size, channels
        self.weights_sha256 = hashlib.sha256(data).hexdigest()
        self.name = f"{path.stem}-{self.weights_sha256[:8]}"
        self.network = _loaded(path, data)
        grey = torch.linspace(0, 1, 2 * channels * size**2).view(2, channels, size, size)
        self.dimensions = self.of(grey).shape[-1]

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, d].

        Raises:
            MetagenError: the network fails, or makes something else.
        """
        try:
            with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]  # no call rounds unlike the first
                output = self.network(images)
        except RuntimeError as error:
            raise MetagenError(f"{self.path}: fails at images {list(images.shape)}: {_last_line(error)}") from error
        shape = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if not isinstance(shape, list) or len(shape) != 2 or shape[0] != len(images):
            raise MetagenError(
                f"{self.path}: expected features [{len(images)}, d] of images {list(images.shape)}, got {shape}; "
                "flatten them in the network"
            )
        features = output.float()
        if not features.isfinite().all():
            raise MetagenError(f"{self.path}: makes features that are not finite of images {list(images.shape)}")
        return features


def _loaded(path: Path, data: bytes) -> torch.jit.ScriptModule:
    try:
        with unwarned(FutureWarning):  # torch would rather have torch.export, which fixes sizes
            return torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    except RuntimeError as error:
        hint = "write it with torch.jit.save(torch.jit.trace(network, images), path)"
        raise MetagenError(f"{path}: not a TorchScript file; {hint}") from error


def _last_line(error: RuntimeError) -> str:
    """The last line of an error of torch, which stands after a stack of many."""
    return str(error).strip().splitlines()[-1]
