"""The displacement: where adaptation went (Reptile, Nichol 2018, arXiv:1803.02999, section 3)."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.inner_loop import trajectory
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.core.factored import mean_over_tasks
from metagen.core.functional import Execution, Weights, over_tasks


class Displacement(MetaGradient):
    """theta - phi_N, for the weights that move."""

    second_order = False
    hooks: ClassVar[tuple[Hook, ...]] = ()

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""

        def one_task(meta: Weights, task: TaskBatch) -> tuple[Weights, Losses]:
            own = learner.with_weights(meta)
            path = trajectory(own, task.support, task.support_noise, learner.steps, task.task_noise, factored=True)
            ((adapted, _),) = deque(path, maxlen=1)
            return adapted, learner.query_losses({**own.start(task.task_noise), **adapted}, task)

        adapted, losses = over_tasks(one_task, execution)(meta, batch)
        displacement = {f"generator.{n}": meta[f"generator.{n}"] - mean_over_tasks(w) for n, w in adapted.items()}
        return MetaStep(displacement, losses, {}, {})

    def trains(self, learner: Adaptable, name: str) -> bool:
        """The weights that adapt."""
        return name.removeprefix("generator.") in learner.adapted_names
