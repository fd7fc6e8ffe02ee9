"""The exact meta-gradient: back through the unrolled inner steps (MAML, Finn 2017, arXiv:1703.03400, eq. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import vjp

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.execution import over_tasks
from metagen.adaptation.meta_gradients.base import Losses, MetaGradient, MetaStep
from metagen.generators import Weights, with_weights

if TYPE_CHECKING:
    from metagen.learners import Learner


class Exact(MetaGradient):
    """One VJP of every player's objective, with respect to its own meta-parameters."""

    def __call__(self, learner: Learner, meta: Weights, batch: TaskBatch, execution: str = "vmap") -> MetaStep:
        """See `MetaGradient`."""
        if learner.reads_alone and "query_loss" in learner.generator.batched and execution == "vmap":
            return _of_shared_weights(learner, meta, batch)

        def one_task(meta: Weights, task: TaskBatch) -> tuple[Losses, Losses, Weights]:
            return with_weights(learner, meta).objectives(task)

        def means(meta: Weights) -> tuple[Losses, tuple[Losses, Weights]]:
            objectives, *rest = over_tasks(one_task, execution)(meta, batch)
            return {player: each.mean() for player, each in objectives.items()}, rest

        pulled_back: Any = vjp(means, meta, has_aux=True)
        objectives, pull_back, (losses, task_records) = pulled_back
        gradients: Weights = {}
        for player in objectives:
            chosen = {p: torch.ones_like(o) if p == player else torch.zeros_like(o) for p, o in objectives.items()}
            (pulled,) = pull_back(chosen)
            gradients |= {name: g for name, g in pulled.items() if learner.player_of(name) == player}
        return MetaStep(gradients, losses, {}, task_records)


def _of_shared_weights(learner: Learner, meta: Weights, batch: TaskBatch) -> MetaStep:
    """The same by plain autograd where no task has weights of its own: autocast and fused attention reach it."""
    with torch.enable_grad():
        leaves = {name: w.detach().requires_grad_() for name, w in meta.items()}
        objectives, losses, task_records = with_weights(learner, leaves).objectives(batch)
        (objective,) = objectives.values()
        found = torch.autograd.grad(objective.mean(), [*leaves.values()], materialize_grads=True)
    return MetaStep(dict(zip(leaves, found, strict=True)), {p: x.detach() for p, x in losses.items()}, {}, task_records)
