"""Meta-regularisation: what the outer loss asks of an adaptation beside a low query loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import nn

from metagen.adaptation.batch import TaskNoise
from metagen.adaptation.protocol import Losses
from metagen.core.functional import Weights, with_weights
from metagen.core.philox import Draws
from metagen.errors import MetagenError, unknown
from metagen.generators import Generator

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d
DEVIATION = 0.1  # the bottleneck's sigma, relative to the RMS of a tensor of weights at the start
LEAST_RMS = 0.01  # what counts as the RMS of one that begins near 0


class Regulariser:
    """Terms of each player's objective, of its own weights, at the start phi_0 and where adaptation ends, phi_N.

    Of a learner whose start depends on the support phi_0 is theta, which all tasks share, so that what is written for a
    task counts as adaptation.

    - `l2`: lambda / 2 |phi_N|^2, of the weights that move.
    - `l2_start`: lambda / 2 |phi_N - phi_0|^2.
    - `path_norm`: lambda / 2 times the squared l2 path norm of the networks at phi_N; see `path_norms`.
    - `dropout`: p; each coordinate of phi_N - phi_0 is 0 with this probability and else divided by 1 - p where the
      query loss is taken, by one mask a task (cf. Tseng 2020, arXiv:2004.05859; Lee 2020, arXiv:1905.12914).
    - `bottleneck`: beta; the query loss is taken at a draw from N(phi_N, sigma^2), and beta times the nats that this
      normal tells of the support, KL(N(phi_N, sigma^2) || N(phi_0, sigma^2)) = |phi_N - phi_0|^2 / (2 sigma^2), is
      added (Yin 2020, arXiv:1912.03820; Alemi 2017, arXiv:1612.00410). See `deviation` for sigma.

    To a first-order meta-gradient phi_N - phi_0 is a constant, so that of `l2_start` and of the KL the start hears
    nothing.

    Args:
        terms: lambda, p or beta by name; finite and not below 0, p below 1.

    Raises:
        MetagenError: a name is unknown, or a value out of range.
    """

    def __init__(self, terms: Mapping[str, float]) -> None:
        for name, value in terms.items():
            if name not in NAMES:
                raise unknown("regulariser", name, NAMES)
            if not 0 <= value < (1 if name == "dropout" else float("inf")):
                most = "below 1" if name == "dropout" else "finite"
                raise MetagenError(f"regularise.{name}: expected a number that is 0 or more and {most}, got {value}")
        self.terms = dict(terms)

    def task_noise(self, weights: Weights, draws: Draws) -> TaskNoise:
        """Each task's draws, by term, each shaped like the weights that move."""
        kinds = {"dropout": draws.uniform, "bottleneck": draws.normal}
        return {
            term: {name: draw(*w.shape) for name, w in weights.items()}
            for term, draw in kinds.items()
            if term in self.terms
        }

    def disturbed(self, start: Weights, moved: Weights, noise: TaskNoise) -> Weights:
        """The weights that moved, as the query loss sees them."""
        if "dropout" in self.terms:
            rate, draws = self.terms["dropout"], noise["dropout"]
            moved = {n: start[n] + (draws[n] >= rate) * (w - start[n]) / (1 - rate) for n, w in moved.items()}
        if "bottleneck" in self.terms:
            moved = {n: w + deviation(start[n]) * noise["bottleneck"][n] for n, w in moved.items()}
        return moved

    def penalties(self, generator: Generator, start: Weights, moved: Weights) -> Losses:
        """The penalties of each player's objective: `start` has every weight, `moved` those that adapt."""
        return {player: self._penalty(generator, player, start, moved) for player in generator.players}

    def _penalty(self, generator: Generator, player: str, start: Weights, moved: Weights) -> torch.Tensor:
        before, after = (
            {name: w for name, w in weights.items() if generator.player_of(name) == player}
            for weights in (start, moved)
        )
        penalties = {name: value for name, value in self.terms.items() if name in PENALTIES and after}
        terms = [value * PENALTIES[name](before, after) for name, value in penalties.items()]
        if "path_norm" in self.terms:
            terms.append(self.terms["path_norm"] / 2 * path_norms(generator, player, {**before, **after}))
        return torch.stack([next(iter(start.values())).new_zeros(()), *terms]).sum()


def deviation(start: torch.Tensor) -> torch.Tensor:
    """The bottleneck's sigma of a tensor of weights: a tenth of its RMS at the start, at least 0.001; a constant."""
    return DEVIATION * start.detach().square().mean().sqrt().clamp(min=LEAST_RMS)


def path_norms(generator: Generator, player: str, weights: Weights) -> torch.Tensor:
    """The sum over a player's networks of the squared l2 path norm (Neyshabur 2015, arXiv:1506.02617, section 3).

    Of one network that is the sum over all paths, from an input or a bias to an output, of the product of the squared
    weights on it: the sum of its outputs where weights and biases are squared and inputs are 1. A network is the linear
    and convolutional layers in an `nn.Sequential`, one after the other; what stands between them (activations, norms,
    residual blocks) is passed as it is. Any other layer is a network by itself, and a new one begins where channels do
    not fit. Of a convolution all places of the kernel count, as they do away from the borders of a stride of 1.

    Args:
        generator: whose networks.
        player: whose networks alone count.
        weights: that player's, by name.
    """
    changed = with_weights(generator, weights)
    names = {module: name for name, module in changed.named_modules()}
    own = [n for n in _networks(changed) if changed.player_of(f"{names[n[0]]}.weight") == player]
    return torch.stack([next(changed.parameters()).new_zeros(()), *map(_path_norm, own)]).sum()


def _networks(module: nn.Module) -> Iterator[list[Layer]]:
    """The layers of every network."""
    chain: list[Layer] = []
    for child in _in_sequence(module):
        if not isinstance(child, Layer):
            yield from _networks(child)
            continue
        if chain and (child.weight.ndim, _ends(chain[-1])[1]) != (chain[-1].weight.ndim, _ends(child)[0]):
            yield chain
            chain = []
        chain.append(child)
        if not isinstance(module, nn.Sequential):
            yield chain
            chain = []
    if chain:
        yield chain


def _in_sequence(module: nn.Module) -> Iterator[nn.Module]:
    """The parts of a module; of sequences in it, theirs."""
    for child in module.children():
        if isinstance(child, nn.Sequential) and isinstance(module, nn.Sequential):
            yield from _in_sequence(child)
        else:
            yield child


def _ends(layer: Layer) -> tuple[int, int]:
    """Input and output channels."""
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    return layer.in_channels, layer.out_channels


def _path_norm(network: list[Layer]) -> torch.Tensor:
    """Squared, of one network."""
    paths = network[0].weight.new_ones(_ends(network[0])[0])
    for layer in network:
        groups = 1 if isinstance(layer, nn.Linear) else layer.groups
        squared = layer.weight.square().flatten(2).sum(-1) if layer.weight.ndim > 2 else layer.weight.square()
        squared = squared.unflatten(0, (groups, -1))
        squared = squared.mT if isinstance(layer, nn.ConvTranspose2d) else squared
        paths = (squared @ paths.view(groups, -1, 1)).flatten()
        paths = paths if layer.bias is None else paths + layer.bias.square()
    return paths.sum()


def _half_square(weights: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack([w.square().sum() for w in weights]).sum() / 2


# The penalties of one player's weights at the start and of those that moved.
PENALTIES: dict[str, Callable[[Weights, Weights], torch.Tensor]] = {
    "l2": lambda start, moved: _half_square(moved.values()),
    "l2_start": lambda start, moved: _half_square(w - start[n] for n, w in moved.items()),
    "bottleneck": lambda start, moved: _half_square((w - start[n]) / deviation(start[n]) for n, w in moved.items()),
}
NAMES = (*PENALTIES, "path_norm", "dropout")
