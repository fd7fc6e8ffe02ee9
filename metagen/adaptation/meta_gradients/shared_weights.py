"""The exact meta-gradient where no task has weights of its own, since adapting is looking at the support."""

from __future__ import annotations

import torch

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.meta_gradients.base import MetaStep
from metagen.adaptation.protocol import Adaptable
from metagen.core.functional import Weights


def of_shared_weights(learner: Adaptable, meta: Weights, batch: TaskBatch) -> MetaStep:
    """The gradient of all tasks at once by plain autograd, which autocast and fused attention reach."""
    with torch.enable_grad():
        leaves = {name: w.detach().requires_grad_() for name, w in meta.items()}
        objectives, losses, task_records = learner.with_weights(leaves).objectives(batch)
        (objective,) = objectives.values()
        gradients = torch.autograd.grad(objective.mean(), [*leaves.values()], materialize_grads=True)
    losses = {player: loss.detach() for player, loss in losses.items()}
    return MetaStep(dict(zip(leaves, gradients, strict=True)), losses, {}, task_records)
