"""Latent embedding optimisation (Rusu 2019, arXiv:1807.05960)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad

from metagen.adaptation import (
    NO_NOISE,
    Carry,
    Exact,
    Losses,
    Optimiser,
    PerWeight,
    PlayerNoise,
    TaskBatch,
    TaskNoise,
    scheduled_updates,
    select_params,
)
from metagen.core.functional import Weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_at_least, check_positive
from metagen.generators import Generator, PerPlayer
from metagen.generators.base import Normal
from metagen.generators.networks import halvings, widths_for
from metagen.learners.fixed_rate import FixedRate

MOST = 200_000  # numbers in the map from a code to weights
SPREAD = 0.01  # of the numbers in it, at first: a code of N(0, 1) moves no weight far
CODE = "the code"  # where it lies in the state of the step: no weight has a name with a space in it


class RelationEncoder(nn.Module):
    """Images of one task -> the normal distribution of its code, whatever their order.

    Convolutions make a code of each image, a network of two layers looks at every pair of codes (an image and itself
    too), and the mean over pairs is what it found (section 2.4). Of no image at all the distribution is N(0, 1).

    Args:
        size: height and width of the images.
        channels: of the images.
        widths: channels of the convolutions, which halve the images once each.
        code: numbers in a code.
    """

    def __init__(self, size: int, channels: int, widths: tuple[int, ...], code: int) -> None:
        super().__init__()
        self.code, seen = code, widths[-1] * (size >> len(widths)) ** 2
        convs = halvings(channels, widths, "group")
        self.image = nn.Sequential(convs, nn.Flatten(), nn.LayerNorm(seen), nn.Linear(seen, code))
        self.pair = nn.Sequential(nn.Linear(2 * code, 2 * code), nn.SiLU(), nn.Linear(2 * code, 2 * code))

    def forward(self, support: torch.Tensor) -> Normal:
        """Support [k, C, H, W] in [0, 1], k >= 0 -> mean and log variance, each [code]."""
        k = len(support)
        if not k:
            return Normal(support.new_zeros(self.code), support.new_zeros(self.code))
        each = self.image(support)
        pairs = torch.cat([each[:, None].expand(k, k, -1), each.expand(k, k, -1)], -1)
        return Normal.of(self.pair(pairs.flatten(0, 1)).mean(0).to(support))


class LEO(FixedRate):
    """Learn a start, and a code for each task from which the weights that move are decoded.

    An encoder reads the support, and z is a draw of its normal in meta-training, its mean in a trained model. The first
    inner steps are gradient steps on z of the support loss at the decoded weights, the others steps on the weights
    from there. Every player's loss reaches z through that player's own weights, the others held fixed, and z descends
    the sum. phi_0 is decoded from 0, the mean of the prior, so N = 0 is not adapted: the encoder takes part from the
    first step on.

    Decoding is linear without a bias: w = theta + D_w z for every weight that moves, where D begins near 0. It is one
    map, not the mean and variance of weights (eq. 2), and the rates are no meta-parameters.

    The outer loss is the query loss at phi_N, and (eq. 6, and the correlations C of section 2.4)

    - kl * KL(q(z | support) || N(0, 1)),
    - drift * |stop_grad(z') - z|^2, z' being where the steps on the code ended,
    - orthogonality * the sum of squared correlations of every two columns of D, each taken about 0.

    Args:
        generator: whose weights are theta.
        steps: N in meta-training, those on the code among them; 1 or more.
        rate: of a step on weights.
        optimiser: of the steps on weights, "sgd" or "adam".
        adapted_params: what moves (see `select_params`).
        test_steps: N where a trained model adapts; None for the same.
        code_steps: how many of the N go on in the code, the first ones; 1 or more.
        code_rate: of a step on the code.
        code: numbers in the code.
        widths: channels of the encoder's convolutions, which halve the images once each; None for those of a VAE of
            that size.
        kl: weight of the KL, 0 or more.
        drift: weight of what the encoder pays for leaving way to the steps, 0 or more.
        orthogonality: weight of the correlations, 0 or more.

    Raises:
        MetagenError: an option is out of range, or the map from a code to weights is too large.
    """

    meta_gradient = Exact()
    reads = "code"

    def __init__(
        self,
        generator: Generator,
        steps: int = 5,
        rate: PerPlayer = 1e-3,
        optimiser: Optimiser = "sgd",
        adapted_params: tuple[str, ...] = ("biases",),
        test_steps: int | None = None,
        code_steps: int = 3,
        code_rate: float = 1.0,
        code: int = 16,
        widths: tuple[int, ...] | None = (8, 16),
        kl: float = 1e-3,
        drift: float = 1e-3,
        orthogonality: float = 0.1,
    ) -> None:
        check_positive("code_rate", code_rate)
        for name, number in {"steps": steps, "code_steps": code_steps, "code": code}.items():
            check_at_least(name, number, 1)
        for name, weight in {"kl": kl, "drift": drift, "orthogonality": orthogonality}.items():
            check_at_least(name, weight, 0)
        super().__init__(generator, steps, rate, optimiser, adapted_params, test_steps)
        weights = select_params(generator, adapted_params)
        size = code * sum(w.numel() for w in weights.values())
        if size > MOST:
            hint = "move fewer weights, or take a smaller code"
            raise MetagenError(
                f"adapted_params: expected at most {MOST:,} numbers from a code to weights, got {size:,}; {hint}"
            )
        self.code_steps, self.code_rate, self.code = code_steps, code_rate, code
        self.kl, self.drift, self.orthogonality = kl, drift, orthogonality
        self.widths = widths_for(generator.size, widths)
        self.encoder = RelationEncoder(generator.size, generator.channels, self.widths, code)
        self.decoder = PerWeight({name: SPREAD * torch.randn(*w.shape, code) for name, w in weights.items()})
        self.to(next(generator.parameters()))

    def task_noise(self, draws: Draws) -> TaskNoise:
        """See `Learner`; and the draw of the code."""
        return {**super().task_noise(draws), "code": {"normal": draws.normal(self.code)}}

    def encoded(self, support: torch.Tensor, task_noise: TaskNoise = NO_NOISE) -> torch.Tensor:
        """The code [code] of a support [k, C, H, W] in [0, 1] before any step: a draw, or the mean without noise."""
        return drawn(self.encoder(support), task_noise)

    def decoded(self, start: Weights, code: torch.Tensor) -> Weights:
        """The weights that move, for a code [code]."""
        return {name: start[name] + self.decoder[name] @ code for name in sorted(self.adapted_names)}

    def begin(self, support: torch.Tensor, task_noise: TaskNoise = NO_NOISE) -> Carry:
        """See `Learner`; the code lies in the state."""
        own, state = super().begin(support, task_noise)
        return own, {**state, CODE: (self.encoded(support, task_noise),)}

    def advance(
        self, carry: Carry, support: torch.Tensor, noise: PlayerNoise, index: int, task_noise: TaskNoise
    ) -> Carry:
        """See `Learner`: a step on the code, or, after those, one on the weights."""
        if index >= self.code_steps:
            return super().advance(carry, support, noise, index - self.code_steps, task_noise)
        start, (code,) = self.start(task_noise), carry[1][CODE]
        at = {**start, **self.decoded(start, code)}
        movers = {self.generator.player_of(name) for name in self.adapted_names}

        def loss(code: torch.Tensor) -> torch.Tensor:
            moved, total = self.decoded(start, code), []
            for player, _, draws in scheduled_updates(self.generator, movers, noise):
                own = {name: w for name, w in moved.items() if self.generator.player_of(name) == player}
                total.append(self.support_loss({**at, **own}, start, player, support, draws))
            return torch.stack(total).sum()

        code = code - self.code_rate * grad(loss)(code)
        return self.decoded(start, code), {**carry[1], CODE: (code,)}

    def outer_loss_terms(self, carry: Carry, task: TaskBatch, index: int) -> tuple[Losses, Losses]:
        """See `Learner`; at phi_N also what code and decoder pay, in every player's objective."""
        objectives, losses = super().outer_loss_terms(carry, task, index)
        if index < self.steps:
            return objectives, losses
        normal: Normal = self.encoder(task.support)
        way = carry[1][CODE][0].detach() - drawn(normal, task.task_noise)
        paid = self.kl * normal.kl().sum() + self.drift * way.square().sum()
        paid = paid + self.orthogonality * self.correlations()
        return {player: each + paid for player, each in objectives.items()}, losses

    def correlations(self) -> torch.Tensor:
        """The sum over pairs of the decoder's columns of their squared cosine, each pair counted twice."""
        rows = torch.cat([self.decoder[name].view(-1, self.code) for name in sorted(self.adapted_names)])
        columns = F.normalize(rows, dim=0)
        products = (columns.mT @ columns).square()
        return products.sum() - products.diagonal().sum()


def drawn(normal: Normal, task_noise: TaskNoise) -> torch.Tensor:
    """A draw of a code's normal, or its mean without noise: [code]."""
    return normal.draw(task_noise["code"]["normal"]) if "code" in task_noise else normal[0]
