"""`redraw`: a VAE that makes a new image by drawing a support image again, moved and bent by its latent.

Warping an example to make another of its class: Lake 2015 (Science 350), Jaderberg 2015 (arXiv:1506.02025).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from metagen.core.philox import Draws
from metagen.core.warps import DRAWS, moved, pixel_grid, random_affine, read_at
from metagen.errors import MetagenError, check_at_least
from metagen.generators.base import Generator, Likelihood, LikelihoodName, Noise, Normal
from metagen.generators.latents import log_ratio
from metagen.generators.networks import Encoder, halvings, silent, widths_for

REACH = 0.3  # of the image: what one unit of the flow and of the affine map's entries means
NIB = 1.5  # how firmly a line keeps its width where the paper is stretched; 1 is exact for a Gaussian profile
COPY = 1.0  # strength of the affine map through which a single image sees itself


class Sources(NamedTuple):
    """The context: which support images each target may be drawn from."""

    support: torch.Tensor  # [k, C, H, W]
    mask: torch.Tensor  # [n, k]


class Redraw(Generator):
    """A support-conditioned VAE whose decoder moves the points of one support image, then draws its lines with a pen.

    The latent and the source's features give an affine map and a smooth flow field; the latent has no way to pixels but
    through these, so it cannot carry what the image is of. Where the paper is stretched, the pen keeps its width (of
    photographs: light and shade are decoded too). What is drawn is the sample. The likelihood sees the drawing blurred
    and through a small convolution (`spray`), which knows that two hands never put a line in quite the same place;
    without it, strokes become broad and soft, because that is the better guess.

    The prior of the latent is a normal that the source's features give: what a hand may do depends on the character.
    The loss is the negative evidence lower bound in nats per image, the source drawn evenly from the support and the KL
    counted `beta` times (Higgins 2017), without which the latent learns bends that go with one target alone.

    Args:
        size: height and width in pixels; a multiple of 2 ** len(widths).
        channels: 1 or 3.
        latent: number of latent dimensions.
        widths: channels after each halving; by default two to four of them, by size.
        hidden: channels of the layers that join latent and source.
        likelihood: "bernoulli" (ink) or "gaussian" (photographs); see `Likelihood`.
        beta: how often the KL counts; above 1 the loss is a looser bound.
        temperature: what the prior's standard deviations are multiplied by when sampling.
        null_rate: share of training images drawn from no source (Ho & Salimans 2022, arXiv:2207.12598): they train
            the image that stands for an empty support.

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
        latent: int = 16,
        widths: tuple[int, ...] | None = None,
        hidden: int = 64,
        likelihood: LikelihoodName = "bernoulli",
        beta: float = 3.0,
        temperature: float = 1.0,
        null_rate: float = 0.03,
    ) -> None:
        super().__init__()
        check_at_least("latent", latent, 1)
        check_at_least("hidden", hidden, 2)
        if not 0 <= null_rate < 1 or beta < 0:
            raise MetagenError(f"expected 0 <= null_rate < 1 and beta >= 0, got {null_rate} and {beta}")
        self.size, self.channels, self.latent, self.hidden = size, channels, latent, hidden
        self.likelihood, self.beta, self.temperature, self.null_rate = likelihood, beta, temperature, null_rate
        self.check_sampling()
        self.widths = widths_for(size, widths)
        low = size >> len(self.widths)
        self.encoder = Encoder(size, 2 * channels, self.widths, 2 * latent, "none")
        self.features = halvings(channels, self.widths, "none")
        self.prior = nn.Sequential(
            *(nn.Flatten(), nn.Linear(self.widths[-1] * low**2, hidden), nn.SiLU()),
            silent(nn.Linear(hidden, 2 * latent)),  # begins as the standard normal
        )
        self.expand = nn.Linear(latent, hidden // 2 * low**2)
        self.mix = nn.Sequential(
            *(nn.Conv2d(self.widths[-1] + hidden // 2, hidden, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(hidden, hidden, 3, padding=1), nn.SiLU()),
        )
        self.flow = silent(nn.Conv2d(hidden, 2, 3, padding=1))  # begins as no movement at all
        self.affine = silent(nn.Linear(hidden, 6))
        if likelihood == "gaussian":
            self.light = silent(nn.Linear(hidden, 2))
        self.spray = nn.Sequential(
            *(nn.Conv2d(channels, 8, 7, padding=3), nn.SiLU()), silent(nn.Conv2d(8, channels, 5, padding=2))
        )
        self.contrast = nn.Parameter(torch.tensor([6.0, -3.0] if likelihood == "bernoulli" else [1.0, 0.0]))
        self.null = nn.Parameter(nn.init.normal_(torch.empty(channels, size, size), mean=0.5, std=0.1))
        self.log_likelihood = Likelihood(likelihood)

    def check_sampling(self) -> None:
        """See `Generator`."""
        check_at_least("temperature", self.temperature, 0)

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`; the head is the spray, the last block all that draws."""
        drawing = ("mix.*", "flow.*", "affine.*", "spray.*", "contrast")
        return {**super().parts, "head": ("spray.*", "contrast"), "last_block": drawing}

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> Sources:
        """The support images [k, C, H, W] that each target may be drawn from, by mask [n, k]."""
        return Sources(support, mask)

    def noise(self, n: int, draws: Draws) -> Noise:
        """Latents [..., n, latent]; uniform: the source's place [..., n], whether it is hidden, a copy [..., n, 6]."""
        uniform = draws.uniform(n, 2 + DRAWS)
        latent = draws.normal(n, self.latent)
        return {"latent": latent, "source": uniform[..., 0], "null": uniform[..., 1], "copy": uniform[..., 2:]}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Sources) -> torch.Tensor:
        """Negative ELBO with the KL counted `beta` times, nats per image; some sources are hidden in training mode."""
        source = self._source(noise, context)
        if self.training:
            hidden = (noise["null"] < self.null_rate)[:, None, None, None]
            source = torch.where(hidden, self.null.clamp(0, 1), source)
        posterior = self.posterior(images, source)
        drawing = self.draw(posterior.draw(noise["latent"]), source)
        kl = posterior.kl(self.prior_of(source)).sum(-1)
        return (self.beta * kl - self.log_likelihood(self.decoded(drawing), images)).mean()

    def sample(self, noise: Noise, context: Sources) -> torch.Tensor:
        """Drawings [n, C, H, W] for latents from the prior at the temperature."""
        source = self._source(noise, context)
        return self.draw(self.prior_of(source).draw(self.temperature * noise["latent"]), source)

    def prior_of(self, source: torch.Tensor) -> Normal:
        """Mean and log variance of p(z | source), each [n, latent]."""
        return Normal.of(self.prior(self.features(source)))

    def posterior(self, images: torch.Tensor, source: torch.Tensor) -> Normal:
        """Mean and log variance of q(z | image, source), each [n, latent]."""
        return Normal.of(self.encoder(torch.cat([images, source], 1)))

    def draw(self, code: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        """The source [n, C, H, W] drawn again as the code [n, latent] says, in [0, 1]."""
        features = self.features(source)
        spread = self.expand(code).unflatten(1, (-1, *features.shape[-2:]))
        hidden = self.mix(torch.cat([features, spread], 1))
        pooled = hidden.mean((-2, -1))
        places = pixel_grid(self.size, source)
        flow = F.interpolate(self.flow(hidden), size=(self.size, self.size), mode="bicubic", align_corners=False)
        bent = REACH * (moved(places, self.affine(pooled).unflatten(1, (2, 3))) + flow.movedim(1, -1))
        drawn = read_at(source, places + bent)
        if self.likelihood == "bernoulli":
            return _with_pen(drawn, _widening(source, drawn, places + bent))
        gain, shade = self.light(pooled)[:, :, None, None, None].unbind(1)
        return (drawn * gain.exp() + shade).clamp(0, 1)

    def decoded(self, drawing: torch.Tensor) -> torch.Tensor:
        """Decoded values for the likelihood: the drawing [n, C, H, W] blurred, and its spray."""
        return self.contrast[0] * _mean_around(drawing, 3) + self.contrast[1] + self.spray(drawing)

    def log_weights(self, images: torch.Tensor, noise: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """Log importance weights [s, n] of images [n, C, H, W], noise [s, n, latent], summed over the sources.

        log mean_j p(x, z_j | source j) / q(z_j | x, source j), over the k support images.
        """
        sources = support if len(support) else self.null.clamp(0, 1)[None]
        each = [self._log_weights_of(images, noise, source.expand_as(images)) for source in sources]
        return torch.stack(each).logsumexp(0) - torch.tensor(float(len(each))).log()

    def _log_weights_of(self, images: torch.Tensor, noise: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        posterior = self.posterior(images, source)
        codes = posterior.draw(noise)
        sources = source.expand(len(noise), *source.shape).flatten(0, 1)
        decoded = self.decoded(self.draw(codes.flatten(0, 1), sources)).unflatten(0, noise.shape[:2])
        ratio = log_ratio(codes, noise, posterior, *self.prior_of(source))
        return ratio + self.log_likelihood(decoded, images.expand_as(decoded))

    def _source(self, noise: Noise, context: Sources) -> torch.Tensor:
        """One source a target [n, C, H, W]: an allowed support image; an affine copy of the only one; or the null."""
        support, mask = context
        if not len(support):
            return self.null.clamp(0, 1).expand(len(mask), *self.null.shape)
        allowed = mask.sum(-1)
        place = (noise["source"] * allowed).floor().clamp(max=allowed - 1)
        index = (mask.cumsum(-1) <= place[:, None]).sum(-1).clamp(max=len(support) - 1)
        source = support[index]
        if len(support) > 1:
            return source
        return torch.where(allowed[:, None, None, None] > 0, source, random_affine(source, noise["copy"], COPY))


def _widening(source: torch.Tensor, drawn: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Squared ratio by which lines became wider when the source was read at those places: [n, C, H, W].

    Across a line that is stretched m times, slopes are m times gentler.
    """
    before, after = read_at(_steepness(source), places).clamp(min=0), _steepness(drawn)
    return ((before + 1e-3) / (after + 1e-3)).clamp(0.4, 4)


def _with_pen(drawn: torch.Tensor, widening: torch.Tensor) -> torch.Tensor:
    """Lines given back their width: ink is 1, on 0.

    With a Gaussian profile exp(-(x / w)^2 / 2) about its peak, a power m^2 narrows a line m times.
    """
    drawn = drawn.clamp(1e-3, 1)
    peak = F.max_pool2d(drawn, 3, 1, 1)
    return peak * (drawn / peak) ** widening**NIB


def _steepness(images: torch.Tensor) -> torch.Tensor:
    """Squared slopes, averaged over 5 x 5 pixels."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]
    down = padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    return _mean_around((across.square() + down.square()) / 4, 5)


def _mean_around(images: torch.Tensor, pixels: int) -> torch.Tensor:
    return F.avg_pool2d(images, pixels, 1, pixels // 2, count_include_pad=False)
