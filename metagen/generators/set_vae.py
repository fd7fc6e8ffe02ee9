"""A hierarchical VAE of sets, whose priors read the support by pooling and by attention.

The Neural Statistician (Edwards & Storkey 2017, arXiv:1606.02185), with attention to the set as in Generative Matching
Networks (Bartunov & Vetrov 2018, arXiv:1612.02192) and hierarchical few-shot models (Giannone & Winther 2022,
arXiv:2110.12279), and a posterior of each target's own as in Neural Processes (Garnelo 2018, arXiv:1807.01622).
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from metagen.core.philox import Draws
from metagen.errors import MetagenError, check_at_least
from metagen.generators.base import Generator, Likelihood, LikelihoodName, Noise, whole_support
from metagen.generators.latents import log_ratio
from metagen.generators.networks import halvings, operation, silent, widths_for
from metagen.generators.set_networks import Attention, Latent, Scale, SetContext, latent_of

SCALES = 2  # latent maps at the two coarsest scales


class SetVAE(Generator):
    """A VAE whose priors look at the support: of a code of the whole image, then of latent maps, coarse and fine.

    The code's prior is read from the mean of the support's features, its posterior also from the target. Code and
    latent maps grow into the image; on the way, features attend to the places of the support (`attend`). The support is
    a set: its order does not matter. A learned null image always belongs to it, so that it may be empty, and tells how
    large it is.

    The loss is the negative evidence lower bound on log p(image | support) in nats per image. In training mode each
    target sees the first so many of its support, none to all by chance, so that one model knows sets of every size.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: channels of each latent map.
        code: numbers of the code.
        widths: channels after each halving; by default two to four of them, by size.
        hidden: how many numbers the support's images are summed up in.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.
        attend: whether features attend to the support; else it is known by its mean alone.
        temperature: what the priors' standard deviations are multiplied by when sampling.
        null_rate: share of training images that see none of their support.

    Raises:
        MetagenError: an option is out of range.
    """

    players: ClassVar[tuple[str, ...]] = ("vae",)
    uses_support: ClassVar[bool] = True
    sampling: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        latent: int = 4,
        code: int = 32,
        widths: tuple[int, ...] | None = None,
        hidden: int = 64,
        likelihood: LikelihoodName = "bernoulli",
        attend: bool = True,
        temperature: float = 1.0,
        null_rate: float = 0.1,
    ) -> None:
        super().__init__()
        for name, value in (("latent", latent), ("code", code), ("hidden", hidden)):
            check_at_least(name, value, 1)
        if not 0 <= null_rate < 1:
            raise MetagenError(f"null_rate: expected 0 <= null_rate < 1, got {null_rate}")
        self.size, self.channels, self.latent, self.code, self.hidden = size, channels, latent, code, hidden
        self.likelihood, self.attend, self.temperature, self.null_rate = likelihood, attend, temperature, null_rate
        self.check_sampling()
        self.widths = widths_for(size, widths)
        low, top = size >> len(self.widths), self.widths[-1]
        self.features = nn.ModuleList(
            halvings(before, (width,), "none", [operation("residual" if place == len(self.widths) else "skip")])
            for place, (before, width) in enumerate(zip((channels, *self.widths), self.widths, strict=False), 1)
        )
        self.null = nn.Parameter(nn.init.normal_(torch.empty(1, top, low, low), std=0.1))
        self.summary = nn.Sequential(nn.Flatten(), nn.Linear(top * low**2, hidden), nn.SiLU())
        self.prior, self.shift = (
            nn.Sequential(nn.Linear(inputs, hidden), nn.SiLU(), silent(nn.Linear(hidden, 2 * code)))
            for inputs in (hidden, 2 * hidden)
        )
        self.stem = nn.Linear(code, top * low**2)
        coarse = self.widths[: -SCALES - 1 : -1]
        self.looks = nn.ModuleList(Attention(top, low) for _ in coarse if attend)  # before each scale, at the coarsest
        self.growths = nn.ModuleList([nn.Identity(), *(_doubling(top, width) for width in coarse[1:])])
        self.scales = nn.ModuleList(Scale(width, latent) for width in coarse)
        self.spans = [code, *(latent * (low << place) ** 2 for place in range(len(coarse)))]
        fine = [coarse[-1], *self.widths[-SCALES - 1 :: -1]]
        last = max(fine[-1] // 2, 1)  # channels at full size
        self.paint = nn.Sequential(
            *(layer for a, b in pairwise(fine) for layer in (*_doubling(a, b), operation("residual")(b, "none")[0])),
            *(*_doubling(fine[-1], last), nn.SiLU(), nn.Conv2d(last, channels, 3, padding=1)),
        )
        self.log_likelihood = Likelihood(likelihood)

    def check_sampling(self) -> None:
        """See `Generator`."""
        check_at_least("temperature", self.temperature, 0)

    @property
    def likelihood_of_samples(self) -> bool:
        """See `Generator`."""
        return True

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`; the stem is the bias of the map that the code grows into."""
        head = len(self.paint) - 1
        block = (f"paint.{head - 2}.*", f"paint.{head}.*")
        return {**super().parts, "head": block[1:], "last_block": block, "stem": ("stem.bias",)}

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> SetContext:
        """Features of the null image and of the support [k, C, H, W], and which of them each target sees."""
        known = torch.cat([self.null, self._features(support)[-1]]) if len(support) else self.null
        return SetContext(known, F.pad(mask, (1, 0), value=True))

    def noise(self, n: int, draws: Draws) -> Noise:
        """Standard normal draws of all latents [..., n, D]; how much of the support is seen in training, uniform."""
        return {"latent": draws.normal(n, sum(self.spans)), "seen": draws.uniform(n)}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: SetContext) -> torch.Tensor:
        """Negative ELBO on log p(image | support), nats per image."""
        if self.training:
            context = context._replace(mask=_first(context.mask, noise["seen"], self.null_rate))
        decoded, latents = self._down(context, noise["latent"], self._features(images))
        kl = torch.stack([each.posterior.kl(each.prior).sum(-1) for each in latents])
        return (kl.sum(0) - self.log_likelihood(decoded, images)).mean()

    def sample(self, noise: Noise, context: SetContext) -> torch.Tensor:
        """Expected images [n, C, H, W] for latents from the priors at the temperature."""
        return self.log_likelihood.expected(self._down(context, self.temperature * noise["latent"])[0])

    def embed(self, support: torch.Tensor) -> torch.Tensor:
        """Embedding of a task by its support [k, C, H, W]: the mean [code] of its code's prior."""
        return self.prior(self._summed(self.context(support, whole_support(support, 1))))[0, : self.code]

    def log_weights(self, images: torch.Tensor, noise: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """Log importance weights log p(x, z | support) - log q(z | x, support) of images [n, C, H, W]: [s, n].

        Noise is [s, n, D]. Their logsumexp minus log s estimates log p(x | support) from below (Burda 2016).
        """
        samples = len(noise)
        context = self.context(support, whole_support(support, samples * len(images)))
        seen = [each.repeat(samples, 1, 1, 1) for each in self._features(images)]
        decoded, latents = self._down(context, noise.flatten(0, 1), seen)
        ratios = [
            log_ratio(each.value, draws, each.posterior, *each.prior)
            for each, draws in zip(latents, noise.flatten(0, 1).split(self.spans, -1), strict=True)
        ]
        weights = torch.stack(ratios).sum(0) + self.log_likelihood(decoded, images.repeat(samples, 1, 1, 1))
        return weights.unflatten(0, noise.shape[:2])

    def _features(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Features [n, width, s, s] of images at each scale, from fine to coarse."""
        maps = [images]
        for layers in self.features:
            maps.append(layers(maps[-1]))
        return maps[1:]

    def _summed(self, context: SetContext) -> torch.Tensor:
        """The mean [n, hidden] over what each target sees."""
        each = self.summary(context.features)
        return context.mask.to(each) @ each / context.mask.sum(-1, keepdim=True)

    def _down(
        self, context: SetContext, noise: torch.Tensor, seen: list[torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, list[Latent]]:
        """From the set to decoded images [n, C, H, W]: the latents drawn with noise [n, D] on the way.

        seen: the features of the targets, for the posteriors; None to draw from the priors.
        """
        draws = noise.split(self.spans, -1)
        summed = self._summed(context)
        shift = None if seen is None else self.shift(torch.cat([summed, self.summary(seen[-1])], 1))
        latents = [latent_of(self.prior(summed), shift, draws[0])]
        x = self.stem(latents[0].value).unflatten(1, self.null.shape[1:])
        for place, (growth, scale) in enumerate(zip(self.growths, self.scales, strict=True)):
            if self.attend:
                x = x + self.looks[place](x, context)
            target = None if seen is None else seen[-1 - place]
            x, drawn = scale(growth(x), target, draws[place + 1])
            latents.append(drawn)
        return self.paint(x), latents


def _doubling(width: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.SiLU(), nn.ConvTranspose2d(width, after, 4, stride=2, padding=1))


def _first(mask: torch.Tensor, draws: torch.Tensor, null_rate: float) -> torch.Tensor:
    """The mask [n, 1 + k] of the null image and the first so many of those allowed, by uniform draws [n].

    None at the null rate, else evenly one to all of them. Images of a support stand in no order, so the first ones are
    any.
    """
    allowed = mask[:, 1:]
    count = ((draws - null_rate) / (1 - null_rate) * allowed.sum(-1)).ceil()
    return torch.cat([mask[:, :1], allowed & (allowed.cumsum(-1) <= count[:, None])], 1)
