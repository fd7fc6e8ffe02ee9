"""`metagen tune`: sampling options chosen on val tasks."""

from __future__ import annotations

from metagen.distributed.processes import Processes
from metagen.evaluation import sampling_choice
from metagen.storage.files import placed
from metagen.tasks.task_data import TaskData


def tune(
    model: str,
    out: str,
    data: TaskData,
    shots: tuple[int, ...] = (1, 5),
    extractor: str | None = None,
    limit: int | None = 100,
    steps: int | None = None,
    seed: int = 0,
    accelerator: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write a copy of a model whose sampling options are chosen on val tasks, as at the end of fit.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write the copy to.
        data: options of the tasks; those that the model was trained on where not given.
        shots: numbers of support images at which samples are judged; the mean over them counts.
        extractor: what samples are looked at through: a folder, or the name of one bundled with metagen; by
            default the one of the task set to choose by ("glyphs-select", "omniglot-select").
        limit: take only this many val tasks, chosen once and for all; null for all.
        steps: choose the options of samples after so many inner steps, which a token VAE keeps beside the others; null
            for those of the model as it adapts by itself.
        seed: of the noise.
        accelerator: "auto" (a GPU where there is one), "cpu", "gpu" or another that Lightning knows.
        overwrite: replace what stands at `out`.
    """
    processes = Processes(accelerator=accelerator)
    sampling_choice.tune(model, placed(out), data, shots, extractor, limit, seed, steps, processes, overwrite)
