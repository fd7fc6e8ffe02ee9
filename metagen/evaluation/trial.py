"""The held-out protocol on a batch of tasks: adapt, generate, take features; and images that need no model."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from metagen.core.recording import Recordings
from metagen.core.seeding import torch_rng
from metagen.core.warps import DRAWS, random_affine
from metagen.evaluation.contenders import Contender
from metagen.evaluation.criterion import ByLoss, Criterion
from metagen.evaluation.task_results import TaskResults
from metagen.generators import Generator
from metagen.learners import Adapted, Learner, adapt_after
from metagen.metrics import Extractor
from metagen.storage.images import to_uint8
from metagen.tasks.episodes import Episode, Episodes

AFFINE = {"affine x1": 1.0, "affine x1.5": 1.5}
MODEL_FREE = ("human", "copy", *AFFINE)
RECONSTRUCTION = "reconstruction"  # the human half through the model and back: as good as it can make images
EAGER_STEPS = 50  # of the curve, before its step is recorded
GREY = 0.5  # what diverged samples count as


@dataclass(frozen=True)
class Trial:
    """The measurements that every held-out task goes through.

    Attributes:
        episodes: of these tasks.
        split: "val" or "test".
        tasks: the numbers of all tasks of the evaluation.
        rows: the models.
        key: names the noise.
        curve: the numbers of inner steps at which the criterion is measured of the last row's model.
        criterion: of the curve.
        extractors: by name.
        half: how many images each row makes, and the human half and the reference hold.
        recordings: of the inner step of the curve.
    """

    episodes: Episodes
    split: str
    tasks: Sequence[int]
    rows: Mapping[str, Contender]
    key: tuple[int | str, ...]
    curve: Sequence[int]
    criterion: Criterion
    extractors: Mapping[str, Extractor]
    half: int
    recordings: Recordings = field(default_factory=partial(Recordings, EAGER_STEPS))

    def evaluate_batch(self, tasks: list[int]) -> TaskResults:
        """Adapt every row's model to these tasks, and measure it; diverged samples count as grey."""
        learner = self.rows["adapted"].learner
        episode = self.episodes.of(self.split, tasks).to_like(learner)
        others = self.episodes.of(self.split, [self._before(task) for task in tasks]).to_like(learner).support
        results = TaskResults(_checksums(episode))
        for name, images in real_rows(episode, self.half, self.key) if self.half else ():
            self._add_features(results, name, images, episode.support)
        for name, contender in self.rows.items():
            adapted = self._evaluate_row(results, name, contender, episode, others)
            if name == "adapted" and self.half and _has_encoder(learner.generator):
                images = adapted.each("reconstruct", {"images": episode.query[:, self.half : 2 * self.half]})
                self._add_samples(results, RECONSTRUCTION, images, episode.support)
        results.curve.update(self._curve(learner, episode))
        return results

    def _curve(self, learner: Learner, episode: Episode) -> dict[int, torch.Tensor]:
        """The criterion after each number of inner steps; it is measured once where no weight adapts."""
        at = {steps: steps if learner.adapted_names else 0 for steps in self.curve}
        numbers, after = episode.numbers, [*dict.fromkeys(at.values())]
        adapted = {}
        if after:
            adapted = adapt_after(learner, episode.support, self.key, numbers, after, recordings=self.recordings)
        values = {n: self.criterion(each, episode.query, self.key, numbers) for n, each in adapted.items()}
        return {steps: values[n].clone() for steps, n in at.items()}  # a file of tensors holds none twice

    def _evaluate_row(
        self, results: TaskResults, name: str, contender: Contender, episode: Episode, others: torch.Tensor
    ) -> Adapted:
        """Add the loss, the seconds and the samples of one row; the model as it is adapted."""
        started = time.perf_counter()
        adapted, tasks = contender.adapted(episode, others, self.key), episode.numbers
        if self.rows["adapted"].learner.generator.comparable:
            results.losses[name] = ByLoss()(adapted, episode.query, self.key, tasks)
            results.losses[name].cpu()  # waits for the device
        samples = self._sample(adapted, tasks) if self.half else None
        results.seconds[name] = torch.full((len(tasks),), (time.perf_counter() - started) / len(tasks))
        if samples is not None:
            self._add_samples(results, name, samples, episode.support)
        return adapted

    def _sample(self, adapted: Adapted, tasks: Sequence[int]) -> torch.Tensor:
        images = adapted.sample(self.half, (*self.key, "sample"), tasks)
        images.flatten()[:1].cpu()  # waits for the device
        return images

    def _add_samples(self, results: TaskResults, row: str, images: torch.Tensor, support: torch.Tensor) -> None:
        images, results.diverged[row] = grey_where_diverged(images)
        self._add_features(results, row, images, support)

    def _add_features(self, results: TaskResults, row: str, images: torch.Tensor, support: torch.Tensor) -> None:
        for name, extractor in self.extractors.items():
            results.features.setdefault(name, {})[row] = extractor.of_tasks(images, support, self.half)

    def _before(self, task: int) -> int:
        return self.tasks[self.tasks.index(task) - 1]


def real_rows(episode: Episode, half: int, key: Sequence[int | str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Images that need no model, each [T, n, C, H, W], by name: real ones, the support, random affine maps of it.

    Args:
        episode: the tasks, with at least 2 * half queries.
        half: how many images the reference, and each row, holds.
        key: names the draws of the maps.
    """
    support = episode.support
    yield "support", support
    yield "reference", episode.query[:, :half]
    yield "human", episode.query[:, half : 2 * half]
    copies = support[:, torch.arange(half) % support.shape[1]]
    yield "copy", copies
    draws = [torch.rand(half, DRAWS, generator=torch_rng(*key, n, "affine")) for n in episode.numbers]
    for name, strength in AFFINE.items():
        moved = random_affine(copies.flatten(0, 1), torch.cat(draws).to(support), strength)
        yield name, moved.unflatten(0, copies.shape[:2])


def grey_where_diverged(samples: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of tasks [T, n, C, H, W], grey where some of a task are not finite; and which tasks those are, [T]."""
    finite = samples.isfinite().flatten(1).all(1)
    return torch.where(finite[:, None, None, None, None], samples, GREY), ~finite


def _has_encoder(generator: Generator) -> bool:
    return hasattr(generator, "reconstruct") and not generator.descends


def _checksums(episode: Episode) -> torch.Tensor:
    """One number a task that tells its images from others, on every machine alike."""
    return torch.tensor([_checksum(*images) for images in zip(episode.support, episode.query, strict=True)])


def _checksum(*images: torch.Tensor) -> int:
    return zlib.crc32(torch.cat([to_uint8(each.cpu()).flatten() for each in images]).numpy().tobytes())
