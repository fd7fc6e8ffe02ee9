"""A meta-gradient whose tensor operations are recorded once, and from then on run without Python's transforms."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from threading import Lock
from typing import Any

import torch
from torch.utils._pytree import tree_flatten

from metagen.adaptation.batch import TaskBatch
from metagen.adaptation.meta_gradients.base import MetaGradient, MetaStep
from metagen.adaptation.protocol import Adaptable
from metagen.core.functional import Execution, Weights
from metagen.core.threads import watched

_ONE_AT_A_TIME = Lock()
EAGER_CALLS = 100  # before a recording, which takes as long as 10 to 100 of them: so a short run does without


class Recorded(MetaGradient):
    """The same results to the last bit, of learners that are `pure`, with less time between operations.

    Args:
        meta_gradient: what is recorded, once for each shape of its arguments; of other learners it is what runs.
        after: how many calls of a shape are made before.
    """

    def __init__(self, meta_gradient: MetaGradient, after: int = EAGER_CALLS) -> None:
        self.meta_gradient, self.after = meta_gradient, after
        self._calls: Counter[object] = Counter()
        self._graphs: dict[object, Callable[[Weights, TaskBatch], MetaStep]] = {}

    def __reduce__(self) -> tuple[type[Recorded], tuple[MetaGradient, int]]:
        return Recorded, (self.meta_gradient, self.after)  # a copy has recorded nothing

    def __call__(self, learner: Adaptable, meta: Weights, batch: TaskBatch, execution: Execution = "vmap") -> MetaStep:
        """See `MetaGradient`."""
        hidden = watched() or torch.is_autocast_enabled(batch.support.device.type)
        if hidden or not learner.pure or execution == "loop":  # which has operations of its own for each task
            return self.meta_gradient(learner, meta, batch, execution)

        def run(meta: Weights, batch: TaskBatch) -> MetaStep:
            return self.meta_gradient(learner, meta, batch)

        leaves, structure = tree_flatten((meta, batch))
        key = (repr(structure), *((x.shape, x.dtype, x.device) for x in leaves))
        with _ONE_AT_A_TIME:
            self._calls[key] += 1
            if key not in self._graphs and self._calls[key] > self.after:
                self._graphs[key] = _recorded(run, meta, batch)
        return self._graphs.get(key, run)(meta, batch)

    def trains(self, learner: Adaptable, name: str) -> bool:
        """As the one that is recorded."""
        return self.meta_gradient.trains(learner, name)


def _recorded(run: Callable[..., Any], *args: Any) -> Callable[..., Any]:  # noqa: ANN401
    """The operations of a call, as a function; the function itself where it does something that cannot be recorded."""
    from torch.fx.experimental.proxy_tensor import make_fx  # takes a second to import

    try:
        graph = make_fx(run)(*args)
    except RuntimeError as error:
        warnings.warn(f"meta-steps run unrecorded, which is slower: {error}", stacklevel=2)
        return run
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
