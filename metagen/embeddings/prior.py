"""New tasks: a small GAN over embeddings (Goodfellow 2014, arXiv:1406.2661), and the Gaussian it has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from metagen.core.seeding import seeded, torch_rng
from metagen.errors import check_at_least, check_positive
from metagen.generators.gans.adversarial import LOSSES, r1r2

if TYPE_CHECKING:
    from typing_extensions import Self

BATCH = 128


class EmbeddingGAN:
    """Two small networks with the relativistic loss and R1 + R2 (R3GAN, Huang 2024, arXiv:2501.05441).

    Args:
        hidden: width of the two hidden layers of each.
        steps: of the game; the critic moves first in each.
        rate: of Adam, without momentum.
        penalty: weight of R1 + R2, in units of the embeddings' standard deviations.
        seed: of weights and draws.

    Raises:
        MetagenError: an option is out of range.
    """

    def __init__(
        self, hidden: int = 64, steps: int = 1200, rate: float = 1e-3, penalty: float = 1.0, seed: int = 0
    ) -> None:
        check_at_least("hidden", hidden, 1)
        check_at_least("steps", steps, 1)
        check_positive("rate", rate)
        self.hidden, self.steps, self.rate, self.penalty, self.seed = hidden, steps, rate, penalty, seed

    def fit(self, embeddings: torch.Tensor) -> Self:
        """Learn the distribution of embeddings [M, d]."""
        self.mean, self.scale = embeddings.mean(0), embeddings.std(0)
        self.dims = embeddings.shape[1]
        with seeded(self.seed):
            self.maker, self.critic = self._network(self.dims), self._network(1)
        players = [torch.optim.Adam(net.parameters(), self.rate, (0.0, 0.99)) for net in (self.critic, self.maker)]
        points, rng = (embeddings - self.mean) / self.scale, torch_rng(self.seed, "prior")
        for _ in range(self.steps):
            for player, optimiser in zip(("discriminator", "generator"), players, strict=True):
                real = points[torch.randint(len(points), (BATCH,), generator=rng)]
                optimiser.zero_grad()
                self._loss(player, real, torch.randn(BATCH, self.dims, generator=rng)).backward()
                optimiser.step()
        return self

    def sample(self, n: int, seed: int = 0) -> torch.Tensor:
        """New embeddings [n, d]."""
        with torch.no_grad():
            made = self.maker(torch.randn(n, self.dims, generator=torch_rng(seed, "prior", "sample")))
        return self.mean + self.scale * made

    def _loss(self, player: str, real: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        made = self.maker(latents)
        loss = LOSSES["relativistic"][player](self.critic(real).squeeze(1), self.critic(made).squeeze(1))
        if player == "generator":
            return loss
        images = [x.detach()[:, :, None, None] for x in (real, made)]  # the penalty's shape of images
        return loss + r1r2(lambda x: self.critic(x.flatten(1)).squeeze(1), images[0], images[1:], latents, self.penalty)

    def _network(self, out: int) -> nn.Sequential:
        hidden = self.hidden
        return nn.Sequential(
            *(nn.Linear(self.dims, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, out))
        )


def gaussian(embeddings: torch.Tensor, n: int, seed: int = 0) -> torch.Tensor:
    """Draws [n, d] of the Gaussian with the mean and the covariance of embeddings [M, d]."""
    centred = embeddings - embeddings.mean(0)
    weights = torch.randn(n, len(embeddings), generator=torch_rng(seed, "gaussian")).to(embeddings)
    return embeddings.mean(0) + weights @ centred / (len(embeddings) - 1) ** 0.5
