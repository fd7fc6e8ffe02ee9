"""The displacement: where adaptation went (Reptile, Nichol 2018, arXiv:1803.02999, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.execution import over_tasks
from metagen.adaptation.meta_gradients.base import Losses, MetaGradient, MetaStep
from metagen.generators import Weights, with_weights

if TYPE_CHECKING:
    from metagen.learners import Learner


class Displacement(MetaGradient):
    """theta - phi_N, for the weights that move."""

    second_order = False

    def __call__(self, learner: Learner, meta: Weights, batch: TaskBatch, execution: str = "vmap") -> MetaStep:
        """See `MetaGradient`."""

        def one_task(meta: Weights, task: TaskBatch) -> tuple[Weights, Losses]:
            adapted = with_weights(learner, meta).adapt(task.support, task.support_noise, None, task.task_noise)
            return {name: adapted[name] for name in sorted(learner.adapted_names)}, learner.query_losses(adapted, task)

        adapted, losses = over_tasks(one_task, execution)(meta, batch)
        gone = {f"generator.{name}": meta[f"generator.{name}"] - w.mean(0) for name, w in adapted.items()}
        return MetaStep(gone, losses, {}, {})

    def trains(self, learner: Learner, name: str) -> bool:
        """The weights that move."""
        return name.removeprefix("generator.") in learner.adapted_names
