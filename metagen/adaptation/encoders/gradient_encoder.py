"""The classical recipe: gradients of a small network on the support, and their principal components."""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar

import torch

from metagen.adaptation.draws import draw_noise
from metagen.adaptation.encoders.base import Encoder
from metagen.adaptation.support_gradient import support_gradient
from metagen.core.functional import over_tasks
from metagen.core.pca import PCA
from metagen.generators import Generator

AT_ONCE = 16
DRAWS = 4  # of the generator's noise, over which a gradient is averaged


class GradientEncoder(Encoder):
    """Where the support pulls the weights that meta-training began from: principal components over train tasks.

    Of the last player's loss, by all its weights that are not frozen (cf. Achille 2019, arXiv:1902.03545, whose
    embedding is the mean of squared gradients, of a probe). The network is a copy of the generator as it was then, so
    begin from a trained one (`initial`). Nothing of this encoder is trained; an empty support has the code of a
    gradient of 0. For the options see `Encoder`.
    """

    prepared_by: ClassVar[int] = 300
    needs_trained = "encoder gradient"
    mean: torch.Tensor
    basis: torch.Tensor
    scale: torch.Tensor

    def __init__(self, generator: Generator, code: int = 16) -> None:
        super().__init__(generator, code)
        self.probe = frozen(generator)
        last = generator.players[-1]
        named = (name for name, _ in generator.named_parameters() if not generator.is_frozen(name))
        self.names = [name for name in named if generator.player_of(name) == last]
        total = sum(generator.get_parameter(name).numel() for name in self.names)
        self.drawn = draw_noise(generator, ("gradient",), range(DRAWS), 1)[last]  # here, since vmap refuses to draw
        for name, shape in (("mean", (total,)), ("basis", (code, total)), ("scale", (code,))):
            self.register_buffer(name, next(generator.parameters()).new_zeros(shape))

    def prepare(self, generator: Generator, supports: torch.Tensor) -> None:
        """See `Encoder`.

        Raises:
            MetagenError: the gradients of the train tasks are all alike, or not finite.
        """
        self.probe = frozen(generator)
        gradients = torch.cat([over_tasks(self.gradient, shared=0)(some) for some in supports.split(AT_ONCE)])
        components = PCA.fitted(gradients.detach(), self.code)
        count = len(components.scale)
        self.mean.copy_(components.mean)
        self.basis[:count].copy_(components.basis)
        self.scale[:count].copy_(1 / components.scale)
        self.probe.train()  # in name only: Lightning warns of modules that are not when training begins

    def forward(self, support: torch.Tensor) -> torch.Tensor:
        """See `Encoder`."""
        gradient = self.gradient(support).detach() if len(support) else torch.zeros_like(self.mean)
        return self.scale * (self.basis @ (gradient - self.mean))

    def gradient(self, support: torch.Tensor) -> torch.Tensor:
        """Of a support [k, C, H, W], k >= 1: [P]. All images are given the same draws: their order does not matter."""
        weights = dict(self.probe.eval().named_buffers())
        same = {name: x.expand(-1, len(support), *x.shape[2:]).to(support) for name, x in self.drawn.items()}
        draws = [{name: x[draw] for name, x in same.items()} for draw in range(DRAWS)]
        return torch.stack([support_gradient(self.probe, weights, support, each, self.names) for each in draws]).mean(0)


def frozen(generator: Generator) -> Generator:
    """A copy whose weights are buffers, so that nothing trains them."""
    copy = deepcopy(generator)
    for module in copy.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight.detach().clone())
    return copy
