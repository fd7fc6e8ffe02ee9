"""`metagen train-extractor`: the network of a domain through whose features samples are measured."""

from __future__ import annotations

import time

import torch

from metagen.metrics.extractors.extractor_files import save_extractor
from metagen.report.next_steps import next_steps, task_words
from metagen.storage.files import check_free, placed
from metagen.tasks.task_data import TaskData
from metagen.training import extractor_training as training


def train_extractor(
    out: str,
    data: TaskData,
    steps: int = 3000,
    rate: float = 2e-3,
    widths: tuple[int, ...] = (32, 64, 128),
    dimensions: int = 128,
    seed: int = 0,
    turned: bool = False,
    overwrite: bool = False,
) -> None:
    """Train what `evaluate` looks through, on train tasks alone.

    Train two of a domain, with other widths and seeds: one to choose by, the other to report.

    Args:
        out: the folder to write to.
        data: options of the tasks (task_set, root, size, channels, invert, split_file, partition).
        steps: batches of 144 images.
        rate: the learning rate (AdamW).
        widths: channels of each convolution; three or more multiples of 8.
        dimensions: of the features.
        seed: of weights and batches.
        turned: take each task turned by quarters for three more: for characters, not for faces.
        overwrite: replace what stands at `out`.
    """
    check_free(placed(out), overwrite, data.inputs)  # what can go wrong goes wrong before minutes of training
    training.check_tasks(data.task_set)
    data.check_apart("val", "test")
    started = time.perf_counter()
    extractor = training.train_extractor(data.task_set, steps, rate, widths, dimensions, seed, turned)
    seconds = round(time.perf_counter() - started, 1)
    accuracy = {split: training.held_out_accuracy(extractor, data.task_set, split) for split in ("val", "test")}
    record = {
        "steps": steps,
        "rate": rate,
        "seed": seed,
        "turned": turned,
        "seconds": seconds,
        "torch": torch.__version__,
    }
    info = {"data": data.description, "training": record, "accuracy": accuracy}
    save_extractor(placed(out), extractor, info, data.task_set.split, overwrite, data.seen)
    for split, each in accuracy.items():
        print(f"{split}: {100 * each['mean']:.1f} % right, {each['ways']}-way 1-shot, {each['tasks']} tasks")
    print(f"wrote {out}")
    words = [*task_words(data, of_a_model=True), "--extractor", out, "--out", "evaluation/"]
    print(next_steps(["evaluate", "--model", "MODEL/", *words]))
