"""The implicit meta-gradient: of the minimum of the inner problem, whatever path led there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar, NamedTuple

import torch
from torch.func import grad, vjp
from torch.utils._pytree import tree_map

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.inner_loop import adapt
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.core.functional import Execution, Weights, over_tasks
from metagen.errors import check_at_least, check_positive


class Solution(NamedTuple):
    """The result of conjugate gradient."""

    vector: Weights  # v, where A v = b was asked for
    residual: torch.Tensor  # |b - A v| / |b|
    negative: torch.Tensor  # 1 where it met negative curvature, else 0


class Implicit(MetaGradient):
    """By the implicit function theorem at phi_N (iMAML, Rajeswaran 2019, arXiv:1909.04630, eq. 6, algorithm 2).

    G(phi, meta) is the gradient of the learner's support loss, a proximal term lambda / 2 |phi - theta|^2 included;
    A = dG/dphi = H + lambda I and b = dL/dphi of the query. With A v = b the meta-gradient is
    dL/dmeta - <dG/dmeta, v>: lambda v for a weight that moves. It presumes that G is one fixed function, with the noise
    of step 0, and that phi_N is near its zero. The path is forgotten, so memory does not depend on N.

    Each player has its own A and b, those of its own weights, the other players held fixed.

    A v = b is solved by conjugate gradient, for each task until a direction p has p^T A p <= 0; the vector before it
    is kept, and where there is none v = b / lambda, as if there were no curvature (the first-order gradient).
    Diagnostics: "negative_curvature" (0 or 1) and "cg_residual" (relative); of several players the largest.

    Args:
        proximal: lambda, above 0.
        cg_steps: of conjugate gradient, 1 or more; one product with A each.

    Raises:
        MetagenError: an option is out of range.
    """

    second_order = False
    hooks: ClassVar[tuple[Hook, ...]] = ("outer_loss_terms",)  # that at phi_N alone

    def __init__(self, proximal: float, cg_steps: int = 5) -> None:
        check_positive("proximal", proximal)
        check_at_least("cg_steps", cg_steps, 1)
        self.proximal, self.cg_steps = proximal, cg_steps

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""

        def displaced(meta: Weights, task: TaskBatch) -> Weights:
            own = learner.with_weights(meta)
            adapted = adapt(own, task.support, task.support_noise, learner.steps, task.task_noise)
            return {name: adapted[name] for name in sorted(learner.adapted_names)}

        def solve(meta: Weights, moved: Weights, task: TaskBatch) -> dict[str, Solution]:
            movers = {learner.generator.player_of(name) for name in moved}
            return {player: self._solve(learner, meta, moved, task, player) for player in sorted(movers)}

        with torch.no_grad():
            moved: Weights = over_tasks(displaced, execution)(meta, batch)
            solved: dict[str, Solution] = over_tasks(solve, execution)(meta, moved, batch)
        gradients: Weights = {}
        losses: Losses = {}
        for player in learner.generator.players:

            def surrogate(own: Weights, player: str = player) -> tuple[torch.Tensor, Losses]:
                at = over_tasks(partial(_surrogate, learner, player), execution)
                each, losses = at({**meta, **own}, moved, solved, batch)
                return each.mean(), losses

            of_player, losses = grad(surrogate, has_aux=True)(_own(learner.player_of, meta, player))
            gradients |= of_player
        diagnostics = {
            "negative_curvature": torch.stack([each.negative for each in solved.values()]).amax(0),
            "cg_residual": torch.stack([each.residual for each in solved.values()]).amax(0),
        }
        return MetaStep(gradients, losses, diagnostics, {})

    def trains(self, learner: Adaptable, name: str) -> bool:
        """The generator's weights: how adaptation came to phi_N does not count."""
        return name.startswith("generator.")

    def _solve(self, learner: Adaptable, meta: Weights, moved: Weights, task: TaskBatch, player: str) -> Solution:
        def objective(own: Weights) -> torch.Tensor:
            return learner.with_weights(meta).outer_loss_terms(({**moved, **own}, {}), task, learner.steps)[0][player]

        def inner(own: Weights) -> Weights:
            return _inner_gradient(learner, meta, {**moved, **own}, task, player)

        own = _own(learner.generator.player_of, moved, player)
        _, product = vjp(inner, own)  # type: ignore[misc]  # A is symmetric
        return conjugate_gradient(lambda p: product(p)[0], grad(objective)(own), self.proximal, self.cg_steps)


def conjugate_gradient(product: Callable[[Weights], Weights], target: Weights, proximal: float, steps: int) -> Solution:
    """Solve (H + proximal I) v = target for one task (Hestenes & Stiefel 1952), without control flow on tensors.

    Args:
        product: with H + proximal I.
        target: b.
        proximal: b / proximal is v where the first direction already has negative curvature.
        steps: products to take at most; the last ones change nothing where it is done before.
    """
    vector, left, direction = tree_map(torch.zeros_like, target), target, target
    size = square = _dot(target, target)
    precision = torch.finfo(size.dtype).eps ** 2
    done = square <= 0
    negative = torch.zeros_like(done)
    for index in range(steps):
        along = product(direction)
        curvature = _dot(direction, along)
        negative = negative | (~done & (curvature <= 0))
        done = done | negative
        far = torch.where(done, 0.0 if index else 1 / proximal, square / torch.where(done, 1.0, curvature))
        vector, left = _plus(vector, far, direction), _plus(left, -far, along)
        before, square = square, _dot(left, left)
        done = done | (square <= precision * size)
        direction = _plus(left, square / torch.where(before > 0, before, 1.0), direction)
    residual = (square / torch.where(size > 0, size, 1.0)).sqrt()
    return Solution(vector, residual, negative.to(size))


def _inner_gradient(learner: Adaptable, meta: Weights, moved: Weights, task: TaskBatch, player: str) -> Weights:
    """G: of what a player minimises on the support, at phi and the meta-parameters that it began from."""
    start = learner.with_weights(meta).start(task.task_noise)
    noise = {name: draws[0] for name, draws in learner.step_noise(task.support_noise, 0)[player].items()}

    def loss(own: Weights) -> torch.Tensor:
        return learner.with_weights(meta).support_loss({**start, **moved, **own}, start, player, task.support, noise)

    gradient: Weights = grad(loss)(_own(learner.generator.player_of, moved, player))
    return gradient


def _surrogate(
    learner: Adaptable, player: str, meta: Weights, moved: Weights, solved: dict[str, Solution], task: TaskBatch
) -> tuple[torch.Tensor, Losses]:
    """L - <G, v> of one task and player: its gradient by the meta-parameters is the implicit one."""
    objectives, losses = learner.with_weights(meta).outer_loss_terms((moved, {}), task, learner.steps)
    if player not in solved:
        return objectives[player], losses
    inner = _inner_gradient(learner, meta, moved, task, player)
    return objectives[player] - _dot(inner, solved[player].vector), losses


def _own(player_of: Callable[[str], str], weights: Weights, player: str) -> Weights:
    return {name: w for name, w in weights.items() if player_of(name) == player}


def _dot(first: Weights, second: Weights) -> torch.Tensor:
    return torch.stack([(x * second[name]).sum() for name, x in first.items()]).sum()


def _plus(first: Weights, by: torch.Tensor, second: Weights) -> Weights:
    return {name: x + by * second[name] for name, x in first.items()}
