"""What an adapted generator keeps of how the images of its start differ from each other."""

from __future__ import annotations

import torch
import torch.nn.functional as F

TINY = 1e-12  # added to a squared length, so that its root has every derivative also at 0


def distance_consistency(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """How far adaptation changed which images are like which: a scalar, 0 where it did not, or of less than 3 images.

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


def _similarities(features: torch.Tensor) -> torch.Tensor:
    """Cosines of each of [n, d] with the others: [n, n - 1]."""
    unit = features / (features.square().sum(1, keepdim=True) + TINY).sqrt()
    n = len(unit)
    return (unit @ unit.mT).flatten()[1:].unflatten(0, (n - 1, n + 1))[:, :-1].reshape(n, n - 1)  # no diagonal
