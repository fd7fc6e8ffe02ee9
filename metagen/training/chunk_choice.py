"""How many tasks' graphs fit into memory at once, measured on the first of them."""

from __future__ import annotations

from functools import partial

from metagen.adaptation import MetaGradient, TaskBatch
from metagen.core.functional import Weights
from metagen.errors import MetagenError
from metagen.evaluation.studies.cost import MIB, peak_bytes
from metagen.learners import Learner


def chunk_within(budget: int, meta_gradient: MetaGradient, learner: Learner, meta: Weights, batch: TaskBatch) -> int:
    """The most tasks at once, at least 1, whose meta-gradient holds no more than the budget.

    What one and two tasks hold (`peak_bytes`) says what each further one adds.

    Args:
        budget: in MiB, above what is held before.
        meta_gradient: that of the learner.
        learner: that is trained.
        meta: the meta-parameters.
        batch: of an episode, of one task or more.

    Raises:
        MetagenError: one task alone holds more.
    """
    tasks, device = len(batch.support), batch.support.device
    few = [next(iter(batch.chunks(n))) for n in (1, min(2, tasks))]
    one, two = (peak_bytes(partial(meta_gradient, learner, meta, own), device) / MIB for own in few)
    if one > budget:
        raise MetagenError(
            f"memory: the graph of one task holds {one:.0f} MiB, more than {budget}; "
            "raise it, take fewer inner steps, or use a learner of the first order, such as fomaml, or adjoint"
        )
    return max(1, min(tasks, 1 + int((budget - one) / max(two - one, 1e-6))))
