"""Base generators: networks that make images, one loss a player, noise as an input; likelihoods and normals."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from metagen.core.functional import Weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_choice
from metagen.generators.traits import Traits

Noise = dict[str, torch.Tensor]  # random draws by name, each [n, ...]
Context = Any  # what a generator computes of its support; None where it does not look at it
LikelihoodName = Literal["bernoulli", "gaussian"]  # for ink; for photographs


class Generator(Traits, ABC):
    """A network, or several, that make images; written for one task and lifted to many by `torch.func.vmap`.

    No module inside may keep state that a forward changes (no BatchNorm): it breaks vmap and second order.

    Attributes:
        players: the groups of parameters with one loss each, updated in this order; a VAE has one, a GAN two.
    """

    players: ClassVar[tuple[str, ...]]

    def player_of(self, name: str) -> str:
        """The player that a parameter belongs to: the only one, or the first part of the parameter's name."""
        return self.players[0] if len(self.players) == 1 else name.split(".")[0]

    @property
    def player_updates(self) -> dict[str, int]:
        """Updates of each player's weights in one inner step."""
        return dict.fromkeys(self.players, 1)

    @abstractmethod
    def noise(self, n: int, draws: Draws) -> Noise:
        """Every random draw that `loss` or `sample` of n images needs, each [*rows, n, ...]."""

    @abstractmethod
    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """The scalar that one player minimises on images [n, C, H, W] in [0, 1]."""

    @abstractmethod
    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """New images [n, C, H, W] in [0, 1]."""

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> Context:
        """The context of each of n images from the support [k, C, H, W]; mask [n, k] is True where it may look."""
        return None

    def support_loss(self, player: str, support: torch.Tensor, noise: Noise) -> torch.Tensor:
        """The loss on the support itself: each image sees the others, never itself."""
        return self.loss(player, support, noise, self.context(support, leave_one_out(support)))

    def query_loss(self, player: str, query: torch.Tensor, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """The loss on images outside the support, each seeing all of it."""
        return self.loss(player, query, noise, self.context(support, whole_support(support, len(query))))

    def generate(self, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """New images [n, C, H, W] in [0, 1], each seeing all of the support."""
        n = len(next(iter(noise.values())))
        return self.sample(noise, self.context(support, whole_support(support, n)))

    def task_noise(self, draws: Draws) -> Noise:
        """The random draws that are one for a whole task in meta-training; none by default."""
        return {}

    def for_task(self, weights: Weights, noise: Noise) -> Weights:
        """The weights that `task_noise` changes for one task; noise is empty in a trained model."""
        return {}


def leave_one_out(support: torch.Tensor) -> torch.Tensor:
    """The mask [k, k] by which each of k support images may look at the others."""
    return ~torch.eye(len(support), dtype=torch.bool, device=support.device)


def whole_support(support: torch.Tensor, n: int) -> torch.Tensor:
    """The mask [n, k] by which each of n images may look at the whole support."""
    return torch.ones(n, len(support), dtype=torch.bool, device=support.device)


class Likelihood(nn.Module):
    """Log probabilities of images given decoded values.

    `bernoulli`: decoded values are logits, and grey pixels count as the probability of ink. `gaussian`: decoded values
    are means, and one log sigma is learned (Rybkin 2021, arXiv:2006.13202).
    """

    def __init__(self, name: LikelihoodName) -> None:
        super().__init__()
        check_choice("likelihood", name, LikelihoodName)
        self.name = name
        if name == "gaussian":
            self.log_sigma = nn.Parameter(torch.tensor(-1.0))

    def forward(self, decoded: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Log p(image | decoded), nats, summed over pixels: [..., C, H, W] -> [...]."""
        if self.name == "bernoulli":
            return -F.binary_cross_entropy_with_logits(decoded, images, reduction="none").sum((-3, -2, -1))
        log_sigma = F.softplus(self.log_sigma + 6) - 6  # bounded below: a perfect fit must not reach minus infinity
        scaled = (images - decoded) * (-log_sigma).exp()
        return -(0.5 * scaled.square() + log_sigma + 0.5 * math.log(2 * math.pi)).sum((-3, -2, -1))

    def expected(self, decoded: torch.Tensor) -> torch.Tensor:
        """The expected images, in [0, 1]."""
        return decoded.sigmoid() if self.name == "bernoulli" else decoded.clamp(0, 1)

    def check(self, images: torch.Tensor) -> None:
        """Refuse images that have no probability.

        Raises:
            MetagenError: grey pixels under a Bernoulli likelihood.
        """
        if self.name == "bernoulli" and not ((images == 0) | (images == 1)).all():
            raise MetagenError("log_prob: a Bernoulli likelihood is of binary images, got grey pixels; threshold them")


class Normal(NamedTuple):
    """Independent normals: mean and log variance, each [..., latent]."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    @classmethod
    def of(cls, encoded: torch.Tensor) -> Normal:
        """From an encoder's [..., 2 latent]; the log variance is bounded, so that no stray step makes exp overflow."""
        mean, log_variance = encoded.chunk(2, -1)
        return cls(mean, 8 * torch.tanh(log_variance / 8))

    def draw(self, noise: torch.Tensor) -> torch.Tensor:
        """Standard normal noise [..., latent] -> a draw (eq. 10)."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self, prior: Normal | None = None) -> torch.Tensor:
        """KL(self || prior) of each dimension, nats; the prior is standard normal if None."""
        centre, log_width = prior or (0.0, torch.zeros_like(self.log_variance))
        scaled = (self.mean - centre).square() * (-log_width).exp()
        return 0.5 * (scaled + (self.log_variance - log_width).exp() - 1 - self.log_variance + log_width)
