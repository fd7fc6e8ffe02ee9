"""The cost of adapting to a task: seconds, steps, memory, bytes; and how fast images are made afterwards."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metagen.core.philox import Draws
from metagen.evaluation.studies.base import StudyContext, figure
from metagen.learners import Adapted, adapt_tasks
from metagen.report.result import Cost

TIMES = 8  # adaptations, each to another task
IMAGES = 64
MIB = 2**20
METHODS = {
    "cuda": "torch.cuda.max_memory_allocated, less what was allocated before",
    "cpu": "tensor storages alive at once that adapting made, without the scratch memory of kernels",
}


def adaptation_cost(context: StudyContext) -> Cost:
    """The cost of adapting to one task at a time, and then of making 64 images; each after one unmeasured run.

    Measured on the first eight of the tasks, by one process while any others wait; `full` changes nothing.

    Returns:
        Figures over tasks: `seconds` (with their median) and `peak_mib` of adapting, `images_a_second`; and the number
        of steps, `adapted_bytes` (differences of weights, and the support where the generator looks at it), and how
        memory was measured.
    """
    tasks = list(context.tasks[:TIMES])
    costs = context.sharded.over("cost", [0], lambda _: _measured(context, tasks))
    seconds = costs["seconds"][0]
    return {
        "steps": context.learner.test_steps,
        "shots": context.episodes.shots,
        "seconds": {"median": float(seconds.median()), **figure(seconds)},
        "peak_mib": figure(costs["peak"][0].double() / MIB),
        "peak_method": METHODS["cuda" if _device(context).type == "cuda" else "cpu"],
        "images_a_second": figure(IMAGES / costs["sampling"][0]),
        "images_at_once": IMAGES,
        "adapted_bytes": int(costs["bytes"][0]),
    }


def _measured(context: StudyContext, tasks: list[int]) -> dict[str, torch.Tensor]:
    """Of each task: "seconds", "peak" in bytes and "sampling" in seconds, [1, n]; "bytes" [1]."""
    supports = context.episode(context.episodes, tasks).support
    noise = context.learner.generator.noise(IMAGES, Draws((context.seed, context.split, "cost")))
    stacked = {name: draws[None].to(supports) for name, draws in noise.items()}

    def adapted(place: int) -> Adapted:
        return adapt_tasks(context.learner, supports[place : place + 1], (context.seed, context.split), [tasks[place]])

    runs, device = [partial(adapted, place) for place in range(len(tasks))], _device(context)
    first = adapted(0)
    first.generate(stacked)
    return {
        "seconds": torch.tensor([[_seconds(run, device) for run in runs]]),
        "peak": torch.tensor([[peak_bytes(run, device) for run in runs]]),
        "sampling": torch.tensor([[_seconds(partial(first.generate, stacked), device) for _ in runs]]),
        "bytes": torch.tensor([_bytes(first)]),
    }


def _device(context: StudyContext) -> torch.device:
    return next(context.learner.parameters()).device


def _bytes(adapted: Adapted) -> int:
    kept = [*adapted.difference.values(), *([adapted.support] if adapted.generator.uses_support else [])]
    return sum(tensor.nbytes for tensor in kept)


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(function: Callable[[], object], device: torch.device) -> int:
    """The most memory that a function held at any time, above what was held before, in bytes; see `METHODS`."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        function()
    return live.peak


class LiveBytes(TorchDispatchMode):
    """Counts the storages of tensors that operations make while it is entered, until each is freed.

    Storages are followed by weak references, so those that a graph keeps count too; a view makes none. What the
    operations are given from before is not counted.

    Attributes:
        now: bytes alive.
        peak: the most there were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        for storage in _storages((args, kwargs)):
            self._follow(storage, 0)
        result = func(*args, **kwargs)
        for storage in _storages(result):
            self._follow(storage, storage.nbytes())
        return result

    def _follow(self, storage: torch.UntypedStorage, size: int) -> None:
        name = id(storage)
        if name in self._alive:
            return

        def freed(_: object) -> None:
            del self._alive[name]
            self.now -= size

        self._alive[name] = weakref.ref(storage, freed)
        self.now += size
        self.peak = max(self.peak, self.now)


def _storages(tree: Any) -> list[torch.UntypedStorage]:  # noqa: ANN401
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
