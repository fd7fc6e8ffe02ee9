"""Base generators: networks that make images, one loss a player, and noise that is always an input."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch

from metagen.core.functional import Weights
from metagen.generators.traits import Traits

Noise = dict[str, torch.Tensor]  # random draws by name, each [n, ...]
Context = Any  # what a generator computes of its support; None where it does not look at it


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
    def noise(self, n: int, rng: torch.Generator) -> Noise:
        """Every random draw that `loss` or `sample` of n images needs, each with leading axis n."""

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

    def task_noise(self, rng: torch.Generator) -> Noise:
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
