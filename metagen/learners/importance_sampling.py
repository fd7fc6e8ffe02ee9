"""The log likelihood of images given a support, by importance sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from metagen.core.philox import Draws
from metagen.learners.batched import Adapted

SAMPLES_AT_ONCE, IMAGES_AT_ONCE = 50, 32  # so that memory is bounded
FEW = 16  # as many more are not computed apart: a matrix product of one row rounds unlike that of many


def log_likelihood(adapted: Adapted, images: torch.Tensor, samples: int, key: Sequence[int | str]) -> torch.Tensor:
    """Log p(image | support) in nats, [n], of one adapted task by importance sampling (Burda 2016, arXiv:1509.00519).

    A lower bound in expectation, which rises to the true value with the number of samples. Where the posterior is a
    point mass, the bound is one evaluation and the same for any number.

    Args:
        adapted: one task (T = 1) of a generator with `log_weights`, or `log_prob` where its posterior is a point mass.
        images: [n, C, H, W], such as its likelihood takes, where its weights are.
        samples: S, importance samples an image, at least 1; a few are in memory at once.
        key: names the noise.
    """

    def each(method: str, part: slice, **own: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = adapted.each(method, {"images": images[None, part], **own, "support": adapted.support})
        return values[0]

    parts = parts_of(len(images), IMAGES_AT_ONCE)
    if hasattr(adapted.generator, "log_prob"):
        return torch.cat([each("log_prob", part) for part in parts])
    weights = []
    for start in range(0, samples, SAMPLES_AT_ONCE):
        count = min(SAMPLES_AT_ONCE, samples - start)
        drawn = adapted.generator.noise(count * len(images), Draws((*key, start)))["latent"]
        noise = drawn.unflatten(0, (count, len(images))).to(images)
        weights.append(torch.cat([each("log_weights", part, noise=noise[None, :, part]) for part in parts], 1))
    return torch.cat(weights).logsumexp(0) - torch.tensor(float(samples)).log()


def parts_of(n: int, at_once: int) -> list[slice]:
    """Slices of n images, about `at_once` each; a few that would be left at the end go with those before."""
    starts = range(0, max(n - min(FEW, at_once), 1), at_once)
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], n], strict=True)]
