"""The exact meta-gradient: back through the unrolled inner steps (MAML, Finn 2017, arXiv:1703.03400, eq. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.func import vjp

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.execution import over_tasks
from metagen.adaptation.meta_gradients.base import Losses, MetaGradient
from metagen.generators import Weights, call

if TYPE_CHECKING:
    from metagen.learners import Learner


class Exact(MetaGradient):
    """One VJP of L_p(query; phi_N) for each player p, with respect to its own meta-parameters."""

    def __call__(
        self, learner: Learner, meta: Weights, batch: TaskBatch, execution: str = "vmap"
    ) -> tuple[Weights, Losses]:
        """See `MetaGradient`."""

        def one_task(meta: Weights, task: TaskBatch) -> Losses:
            return call(learner, meta, "query_losses", task)

        def mean_losses(meta: Weights) -> tuple[Losses, Losses]:
            losses = over_tasks(one_task, execution)(meta, batch)
            return {player: loss.mean() for player, loss in losses.items()}, losses

        pulled_back: Any = vjp(mean_losses, meta, has_aux=True)
        means, pull_back, losses = pulled_back
        gradients: Weights = {}
        for player in means:
            chosen = {p: torch.ones_like(mean) if p == player else torch.zeros_like(mean) for p, mean in means.items()}
            (pulled,) = pull_back(chosen)
            gradients |= {name: g for name, g in pulled.items() if learner.player_of(name) == player}
        return gradients, losses

    def trains(self, learner: Learner, name: str) -> bool:
        """Every meta-parameter."""
        return True
