"""Episodes for Lightning: the loaders of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader

from metagen.errors import MetagenError
from metagen.tasks.episodes import Episode
from metagen.tasks.seen import seen_by
from metagen.tasks.task_data import TaskData
from metagen.training.loading import EpisodeStream, NumberedEpisodes, ignore_interrupts


class EpisodeData(TaskData, pl.LightningDataModule):
    """The loaders of train and val episodes; the options are those of `TaskOptions`."""

    name: str  # of the task set; Lightning's may be None

    def prepare_data(self) -> None:
        """Make or read the images once, before the other processes look for them."""
        self.task_set.images(self.task_set.split.train[0])

    def setup(self, stage: str) -> None:
        """See `check`."""
        self.check(self._trainer.world_size)

    def state_dict(self) -> dict[str, Any]:
        """The tasks that a run which goes on from here has seen."""
        return {"seen": self.seen.tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a run, which has not seen what is held out here.

        Raises:
            MetagenError: it has.
        """
        self.go_on("the checkpoint", {}, seen_by(state.get("seen"), "the checkpoint"))

    @property
    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise MetagenError("this data module has no trainer yet; give it to Trainer.fit")
        return self.trainer

    def train_dataloader(self) -> DataLoader[Episode]:
        """Each epoch goes on from the loop's own batch counter, so that resuming is exact, mid-epoch too."""
        trainer = self._trainer
        episodes = self._episodes_on(trainer.strategy.root_device)
        rank, world = trainer.global_rank, trainer.world_size

        def epoch() -> Iterator[Episode]:
            progress = trainer.fit_loop.epoch_loop.batch_progress  # right from the first episode on, not before
            first, left = progress.total.completed, self.episodes_per_epoch - progress.current.completed
            numbers = NumberedEpisodes(episodes, self.tasks, rank, world, range(first, first + left))
            workers = self.workers if self.task_set.streamed else 0
            for episode in DataLoader(numbers, batch_size=None, num_workers=workers, worker_init_fn=ignore_interrupts):
                if isinstance(episode, MetagenError):
                    raise episode
                yield episode

        return DataLoader(EpisodeStream(epoch, self.episodes_per_epoch), batch_size=None)

    def val_dataloader(self) -> DataLoader[Episode]:
        """The fixed val episodes, each process its own tasks: at each of `val_shots`, with the same queries."""
        trainer = self._trainer
        episodes = self._episodes_on(trainer.strategy.root_device)
        rank, world = trainer.global_rank, trainer.world_size
        known = min(self.val_tasks, len(self.task_set.split.val))
        batches = math.ceil(len(range(rank, known, world)) / self.tasks)

        def each() -> Iterator[Episode]:
            for episode in episodes.held_out("val", self.tasks, self.val_tasks, rank, world):
                yield from (episode._replace(support=episode.support[:, :shots]) for shots in self.val_shots)

        return DataLoader(EpisodeStream(each, batches * len(self.val_shots)), batch_size=None)
