"""`metagen train-extractor`: a small embedding of one domain, from its train tasks alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset

from metagen.core.quiet import quieten
from metagen.core.seeding import numpy_rng, seeded, torch_rng
from metagen.core.warps import DRAWS, random_affine
from metagen.errors import MetagenError
from metagen.metrics import recognisability
from metagen.metrics.extractors import Embedding
from metagen.metrics.intervals import Interval, over_tasks_interval
from metagen.metrics.recognition import WAYS
from metagen.tasks import TaskSet
from metagen.tasks.splits import SPLITS
from metagen.training.callbacks import Progress

TASKS, IMAGES = 24, 6  # of a batch; each task's first image is its prototype
JITTER = 0.5  # strength of the random affine maps that training images go through
SMOOTHING = 0.1


class ExtractorTraining(pl.LightningModule):
    """Cross entropy over the train tasks, and the prototypical loss (Snell 2017, arXiv:1703.05175) on the features."""

    def __init__(self, extractor: Embedding, steps: int, rate: float) -> None:
        super().__init__()
        self.extractor, self.steps, self.rate = extractor, steps, rate

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], batch_index: int) -> torch.Tensor:
        """Images [T, n, C, H, W] of T train tasks and the tasks' numbers [T]."""
        images, tasks = batch
        features = self.extractor.features(images.flatten(0, 1))
        classified = F.cross_entropy(
            self.extractor.head(features), tasks.repeat_interleave(images.shape[1]), label_smoothing=SMOOTHING
        )
        loss = classified + prototypical_loss(features.unflatten(0, images.shape[:2]))
        self.log("loss", loss, prog_bar=True, batch_size=len(features))
        return loss

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """AdamW; the rate falls linearly to 0 over the second half."""
        optimiser = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min(1.0, 2 * (1 - step / self.steps)))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def prototypical_loss(features: torch.Tensor) -> torch.Tensor:
    """Which of T prototypes, each a task's first feature, the others of [T, n, d] belong to: cross entropy."""
    tasks, images, dimensions = features.shape
    distance = torch.cdist(features[:, 1:].flatten(0, 1), features[:, 0]).square() / dimensions**0.5
    return F.cross_entropy(-distance, torch.arange(tasks, device=features.device).repeat_interleave(images - 1))


class _Batches(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """Batch after batch of train tasks, each decided by the seed and its number alone.

    Task n + i of n, where they are turned, is task i turned by 90 degrees; 2n + i by 180, and so on.
    """

    def __init__(self, task_set: TaskSet, steps: int, seed: int, turns: int) -> None:
        self.images = [task_set.images(task) for task in task_set.split.train]
        self.steps, self.seed, self.turns = steps, seed, turns

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        count = len(self.images)
        tasks, each = min(TASKS, count), min(IMAGES, *map(len, self.images))
        for step in range(self.steps):
            rng = numpy_rng(self.seed, "extractor", step)
            chosen = rng.choice(self.turns * count, tasks, replace=False)
            images = torch.cat([self._some(rng, task % count, each).rot90(task // count, (-2, -1)) for task in chosen])
            draws = torch.rand(len(images), DRAWS, generator=torch_rng(self.seed, "extractor", step, "affine"))
            yield (
                random_affine(images.float() / 255, draws, JITTER).unflatten(0, (tasks, each)),
                torch.as_tensor(chosen),
            )

    def _some(self, rng: np.random.Generator, task: int, count: int) -> torch.Tensor:
        return self.images[task][rng.permutation(len(self.images[task]))[:count]]


def train_extractor(
    task_set: TaskSet,
    steps: int,
    rate: float,
    widths: tuple[int, ...],
    dimensions: int,
    seed: int,
    turned: bool = False,
) -> Embedding:
    """Train an embedding on the train tasks.

    Args:
        task_set: whose train tasks to learn; val and test tasks are looked at by `held_out_accuracy` alone.
        steps: batches.
        rate: the learning rate.
        widths: see `Embedding`.
        dimensions: see `Embedding`.
        seed: of weights and batches.
        turned: take each task turned by quarters for three more (Santoro 2016, arXiv:1605.06065).

    Raises:
        MetagenError: an option is out of range.
    """
    if steps < 1 or not rate > 0:
        raise MetagenError(f"train-extractor: expected steps >= 1 and rate > 0, got {steps} and {rate}")
    turns, classes = (4 if turned else 1), len(task_set.split.train)
    with seeded(seed):
        extractor = Embedding(task_set.size, task_set.channels, widths, dimensions, turns * classes)
    quieten()
    trainer = pl.Trainer(
        max_steps=steps,
        accelerator="auto",
        callbacks=[Progress()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    loader = DataLoader(_Batches(task_set, steps, seed, turns), batch_size=None, generator=torch.Generator())
    trainer.fit(ExtractorTraining(extractor, steps, rate), loader)
    extractor.keep_classes(classes)
    return extractor.cpu().requires_grad_(False).eval()


def check_tasks(task_set: TaskSet) -> None:
    """Refuse tasks that an extractor could not be trained on, or not be judged by, before any training.

    Raises:
        MetagenError: a split has fewer than two tasks, or one of them fewer than two images.
    """
    for split in SPLITS:
        names = task_set.split[split]
        if len(names) < 2 or min(len(task_set.images(name)) for name in names) < 2:
            raise MetagenError(f"train-extractor: expected 2 or more {split} tasks with 2 or more images each")


def held_out_accuracy(extractor: Embedding, task_set: TaskSet, split: str) -> dict[str, Any]:
    """How often real images of held-out tasks are recognised: one exemplar (each task's first image), up to 20 ways."""
    names = task_set.split[split]
    features = [extractor.of(task_set.images(task).float() / 255) for task in names]
    fewest = min(map(len, features))
    stacked = torch.stack([f[:fewest] for f in features])
    ways = min(WAYS, len(names))
    hits: Interval = over_tasks_interval(recognisability(stacked[:, 1:], stacked[:, 0], ways))
    return {"ways": ways, "shots": 1, "images": fewest - 1, **asdict(hits)}
