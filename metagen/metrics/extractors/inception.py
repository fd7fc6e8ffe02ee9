"""The Inception network of the published FID, Inception Score and KID (Heusel 2017, Salimans 2016, Binkowski 2018)."""

from __future__ import annotations

import io

import torch

from metagen.errors import MetagenError
from metagen.metrics.extractors.base import AnySize, check_range
from metagen.metrics.extractors.published import Published
from metagen.storage.images import to_uint8

# Of weights-inception-2015-12-05-6726825d.pth: TensorFlow's network of that day, as torch-fidelity and pytorch-fid
# publish it. Its first eight digits are in the published name.
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Inception(AnySize):
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
        # Its constructor unpickles whatever it is given, so what it is given is pickled here, from tensors alone.
        tensors = io.BytesIO()
        torch.save(Published("FID", published.URL_INCEPTION_V3, SHA256, 96).tensors(source), tensors)
        tensors.seek(0)
        self.network = published.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], tensors)
        self.weights_sha256 = SHA256

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features [n, 2048]; grey is the same red, green and blue."""
        check_range(images)  # which rounding would hide
        return self.network(to_uint8(images).expand(-1, 3, -1, -1))[0]

    def probabilities(self, features: torch.Tensor) -> torch.Tensor:
        """Probabilities [..., 1008], of the last layer without its bias, as the Inception Score has them; float64."""
        weight = self.network.fc.weight.double()
        return (features.to(weight) @ weight.T).softmax(-1)
