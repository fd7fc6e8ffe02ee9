"""What a base generator is: networks, one loss a player, and noise that is always an input."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import nn

from metagen.errors import MetagenError, check_at_least, check_positive

M = TypeVar("M", bound=nn.Module)
Weights = dict[str, torch.Tensor]
Noise = dict[str, torch.Tensor]
PerPlayer = float | dict[str, float]  # an option: one number for all players, or each one's by name
NORMS = (nn.GroupNorm, nn.LayerNorm)
Context = Any  # what a generator makes of its support; None where it does not look at it


class Generator(nn.Module, ABC):
    """A network, or several, that make images; written for one task and lifted to many by `torch.func.vmap`.

    No module inside may keep state that a forward changes (no BatchNorm): it breaks vmap and second order.

    Attributes:
        players: the groups of parameters with one loss each; a VAE has one, a GAN two, visited in this order.
        uses_support: whether new images are made by looking at the support, so that it belongs to an adapted model.
        estimated: globs over the names of weights whose gradient is an estimate, passing what has none.
        batched: of one player, names of the methods that also take tasks that share all weights, as one more leading
            axis of every tensor: where nothing moves that is faster than `torch.func.vmap`, and gives the same.
        still: globs over the names of weights that no inner step ever moves.
        frozen: globs over the names of weights that nothing trains, neither inner steps nor meta-training.
        defining: names of the options that give weights their meaning, though no shape tells of them.
        sampling: names of the options that bear on samples alone, so that they may change after training.
        shared: names of draws that are the same for every visit of one inner step, or of one query.
        comparable: whether a low loss means good images; what a player of a game loses says how good the other one is.
        descends: whether its `project` seeks latents by descent, in many passes, for want of an encoder.
        betas: of Adam, where this generator is trained.
        consistency: how much its last player pays in an inner loop for changing which images are like which.
        size: height and width of the images in pixels.
        channels: 1 or 3.
    """

    players: ClassVar[tuple[str, ...]]
    uses_support: ClassVar[bool] = False
    estimated: ClassVar[tuple[str, ...]] = ()
    batched: ClassVar[tuple[str, ...]] = ()
    still: ClassVar[tuple[str, ...]] = ()
    frozen: ClassVar[tuple[str, ...]] = ()
    defining: ClassVar[tuple[str, ...]] = ()
    sampling: ClassVar[tuple[str, ...]] = ()
    shared: ClassVar[tuple[str, ...]] = ()
    comparable: ClassVar[bool] = True
    descends: ClassVar[bool] = False
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    consistency: float = 0.0
    size: int
    channels: int

    @property
    def likelihood_of_samples(self) -> bool:
        """Whether its likelihood is of what it samples; redraw's is of blurred drawings."""
        return False

    @property
    def grid(self) -> Mapping[str, tuple[float, ...]]:
        """Values to choose sampling options from after training, the plain one first; options in order of choosing."""
        return {}

    def player_of(self, name: str) -> str:
        """The player that a parameter belongs to: the only one, or the first part of the parameter's name."""
        return self.players[0] if len(self.players) == 1 else name.split(".")[0]

    def is_frozen(self, name: str) -> bool:
        """Whether nothing trains the weight of that name."""
        return any(fnmatchcase(name, glob) for glob in self.frozen)

    @property
    def player_updates(self) -> dict[str, int]:
        """How often each player is visited in one inner step."""
        return dict.fromkeys(self.players, 1)

    @property
    def parts(self) -> dict[str, tuple[str, ...]]:
        """Names for what may move in an inner loop, each for globs over names of weights.

        Every generator has "biases" and, where it has norms, "normalisation"; "head" (the last layer that makes the
        image) and "last_block" (all since the last change of scale) are its own.
        """
        norms = tuple(f"{name}.*" for name, module in self.named_modules() if isinstance(module, NORMS))
        return {"biases": ("*.bias",), **({"normalisation": norms} if norms else {})}

    def check_sampling(self) -> None:
        """Refuse values of the options named in `sampling`; a constructor calls it, too.

        Raises:
            MetagenError: one is out of range.
        """

    def anneal(self, progress: float) -> None:
        """Go to a point of meta-training, from 0 to 1, if anything is annealed."""

    def task_noise(self, rng: torch.Generator) -> Noise:
        """The random draws that are one for a whole task in meta-training; none by default."""
        return {}

    def for_task(self, weights: Weights, noise: Noise) -> Weights:
        """The weights that those draws change for one task; noise is empty where nothing is to be left to chance."""
        return {}

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> Context:
        """What each target image may know of the support [k, C, H, W]; mask [n, k] is True where it may look."""
        return None

    @abstractmethod
    def noise(self, n: int, rng: torch.Generator) -> Noise:
        """Every random draw that `loss` or `sample` of n images needs, each with leading axis n."""

    @abstractmethod
    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """The scalar that one player minimises on images [n, C, H, W] in [0, 1]."""

    @abstractmethod
    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """New images [n, C, H, W] in [0, 1]."""

    def support_loss(self, player: str, support: torch.Tensor, noise: Noise) -> torch.Tensor:
        """The loss on the support itself: each image sees the others, never itself."""
        return self.loss(player, support, noise, self.context(support, self._others_of(support)))

    def query_loss(self, player: str, query: torch.Tensor, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """The loss on images outside the support, each seeing all of it."""
        return self.loss(player, query, noise, self.context(support, self._all_of(support, len(query))))

    def diagnostics(self, images: torch.Tensor, noise: Noise, support: torch.Tensor) -> dict[str, torch.Tensor]:
        """What is worth logging of images [n, C, H, W] outside the support beside the criterion: scalars by name."""
        return {}

    def generate(self, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """New images [n, C, H, W] in [0, 1], each seeing all of the support."""
        n = len(next(iter(noise.values())))
        return self.sample(noise, self.context(support, self._all_of(support, n)))

    @staticmethod
    def _others_of(support: torch.Tensor) -> torch.Tensor:
        return ~torch.eye(len(support), dtype=torch.bool, device=support.device)

    @staticmethod
    def _all_of(support: torch.Tensor, n: int) -> torch.Tensor:
        return torch.ones(n, len(support), dtype=torch.bool, device=support.device)


def by_player(option: str, value: PerPlayer, generator: Generator, at_least: int | None = None) -> dict[str, float]:
    """An option that is one number for all players, or each one's by name.

    Args:
        option: what it is called.
        value: as it was given.
        generator: whose players.
        at_least: the least it may be; None for anything above 0.

    Raises:
        MetagenError: a player is missing or unknown, or a number is out of range.
    """
    each = value if isinstance(value, dict) else dict.fromkeys(generator.players, value)
    if set(each) != set(generator.players):
        raise MetagenError(
            f"{option}: expected one number, or one for each of the players {', '.join(generator.players)}, got {value}"
        )
    for player, number in each.items():
        name = f"{option}.{player}" if isinstance(value, dict) else option
        if at_least is None:
            check_positive(name, number)
        else:
            check_at_least(name, number, at_least)
    return {player: each[player] for player in generator.players}


def with_sampling(generator: Generator, settings: Mapping[str, float]) -> Generator:
    """The generator with other sampling options: a copy that shares all weights; the given one stays as it is.

    Raises:
        MetagenError: the generator has no such option, or a value is out of range.
    """
    for name, value in settings.items():
        if name not in generator.sampling:
            known = " and ".join(generator.sampling) or "none"
            raise MetagenError(f"{type(generator).__name__} has no sampling option {name}; it has {known}")
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise MetagenError(f"{name}: expected a finite number, got {value}")
    changed = with_weights(generator, {})
    for name, value in settings.items():
        setattr(changed, name, value)
    changed.check_sampling()
    return changed


def with_weights(module: M, weights: Weights) -> M:
    """The module with these weights in place of its own, by name; what has several names may be given by any of them.

    A copy of the modules alone, which shares all other tensors. The given one is not touched, not even for a moment as
    `torch.func.functional_call` does it, so that threads may use it at once.
    """
    own = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    given = {id(tensor): weights[name] for name, tensor in own if name in weights}
    return cast(M, _copied(module, given, {}))


def _copied(module: nn.Module, given: dict[int, torch.Tensor], copies: dict[nn.Module, nn.Module]) -> nn.Module:
    """A copy of a module, with tensors in place of those of an id; not a closure, whose cycle would keep them alive."""
    if module not in copies:
        copies[module] = twin = object.__new__(type(module))
        vars(twin).update(vars(module))
        for kind in ("_parameters", "_buffers"):
            tensors = vars(module)[kind]
            vars(twin)[kind] = {name: given.get(id(tensor), tensor) for name, tensor in tensors.items()}
        children = vars(module)["_modules"].items()
        vars(twin)["_modules"] = {
            name: None if child is None else _copied(child, given, copies) for name, child in children
        }
    return copies[module]
