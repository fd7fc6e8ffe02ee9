"""The displacement: where adaptation went (Reptile, Nichol 2018, arXiv:1803.02999, section 3)."""

from __future__ import annotations

from typing import ClassVar

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.inner_loop import adapt
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.protocol import Adaptable, Hook, Losses
from metagen.core.functional import Execution, Weights, over_tasks


class Displacement(MetaGradient):
    """theta - phi_N, for the weights that move."""

    second_order = False
    hooks: ClassVar[tuple[Hook, ...]] = ()

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""

        def one_task(meta: Weights, task: TaskBatch) -> tuple[Weights, Losses]:
            own = learner.with_weights(meta)
            adapted = adapt(own, task.support, task.support_noise, learner.steps, task.task_noise)
            return {name: adapted[name] for name in sorted(learner.adapted_names)}, learner.query_losses(adapted, task)

        adapted, losses = over_tasks(one_task, execution)(meta, batch)
        displacement = {f"generator.{name}": meta[f"generator.{name}"] - w.mean(0) for name, w in adapted.items()}
        return MetaStep(displacement, losses, {}, {})

    def trains(self, learner: Adaptable, name: str) -> bool:
        """The weights that adapt."""
        return name.removeprefix("generator.") in learner.adapted_names
