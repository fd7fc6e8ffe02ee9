"""The exact meta-gradient: back through the unrolled inner steps (MAML, Finn 2017, arXiv:1703.03400, eq. 1)."""

from __future__ import annotations

from typing import Any

import torch
from torch.func import vjp

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.meta_gradients.shared_weights import of_shared_weights
from metagen.adaptation.protocol import Adaptable, Losses
from metagen.core.functional import Execution, Weights, over_tasks


class Exact(MetaGradient):
    """One VJP of every player's objective, with respect to its own meta-parameters."""

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""
        if learner.context_only and "query_loss" in learner.generator.batched and execution == "vmap":
            return of_shared_weights(learner, meta, batch)

        def one_task(meta: Weights, task: TaskBatch) -> tuple[Losses, Losses, Weights]:
            return learner.with_weights(meta).objectives(task)

        def means(meta: Weights) -> tuple[Losses, tuple[Losses, Weights]]:
            objectives, losses, task_records = over_tasks(one_task, execution)(meta, batch)
            return {player: each.mean() for player, each in objectives.items()}, (losses, task_records)

        pulled_back: Any = vjp(means, meta, has_aux=True)
        objectives, pull_back, (losses, task_records) = pulled_back
        gradients: Weights = {}
        for player in objectives:
            chosen = {p: torch.ones_like(o) if p == player else torch.zeros_like(o) for p, o in objectives.items()}
            (pulled,) = pull_back(chosen)
            gradients |= {name: g for name, g in pulled.items() if learner.player_of(name) == player}
        return MetaStep(gradients, losses, {}, task_records)
