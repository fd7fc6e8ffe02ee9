"""The token VAE: a latent grid of discrete codes, and an autoregressive prior over them that reads the support.

Discrete latents with a learned prior: van den Oord 2017, arXiv:1711.00937; the codes: Mentzer 2023, arXiv:2309.15505.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F

from metagen.core.philox import Draws
from metagen.core.threads import in_threads, workers_for
from metagen.core.warps import DRAWS, random_affine
from metagen.errors import MetagenError, check_at_least, check_positive
from metagen.generators.base import Generator, Likelihood, LikelihoodName, Noise, leave_one_out
from metagen.generators.generator_options import with_sampling
from metagen.generators.tokens.token_networks import CodePrior, Heads, SupportEncoder
from metagen.generators.tokens.token_sampling import Sampling, draw_codes
from metagen.generators.tokens.tokenizer import Tokenizer, at_least_single

COPY = 1.0  # strength of the affine map through which a single image sees itself
STEP_IMAGES = 10  # of a support, those that an inner step takes: as many as training shows, in bounded memory
ROWS = 8  # images of one task that are drawn together, always as many
AT_ONCE = {"cuda": 128}  # such groups, always as many
FEW_AT_ONCE = 8  # on any other device
COLDEST = 0.01  # a temperature below draws the likeliest code and no other, until logits overflow
GRID = {  # the values that sampling is chosen from; a lower temperature wants less guidance, so it comes first
    "temperature": (1.0, 0.9, 0.8),
    "guidance": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0),
    "contrast": (1.0, 1.25, 1.5, 2.0),
    "top_p": (1.0, 0.98, 0.95),
}


class TokenContext(NamedTuple):
    """Keys and values of a support, and a mask over them."""

    memory: list[Heads]  # keys and values of null tokens and support, for each block of the prior: m tokens
    mask: torch.Tensor | None  # which of them each target sees, [..., n, m]; None for all


class TokenVAE(Generator):
    """A tokenizer, trained beforehand and frozen, and a transformer that writes its codes looking at the support.

    The posterior is a point mass on an image's codes, so the loss, -log p(x | codes) - log p(codes | support), is a
    negative evidence lower bound on log p(x | support) in nats per image. It is of the model as it is, whatever bears
    on samples. In training mode the first term, which nothing trains, is left out, and some targets see no support.

    Samples are guided: logits + g (logits - logits without support) (Ho & Salimans 2022, arXiv:2207.12598). Of k images
    g is guidance k / (k + 1): few images show a hand as much as a character, and guidance is towards both.

    Args:
        size: height and width in pixels; a multiple of 2 ** halvings.
        channels: 1 or 3.
        tokenizer_width: see `Tokenizer`, as for levels, halvings and likelihood.
        levels: of each channel of a code.
        halvings: from an image to its grid of codes.
        likelihood: "bernoulli" or "gaussian".
        width: of a token of the prior.
        heads: of its attention; they divide the width.
        support_blocks: layers over each image of the support.
        blocks: layers over the codes.
        null_tokens: learned tokens that every target sees beside the support.
        null_rate: share of targets in training that see no support.
        support_augment: strength of the affine map (see `random_affine`) through which an inner step sees the support,
            all its images alike, so that many steps do not learn a few images by heart; 0 for none.
        dropout: share of the channels that the layers of the prior add nothing to, drawn once a target.
        guidance: 0 for the model as it is; above, samples are more of what the support is of, and vary less.
        temperature: what logits are divided by, above 0.
        top_p: the share of probability that the likeliest codes must hold to be all that is drawn from.
        contrast: what the decoder's logits are multiplied by where images are made (Bernoulli).
        after_steps: sampling options by name, in place of those above once inner steps have moved weights: weights that
            know the support want less guidance towards it.

    Raises:
        MetagenError: an option is out of range.
    """

    players: ClassVar[tuple[str, ...]] = ("vae",)
    uses_support: ClassVar[bool] = True
    frozen: ClassVar[tuple[str, ...]] = ("tokenizer.*",)
    defining: ClassVar[tuple[str, ...]] = ("levels", "heads")
    sampling: ClassVar[tuple[str, ...]] = ("guidance", "temperature", "top_p", "contrast")
    batched: ClassVar[tuple[str, ...]] = ("query_loss", "generate", "diagnostics")

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        tokenizer_width: int = 32,
        levels: tuple[int, ...] = (8, 6, 5),
        halvings: int | None = None,
        likelihood: LikelihoodName = "bernoulli",
        width: int = 128,
        heads: int = 8,
        support_blocks: int = 2,
        blocks: int = 4,
        null_tokens: int = 16,
        null_rate: float = 0.1,
        dropout: float = 0.1,
        support_augment: float = 0.0,
        guidance: float = 1.0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        contrast: float = 1.0,
        after_steps: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("blocks", blocks), ("heads", heads), ("null_tokens", null_tokens), ("width", width)):
            check_at_least(name, value, 1)
        check_at_least("support_blocks", support_blocks, 0)
        check_at_least("support_augment", support_augment, 0)
        if width % heads:
            raise MetagenError(f"heads: expected a divisor of the width {width}, got {heads}")
        if not 0 <= null_rate < 1 or not 0 <= dropout < 1:
            raise MetagenError(f"expected null_rate and dropout of 0 or more, below 1, got {null_rate} and {dropout}")
        self.tokenizer = Tokenizer(size, channels, tokenizer_width, levels, halvings, likelihood)
        self.size, self.channels, self.tokenizer_width, self.likelihood = size, channels, tokenizer_width, likelihood
        self.levels, self.halvings = self.tokenizer.levels, self.tokenizer.halvings
        self.width, self.heads, self.support_blocks, self.blocks = width, heads, support_blocks, blocks
        self.null_tokens, self.null_rate, self.dropout = null_tokens, null_rate, dropout
        self.support_augment = support_augment
        self.guidance, self.temperature, self.top_p, self.contrast = guidance, temperature, top_p, contrast
        self.check_sampling()
        self.after_steps = dict(after_steps or {})
        with_sampling(self, self.after_steps)  # refuses what is out of range
        encoder = SupportEncoder(channels, self.halvings, self.tokenizer.side, width, heads, support_blocks)
        codes, places = self.tokenizer.quantiser.codes, self.tokenizer.places
        self.prior = CodePrior(codes, places, encoder, width, heads, blocks, null_tokens)

    def check_sampling(self) -> None:
        """See `Generator`."""
        if not COLDEST <= self.temperature < math.inf:
            raise MetagenError(f"temperature: expected {COLDEST} or more, got {self.temperature}")
        check_positive("contrast", self.contrast)
        if not 0 < self.top_p <= 1:
            raise MetagenError(f"top_p: expected more than 0 and at most 1, got {self.top_p}")
        if not math.isfinite(self.guidance) or self.guidance < 0:
            raise MetagenError(f"guidance: expected a finite number of 0 or more, got {self.guidance}")
        if self.contrast != 1 and self.likelihood != "bernoulli":
            raise MetagenError(f"contrast: expected 1 with the likelihood {self.likelihood}, got {self.contrast}")

    @property
    def grid(self) -> Mapping[str, tuple[float, ...]]:
        """See `Generator`."""
        return {name: values for name, values in GRID.items() if name != "contrast" or self.likelihood == "bernoulli"}

    @property
    def likelihood_of_samples(self) -> bool:
        """See `Generator`: only where samples are of the model as it is."""
        return self.guidance == 0 and self.temperature == 1 and self.top_p == 1 and not self.after_steps

    @property
    def log_likelihood(self) -> Likelihood:
        """Of pixels, given what was decoded."""
        return self.tokenizer.log_likelihood

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """See `Generator`."""
        head, last = ("prior.head.*",), (f"prior.blocks.{self.blocks - 1}.*", "prior.norm.*", "prior.head.*")
        return {**super().parts, "head": head, "last_block": last, "cross_attention": ("prior.blocks.*.cross.*",)}

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> TokenContext:
        """Keys and values of null tokens and support [k, C, H, W], of which a target sees what mask [n, k] says."""
        nulls = mask.new_ones(len(mask), self.null_tokens)
        return TokenContext(
            self.prior.memory(support), torch.cat([nulls, mask.repeat_interleave(self.tokenizer.places, -1)], -1)
        )

    def noise(self, n: int, draws: Draws) -> Noise:
        """Uniform draws [..., n, ...]: one a code; a hidden support; an affine copy; dropout, one a channel."""
        channels = self.width if self.dropout else 0
        sizes = {"codes": self.tokenizer.places, "null": 1, "copy": DRAWS, "dropout": channels}
        each = draws.uniform(n, sum(sizes.values())).split([*sizes.values()], -1)
        return dict(zip(sizes, each, strict=True))

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: TokenContext) -> torch.Tensor:
        """Negative ELBO on log p(image | support), nats per image: of n images, or of those of each of T tasks [T]."""
        codes = self._codes(images)
        nats = self._code_nats(codes, noise, context)
        if not self.training:
            nats = nats + self._pixel_nats(codes, images)
        return nats.mean(-1)

    def support_loss(self, player: str, support: torch.Tensor, noise: Noise) -> torch.Tensor:
        """Nats of the codes alone, since no step moves the tokenizer; a single image sees an affine copy of itself.

        Of a large support each step takes `STEP_IMAGES` at random, which see one another.
        """
        if len(support) == 1:
            context = self._of_all(random_affine(support, noise["copy"], COPY))
            return self._code_nats(self._codes(support), noise, context).mean(-1)
        if self.support_augment:
            alike = noise["copy"][:1].expand(len(support), -1)
            support = random_affine(support, alike, self.support_augment)
        if len(support) > STEP_IMAGES:
            chosen = noise["copy"][:, -1].argsort()[:STEP_IMAGES]
            support, noise = support[chosen], {name: draws[chosen] for name, draws in noise.items()}
        context = self.context(support, leave_one_out(support))
        return self._code_nats(self._codes(support), noise, context).mean(-1)

    def query_loss(self, player: str, query: torch.Tensor, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """See `Generator`; also of tasks [T, q, C, H, W] that share all weights: [T]."""
        return self.loss(player, query, noise, self._of_all(support))

    def diagnostics(self, images: torch.Tensor, noise: Noise, support: torch.Tensor) -> dict[str, torch.Tensor]:
        """The two terms of the loss, nats per image."""
        codes, context = self._codes(images), self._of_all(support)
        nats = {"code_nats": self._code_nats(codes, noise, context), "pixel_nats": self._pixel_nats(codes, images)}
        return {name: each.mean(-1) for name, each in nats.items()}

    def log_prob(self, images: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
        """The lower bound on log p(image | support) of images [n, C, H, W], nats [n]: exact but for other codes."""
        codes, context = self._codes(images), self._of_all(support)
        return -self._code_nats(codes, {}, context) - self._pixel_nats(codes, images)

    def sample(self, noise: Noise, context: TokenContext) -> torch.Tensor:
        """New images [n, C, H, W], a fixed number of rows at a time, so that none depends on how many there are."""
        made = []
        for start in range(0, len(noise["codes"]), ROWS):
            uniform = noise["codes"][start : start + ROWS]
            missing = ROWS - len(uniform)
            mask = None if context.mask is None else context.mask[start : start + ROWS]
            seen = None if mask is None else F.pad(mask, (0, 0, 0, missing), value=True)
            made.append(self._drawn(F.pad(uniform, (0, 0, 0, missing)), context.memory, seen)[: len(uniform)])
        return torch.cat(made)

    def generate(self, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """See `Generator`; also for supports [T, k, C, H, W] of tasks that share all weights: [T, n, C, H, W].

        Work is cut into pieces of one shape, so that an image depends on nothing but its support and its draws.
        """
        if support.ndim == 4:
            return self.sample(noise, self._of_all(support))
        memories = [self.prior.memory(each[None]) for each in support]
        count = noise["codes"].shape[1]
        groups = math.ceil(count / ROWS)
        padded = F.pad(noise["codes"], (0, 0, 0, groups * ROWS - count))
        rows, at_once = padded.unflatten(1, (groups, ROWS)).flatten(0, 1), AT_ONCE.get(support.device.type, FEW_AT_ONCE)

        def drawn(start: int) -> torch.Tensor:
            part = rows[start : start + at_once]
            whose = [min(group // groups, len(support) - 1) for group in range(start, start + at_once)]
            uniform = F.pad(part, (0, 0, 0, 0, 0, at_once - len(part)))
            return self._drawn(uniform, _stacked([memories[task] for task in whose]), None)[: len(part)]

        starts, made = range(0, len(rows), at_once), []
        workers = workers_for(support.device, len(starts), 1)
        for first in range(0, len(starts), workers):
            made += in_threads(drawn, starts[first : first + workers])
        return torch.cat(made).unflatten(0, (len(support), groups)).flatten(1, 2)[:, :count]

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """The codes [n, places] of images [n, C, H, W]."""
        return self._codes(images)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through their codes and back."""
        return self._decoded(self._codes(images))

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`, by maps not yet rounded: [n, steps, C, H, W]."""
        return self._expected(self.tokenizer.blended(first, last, steps))

    def _of_all(self, support: torch.Tensor) -> TokenContext:
        """Context of targets that see all of the support [..., k, C, H, W]."""
        return TokenContext(self.prior.memory(support), None)

    def _codes(self, images: torch.Tensor) -> torch.Tensor:
        """The codes [..., n, places] of images [..., n, C, H, W]."""
        with torch.no_grad():
            return self.tokenizer.project(images.flatten(0, -4)).unflatten(0, images.shape[:-3])

    def _code_nats(self, codes: torch.Tensor, noise: Noise, context: TokenContext) -> torch.Tensor:
        """-log p(codes [..., n, places] | support), nats of each image [..., n]."""
        mask, dropout_mask = context.mask, None
        if self.training:
            mask = self._with_some_hidden(noise["null"], context)
            if self.dropout:
                dropout_mask = (noise["dropout"] >= self.dropout).to(noise["dropout"]) / (1 - self.dropout)
        logits = at_least_single(self.prior(codes, context.memory, mask, dropout_mask))
        return F.cross_entropy(logits.flatten(0, -2), codes.flatten(), reduction="none").view_as(codes).sum(-1)

    def _with_some_hidden(self, draws: torch.Tensor, context: TokenContext) -> torch.Tensor:
        """The mask [..., n, m] that hides the support from a share of the targets, by uniform draws [..., n, 1]."""
        tokens = context.memory[0][0].shape[-2]
        visible = (torch.arange(tokens, device=draws.device) < self.null_tokens) | (draws >= self.null_rate)
        return visible if context.mask is None else visible & context.mask

    def _pixel_nats(self, codes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """-log p(image | codes [..., n, places]), nats of each of images [..., n, C, H, W]."""
        decoded = at_least_single(self.tokenizer.decode(codes.flatten(0, -2)))
        return -self.log_likelihood(decoded, images.flatten(0, -4)).unflatten(0, codes.shape[:-1])

    def _drawn(self, uniform: torch.Tensor, memory: list[Heads], mask: torch.Tensor | None) -> torch.Tensor:
        """Images [..., n, C, H, W] by uniform draws [..., n, places]; not-a-numbers of a prior that has diverged."""
        shots = (memory[0][0].shape[-2] - self.null_tokens) // self.tokenizer.places
        how = Sampling(self.guidance * shots / (shots + 1), self.temperature, self.top_p)
        codes, finite = draw_codes(self.prior, uniform, memory, mask, how)
        return torch.where(finite[..., None, None, None], self._decoded(codes), torch.nan)

    def _decoded(self, codes: torch.Tensor) -> torch.Tensor:
        """Images [..., n, C, H, W] of codes [..., n, places]."""
        return self._expected(self.tokenizer.decode(codes.flatten(0, -2)).unflatten(0, codes.shape[:-1]))

    def _expected(self, decoded: torch.Tensor) -> torch.Tensor:
        return self.log_likelihood.expected(self.contrast * decoded)


def _stacked(memories: list[list[Heads]]) -> list[Heads]:
    """The memories of tasks, each of T = 1, as one, block by block."""
    return [
        (torch.cat([keys for keys, _ in of_block]), torch.cat([values for _, values in of_block]))
        for of_block in zip(*memories, strict=True)
    ]
