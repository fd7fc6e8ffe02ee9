"""`metagen embed`: a few numbers for each task."""

from __future__ import annotations

from collections.abc import Sequence

from metagen.embeddings import embedder
from metagen.storage.files import placed
from metagen.tasks.task_data import TaskData


def embed(
    model: str,
    out: str,
    data: TaskData,
    ways: Sequence[str] = ("gradient",),
    dims: int = 16,
    params: list[str] | None = None,
    steps: int | None = None,
    split: str = "test",
    limit: int | None = None,
    fitted_on: int | None = 300,
    extractor: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Embed held-out tasks: embeddings.safetensors, embeddings.json, embedding.png and a table of how well they lie.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        ways: one or more of gradient, fisher, adapted, filtering and generative; the first is drawn.
        dims: numbers a task, at most.
        params: the weights by which gradient and fisher are taken, globs or names of parts; by default those that move
            where the model adapts.
        steps: inner steps in which the model adapts, in place of its own number.
        split: "test" or "val".
        limit: take only this many held-out tasks, chosen once and for all; null for all.
        fitted_on: take only this many train tasks to fit the embeddings on; null for all.
        extractor: what the reference looks through: a folder, or the name of one bundled with metagen; by default
            the one of the task set; "none" to leave it out.
        seed: of the noise.
        overwrite: replace what stands at `out`.
    """
    wanted = embedder.Wanted(model, ways, dims, params, steps, split, limit, fitted_on, extractor, seed)
    embedder.embed(wanted, placed(out), data, overwrite)
