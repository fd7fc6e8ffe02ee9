"""The gradient of a support's loss at weights that have not adapted yet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.func import grad

from metagen.core.functional import Weights, with_weights
from metagen.generators import Generator, Noise


def support_gradient(
    generator: Generator, weights: Weights, support: torch.Tensor, noise: Noise, names: Sequence[str]
) -> torch.Tensor:
    """The gradient of the last player's loss on a support, by the weights of those names: [P], one after the other.

    Pure, so it runs under vmap and can be differentiated.

    Args:
        generator: used for its structure alone.
        weights: all of them, where the gradient is taken.
        support: [k, C, H, W] in [0, 1].
        noise: that player's draws, each [k, ...].
        names: of weights.
    """

    def loss(own: Weights) -> torch.Tensor:
        return with_weights(generator, {**weights, **own}).support_loss(generator.players[-1], support, noise)

    gradients = grad(loss)({name: weights[name] for name in names})
    return torch.cat([gradients[name].flatten() for name in names])
