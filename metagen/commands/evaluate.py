"""`metagen evaluate`: a model measured on held-out tasks."""

from __future__ import annotations

from metagen.distributed.processes import Processes
from metagen.evaluation import evaluator
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.storage.files import placed
from metagen.tasks.task_data import TaskData

ONE, USUAL = Processes(), EvaluationOptions()


def evaluate(
    model: str,
    out: str,
    data: TaskData,
    options: EvaluationOptions = USUAL,
    trainer: Processes = ONE,
    overwrite: bool = False,
) -> None:
    """Measure a model on held-out tasks: result.json, values.safetensors, samples.png, curve.png and a table.

    What is measured is kept in OUT.unfinished until the end: the same command goes on where it was stopped.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        options: of the evaluation.
        trainer: the processes that share the tasks, batch by batch.
        overwrite: replace what stands at `out`.
    """
    evaluator.evaluate(model, placed(out), data, options, trainer, overwrite)
