"""Consistency of an adapted generator with its start: the similarities between its images stay what they were."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from metagen.core.functional import Weights, with_weights
from metagen.generators.base import Generator, Noise

TINY = 1e-12  # added to a squared length, so that its root has every derivative also at 0


def distance_consistency(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Change by adaptation of which images are like which: a scalar, 0 where it did not, or of less than 3 images.

    For each image the softmax of its cosine similarities to the others; the mean KL divergence of those after
    adaptation from those before (Ojha 2021, arXiv:2104.06820, eqs. 1 and 2).

    Args:
        before: images of some latents [n, ...] by the generator that was adapted, or features of them.
        after: those of the same latents by the adapted one.
    """
    with torch.autocast(before.device.type, enabled=False):  # images may be alike to more digits than bfloat16 has
        old, new = (
            F.log_softmax(_similarities(x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))), -1)
            for x in (before, after)
        )
    return (new.exp() * (new - old)).sum(-1).mean()


def consistency_penalty(
    generator: Generator, start: Weights, weights: Weights, support: torch.Tensor, noise: Noise
) -> torch.Tensor:
    """`distance_consistency` of a generator at its start and at adapted weights, as its `consistency` weighs it.

    Args:
        generator: used for its structure alone.
        start: all weights before adaptation.
        weights: all weights after it.
        support: [k, C, H, W] in [0, 1].
        noise: the draws of the images that are compared, each [n, ...].
    """
    before, after = (with_weights(generator, at).generate(noise, support) for at in (start, weights))
    return generator.consistency * distance_consistency(before, after)


def _similarities(features: torch.Tensor) -> torch.Tensor:
    """Cosines of each of [n, d] with the others: [n, n - 1]."""
    unit = features / (features.square().sum(1, keepdim=True) + TINY).sqrt()
    n = len(unit)
    return (unit @ unit.mT).flatten()[1:].unflatten(0, (n - 1, n + 1))[:, :-1].reshape(n, n - 1)  # no diagonal
