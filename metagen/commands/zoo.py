"""`metagen zoo`: models of many train tasks, for a learner that writes weights."""

from __future__ import annotations

from metagen.distributed.processes import Processes
from metagen.learners.conditioned.meta_generator import RANK
from metagen.storage.files import placed
from metagen.tasks.task_data import TaskData
from metagen.training.model_zoo import Plan, make_zoo

ONE = Processes()


def zoo(
    model: str,
    out: str,
    data: TaskData,
    tasks: int | None = None,
    images: int | None = None,
    rank: int = RANK,
    layers: tuple[str, ...] | None = None,
    steps: int = 60,
    rate: float = 1e-3,
    seed: int = 0,
    chunk: int = 16,
    trainer: Processes = ONE,
    overwrite: bool = False,
) -> None:
    """Train a model of each of many train tasks, all from one start, and keep their low-rank differences from it.

    They are what MetaGenerator learns from: metagen fit --model.zoo. What is trained is kept in OUT.unfinished until
    the end: the same command goes on where it was stopped.

    Args:
        model: the start, an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        tasks: how many of the train tasks; all if not given.
        images: of each task; as many as each of them has if not given.
        rank: of the change of each weight.
        layers: whose weights change: globs over weight names, or names of the generator's parts; all, of a GAN all of
            its generator, if not given.
        steps: of Adam, each on all images.
        rate: of Adam.
        seed: of the noise, and of which tasks and images are taken.
        chunk: tasks at once.
        trainer: the processes that share the tasks.
        overwrite: replace what stands at `out`.
    """
    make_zoo(model, placed(out), data, Plan(tasks, images, rank, layers, steps, rate, seed), trainer, chunk, overwrite)
