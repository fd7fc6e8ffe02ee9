"""The Inception network of the published FID, Inception Score and KID (Heusel 2017, Salimans 2016, Binkowski 2018)."""

from __future__ import annotations

import hashlib
import io
import sys
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

import torch

from metagen.errors import MetagenError
from metagen.files import cache_folder, write_atomically
from metagen.images import to_uint8
from metagen.metrics.extractors.base import Extractor

# Of weights-inception-2015-12-05-6726825d.pth: TensorFlow's network of that day, as torch-fidelity and pytorch-fid
# publish it. Its first eight digits are in the published name.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
TIMEOUT = 60  # seconds without an answer


class Inception(Extractor):
    """Images of any size, 1 or 3 channels, to the 2048 features before the last layer.

    They are made as large as 299 px in the way of TensorFlow 1, without antialiasing: published figures are so.

    Args:
        source: the weights file that torch-fidelity publishes, or "download" to fetch it into metagen's cache.

    Attributes:
        weights_sha256: of that file; through any other nothing may be called FID.

    Raises:
        MetagenError: torch-fidelity is not installed, or the weights are missing or not those published.
    """

    dimensions = 2048
    at_once = 32  # of 299 px: some 0.5 GB

    def __init__(self, source: str) -> None:
        super().__init__()
        try:
            from torch_fidelity import feature_extractor_inceptionv3 as published
        except ImportError:
            raise MetagenError("inception: needs torch-fidelity; pip install 'metagen[metrics]'") from None
        data = _downloaded(published.URL_INCEPTION_V3) if source == "download" else _read(Path(source).expanduser())
        # Its constructor unpickles whatever it is given, so what it is given is pickled here, from tensors alone.
        tensors = io.BytesIO()
        torch.save(torch.load(io.BytesIO(data), map_location="cpu", weights_only=True), tensors)
        tensors.seek(0)
        self.network = published.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], tensors)
        self.weights_sha256 = SHA256

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, 2048]; grey is the same red, green and blue."""
        return self.network(to_uint8(images).expand(-1, 3, -1, -1))[0]

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities [..., 1008], of the last layer without its bias, as the Inception Score has them; float64."""
        return (features.double() @ self.network.fc.weight.double().T).softmax(-1)

    def check(self, shape: torch.Size) -> None:
        """Refuse what is no image of 1 or 3 channels.

        Raises:
            MetagenError: of another shape.
        """
        if len(shape) < 4 or shape[-3] not in (1, 3) or min(shape[-2:]) < 2:
            raise MetagenError(f"inception: takes images [n, 1 or 3, H, W] of 2 px and more, got {list(shape)}")


def _read(path: Path) -> bytes:
    hint = "name the weights file of torch-fidelity, or 'download' once this one is out of the way"
    try:
        return _published(path.read_bytes(), str(path), hint)
    except OSError as error:
        raise MetagenError(f"{path}: cannot be read ({error.strerror}); {hint}") from error


def _downloaded(url: str) -> bytes:
    place = cache_folder() / "extractors" / Path(url).name
    if place.is_file():
        return _read(place)
    print(f"fetching {url} (96 MB) into {place.parent}", file=sys.stderr)
    hint = "fetch it elsewhere and name the file"
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310, the address is a constant
            data = _published(answer.read(), url, hint)
    except (OSError, HTTPException) as error:
        reason = " ".join(str(error).split())
        raise MetagenError(f"{url}: cannot be fetched ({reason}); {hint}") from error
    write_atomically(place, data)
    return data


def _published(data: bytes, where: str, hint: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise MetagenError(
            f"{where}: expected the published Inception weights with SHA-256 {SHA256}, got {len(data)} bytes with "
            f"{found}; without these weights nothing is called FID: {hint}"
        )
    return data
