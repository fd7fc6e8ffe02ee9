"""A meta-gradient whose tensor operations are recorded once, and from then on run without Python's transforms."""

from __future__ import annotations

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.protocol import Adaptable
from metagen.core.functional import Execution, Weights
from metagen.core.recording import Recordings

EAGER_CALLS = 100  # before a recording, which takes as long as 10 to 100 of them: so a short run does without


class Recorded(MetaGradient):
    """The same results to the last bit, of learners that are `pure`, with less time between operations.

    Args:
        meta_gradient: what is recorded, once for each shape of its arguments; of other learners it is what runs.
        after: how many calls of a shape are made before.
    """

    def __init__(self, meta_gradient: MetaGradient, after: int = EAGER_CALLS) -> None:
        self.meta_gradient, self.recordings = meta_gradient, Recordings(after)

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""
        if not learner.pure or execution == "loop":  # which has operations of its own for each task
            return self.meta_gradient(learner, meta, batch, execution)

        def run(meta: Weights, batch: TaskBatch) -> MetaStep:
            return self.meta_gradient(learner, meta, batch)

        return self.recordings.call(run, meta, batch)

    def trains(self, learner: Adaptable, name: str) -> bool:
        """As the one that is recorded."""
        return self.meta_gradient.trains(learner, name)
