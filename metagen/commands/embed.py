"""`metagen embed`: a vector for each task."""

from __future__ import annotations

from collections.abc import Sequence

from metagen.embeddings import embedder
from metagen.embeddings.embedder import EmbeddingOptions
from metagen.storage.files import placed
from metagen.tasks.task_data import TaskData

USUAL = EmbeddingOptions()


def embed(
    model: str,
    out: str,
    data: TaskData,
    ways: Sequence[str] = ("gradient",),
    options: EmbeddingOptions = USUAL,
    overwrite: bool = False,
) -> None:
    """Embed held-out tasks: embeddings.safetensors, embeddings.json, embedding.png and a table of how well they lie.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        ways: one or more of gradient, fisher, adapted, filtering and generative; the first is drawn.
        options: of the embedding.
        overwrite: replace what stands at `out`.
    """
    embedder.embed(model, ways, placed(out), data, options, overwrite)
