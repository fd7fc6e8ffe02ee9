"""The first-order meta-gradient: taken where adaptation ends (FOMAML, Finn 2017, arXiv:1703.03400, section 5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.func import grad_and_value

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.execution import over_tasks
from metagen.adaptation.meta_gradients.base import Losses, MetaGradient
from metagen.generators import Weights, call

if TYPE_CHECKING:
    import torch

    from metagen.learners import Learner


class FirstOrder(MetaGradient):
    """dL_p / d phi_p at phi_N, the other players held fixed, as if phi_N did not depend on theta."""

    def __call__(
        self, learner: Learner, meta: Weights, batch: TaskBatch, execution: str = "vmap"
    ) -> tuple[Weights, Losses]:
        """See `MetaGradient`."""

        def one_task(meta: Weights, task: TaskBatch) -> tuple[Weights, Losses]:
            adapted = call(learner, meta, "adapt", task.support, task.support_noise)
            gradients: Weights = {}
            losses: Losses = {}
            for player in learner.generator.players:
                own = {name: w for name, w in adapted.items() if learner.generator.player_of(name) == player}

                def loss(own: Weights, player: str = player) -> torch.Tensor:
                    return learner.query_loss({**adapted, **own}, player, task)

                g, losses[player] = grad_and_value(loss)(own)
                gradients |= {f"generator.{name}": x for name, x in g.items()}
            return gradients, losses

        gradients, losses = over_tasks(one_task, execution)(meta, batch)
        return {name: g.mean(0) for name, g in gradients.items()}, losses

    def trains(self, learner: Learner, name: str) -> bool:
        """The generator's weights; nothing that only shapes the way to phi_N."""
        return name.startswith("generator.")
