"""The Inception Score (Salimans 2016, arXiv:1606.03498, section 4)."""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.metrics.base import PooledColumn, RealFeatures


def inception_score(probabilities: torch.Tensor) -> torch.Tensor:
    """The exponential of the mean KL divergence of p(class | image) from their mean, over all images, in float64.

    That divergence is the entropy of the mean less the mean entropy. Published scores are means over ten tenths of the
    images; over all of them at once it is a little larger, and less biased.

    Args:
        probabilities: of classes [n, c], rows that sum to 1.

    Returns:
        A scalar between 1 and c.

    Raises:
        MetagenError: no image.

    Example:
        >>> round(float(inception_score(torch.eye(4))), 6)  # each image is surely of a class of its own
        4.0
    """
    if len(probabilities) < 1:
        raise MetagenError("inception_score: expected 1 or more images, got 0")
    p = probabilities.double()
    return (torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(-1).mean()).exp()


class InceptionScore(PooledColumn):
    """The Inception Score, all tasks together, over the classes that the extractor knows.

    It never looks at a real image, and the classes of held-out tasks are none of those: nothing to choose by.
    """

    best = "high"

    def fits(self, real: RealFeatures) -> bool:
        """Whether the extractor knows classes."""
        return real.probabilities is not None

    def figure(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """See `inception_score`.

        Raises:
            MetagenError: the extractor knows no classes.
        """
        if real.probabilities is None:
            raise MetagenError("is: needs an extractor that knows classes")
        return inception_score(real.probabilities(samples).detach())
