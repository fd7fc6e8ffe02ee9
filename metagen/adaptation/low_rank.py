"""Low-rank deltas: a weight W becomes W + L R, of which an adaptation moves L and R (Hu 2021, arXiv:2106.09685)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils import parametrize

from metagen.adaptation.adapted_params import select_params
from metagen.core.seeding import torch_rng
from metagen.errors import MetagenError
from metagen.generators import Generator

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


class Delta(nn.Module):
    """W + L R for a weight W [a, b, ...] flattened to [a, c]; L [a, rank] begins at 0, R [rank, c] is random.

    Args:
        weight: W.
        rank: of the delta.
        rng: where R comes from if it is fixed; None for one that is a weight, too.
    """

    def __init__(self, weight: torch.Tensor, rank: int, rng: torch.Generator | None = None) -> None:
        super().__init__()
        flat = weight.detach().flatten(1)
        self.left = nn.Parameter(flat.new_zeros(flat.shape[0], rank))
        self.right: torch.Tensor
        if rng is None:
            right = torch.randn(rank, flat.shape[1], dtype=flat.dtype, device=flat.device)
            self.right = nn.Parameter(right / rank**0.5)
        else:
            right = torch.randn(rank, flat.shape[1], generator=rng, device=rng.device)
            self.register_buffer("right", right.to(flat) / rank**0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight with its delta."""
        return weight + (self.left @ self.right).view_as(weight)


def add_deltas(generator: Generator, rank: int, layers: tuple[str, ...] | None, fixed: bool = False) -> tuple[str, ...]:
    """Give linear and convolutional layers low-rank deltas.

    L R is also (L A) (A^-1 R). Where R is fixed, L alone moves (LoRA-FA, Zhang 2023, arXiv:2308.03303), so that deltas
    of many tasks can be compared number by number; R then depends on the layer's name and shape alone.

    Args:
        generator: is changed.
        rank: that of every delta is at most this; from 1 to the smaller side of the smallest weight.
        layers: globs over weight names, or names of the generator's parts (see `select_params`); None for
            all of the last player.
        fixed: whether every R is.

    Returns:
        The names of what is to move: each L and, unless it is fixed, each R.

    Raises:
        MetagenError: the rank is out of range, or no linear or convolutional layer is meant.
    """
    modules, players = dict(generator.named_modules()), generator.players
    if layers is None:
        layers = ("*",) if len(players) == 1 else (f"{players[-1]}.*",)
    weights = select_params(generator, layers, "layers")
    meant = sorted({name.rpartition(".")[0] for name in weights if name.endswith(".weight")})
    chosen = [name for name in meant if isinstance(modules[name], LAYERS)]
    if not chosen:
        raise MetagenError(f"layers: {list(layers)} means no linear or convolutional layer without deltas")
    for name in chosen:
        most = min(modules[name].weight.flatten(1).shape)
        if not 1 <= rank <= most:
            raise MetagenError(f"rank: expected 1 to {most}, the smaller side of {name}.weight, got {rank}")
    for name in chosen:
        rng = torch_rng("low rank", name) if fixed else None
        parametrize.register_parametrization(modules[name], "weight", Delta(modules[name].weight, rank, rng))
    sides = ("left",) if fixed else ("left", "right")
    return tuple(f"{name}.parametrizations.weight.0.{side}" for name in chosen for side in sides)
