"""Checkpoints that a run can be continued from exactly, written whole or not at all."""

from __future__ import annotations

import io
import logging
import math
import os
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from metagen.errors import MetagenError
from metagen.storage.files import placed, write_atomically

log = logging.getLogger(__name__)

NEEDED = ("state_dict", "pytorch-lightning_version")  # of what Lightning writes
LAST, BEFORE_LAST = "last.ckpt", "before-last.ckpt"


class WholeFiles(TorchCheckpointIO):
    """Writes beside, then moves: a run that is killed while it writes leaves the checkpoint before.

    The last but one is kept too, for a disk that loses a file.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:  # noqa: ANN401
        """See Lightning."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        place = Path(path)
        if place.name == LAST and place.is_file():
            _keep(place)
        write_atomically(place, buffer.getvalue())

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """See `read_checkpoint`."""
        return read_checkpoint(Path(path))


def _keep(last: Path) -> None:
    """Give the file its second name, so that there is always one called last."""
    second = last.with_name(".before-last.tmp")
    try:
        second.unlink(missing_ok=True)
        try:
            os.link(last, second)
        except OSError:  # some disks have no links
            shutil.copyfile(last, second)
        os.replace(second, last.with_name(BEFORE_LAST))
    except OSError as error:
        raise MetagenError(f"{last.parent}: cannot write there ({error.strerror})") from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read plain tensors and numbers alone, never code.

    Raises:
        MetagenError: the file is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as packed:  # torch does not look at the checksums that it writes
            damaged = packed.testzip()
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged files torch raises nearly anything
        raise MetagenError(f"{path}: cannot read this checkpoint ({type(error).__name__}); name another") from error
    if damaged or not isinstance(checkpoint, dict):
        raise MetagenError(f"{path}: this checkpoint is damaged ({damaged or 'no dictionary'}); name another")
    if missing := [key for key in NEEDED if key not in checkpoint]:
        raise MetagenError(f"{path}: no checkpoint of a run (without {missing[0]}); name one in its checkpoints folder")
    return checkpoint


def find_checkpoint(name: str, folder: Path) -> Path:
    """The file that "last" or "best" means in a folder, or a path; a damaged last gives way to the one before.

    Raises:
        MetagenError: there is none, or none that can be read.
    """
    if name != "last":
        path = folder / f"{name}.ckpt" if name == "best" else placed(name)
        if not path.is_file():
            raise _no_checkpoint(path)
        return path
    last, before = folder / LAST, folder / BEFORE_LAST
    if not before.is_file():
        if not last.is_file():
            raise _no_checkpoint(last)
        return last
    try:
        read_checkpoint(last)
    except MetagenError as error:
        log.warning("%s: going on from %s", error, before)
        return before
    return last


def _no_checkpoint(path: Path) -> MetagenError:
    return MetagenError(f"ckpt_path: no checkpoint at {path}; leave --ckpt_path out to begin anew")


class Checkpoints(Checkpoint):
    """`last.ckpt` after every validation and where a run is stopped, `best.ckpt` by the criterion on val tasks.

    The weights that training begins from are the best so far, where Lightning's sanity check goes over all val tasks
    (`num_sanity_val_steps=-1`), which it does not in a run that goes on from a checkpoint.

    Between two steps alone is a state whole, so a request to stop is heard there, and a validation amid the batches
    of a step is followed by `last.ckpt` after that step.

    Attributes:
        stop_requested: set it, and the run ends after the current step (and its validation, where one is due).
        stopped: whether the run has ended so.
        time_is_up: whether it has ended at its time limit.
        validated: whether trained weights were validated by this criterion, finite or not.
        best: the lowest value of the criterion so far, reached after `best_step` steps.
        by: the name of the criterion.
        criterion_hash: of what else the best depends on.
        record: what a run tells the one that goes on from it.
        seconds: how long the run has trained, interruptions not counted.

    Args:
        folder: of the checkpoints.
        time_limit: seconds after which this part of the run ends, at the end of a step; None for no limit.
    """

    def __init__(self, folder: Path, time_limit: float | None = None) -> None:
        self.folder, self.time_limit = folder, time_limit
        self.stop_requested = self.stopped = self.time_is_up = self.validated = False
        self.best, self.best_step, self.seconds = math.inf, 0, 0.0
        self.by: str | None = None
        self.criterion_hash: str | None = None
        self.record: dict[str, Any] = {}
        self._since: float | None = None
        self._seen = -1
        self._accumulating = self._due = False

    @property
    def has_best(self) -> bool:
        """Whether some weights are known to be the best: a finite validation, and one of trained weights."""
        return self.validated and not math.isinf(self.best)

    def path(self, name: str) -> Path:
        """Where "last" or "best" lies."""
        return self.folder / f"{name}.ckpt"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; what was best by another criterion, of other tasks or elsewhere says nothing now."""
        by, criterion_hash = str(pl_module.monitored), str(pl_module.criterion_hash)
        moved = not math.isinf(self.best) and not self.path("best").is_file()
        moved = trainer.strategy.broadcast(moved)  # a host of several may not see the file
        if moved or self.by not in (None, by) or self.criterion_hash not in (None, criterion_hash):
            if trainer.is_global_zero and not math.isinf(self.best):
                why = "the one of before lies elsewhere" if moved else "what it is judged by is changed"
                log.warning("the best model is chosen anew from step %d on: %s", trainer.global_step, why)
            self.best, self.validated = math.inf, False
        self.by, self.criterion_hash = by, criterion_hash
        self._since, self._seen = time.perf_counter(), trainer.global_step

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: ANN401
        """End here if a stop was requested: the state was saved after the step before."""
        if self.stopped:
            _interrupt(trainer)

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:  # noqa: ANN401
        """Save where the run is about to stop, and have its very end validated."""
        self._accumulating = trainer.global_step == self._seen
        if self._accumulating:
            return
        self._seen = trainer.global_step
        self.stopped = trainer.strategy.reduce_boolean_decision(self.stop_requested, all=False)
        is_end = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        self.time_is_up = not is_end and self._time_is_up(trainer)
        if self._due or self.stopped or self.time_is_up or trainer.global_step == trainer.max_steps:
            self._save_last(trainer)
        if is_end or (self.time_is_up and not self.has_best):
            trainer.should_stop = True  # Lightning then validates, also between two check intervals
        elif self.time_is_up:
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    def _time_is_up(self, trainer: pl.Trainer) -> bool:
        """Whether the time limit has passed on some process."""
        if self.time_limit is None or self._since is None:
            return False
        passed = time.perf_counter() - self._since >= self.time_limit
        return bool(trainer.strategy.reduce_boolean_decision(passed, all=False))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, and end here if a stop was requested."""
        is_start = trainer.sanity_checking
        if is_start and not math.isinf(trainer.num_sanity_val_steps):
            return  # of some val tasks alone
        self.by, self.criterion_hash = str(pl_module.monitored), str(pl_module.criterion_hash)
        self.validated = not is_start
        score = float(trainer.callback_metrics[self.by])
        if score < self.best:
            self.best, self.best_step = score, trainer.global_step
            self._save(trainer, "best")
        if is_start:
            return
        if self._accumulating:
            self._due = True
        else:
            self._save_last(trainer)
        if self.stopped:
            _interrupt(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best so far and the time spent."""
        seconds = self.seconds + (0.0 if self._since is None else time.perf_counter() - self._since)
        best = {"best": self.best, "best_step": self.best_step, "by": self.by, "judged_on": self.criterion_hash}
        return {**best, "validated": self.validated, "seconds": seconds, "record": self.record}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See `state_dict`."""
        self.best, self.best_step, self.seconds = (state_dict[key] for key in ("best", "best_step", "seconds"))
        self.by = state_dict.get("by")  # runs of before it was kept went by the query loss, and so do they now
        self.criterion_hash = state_dict.get("judged_on")
        self.validated = state_dict.get("validated", not math.isinf(self.best))  # before, the start was not validated

    def _save_last(self, trainer: pl.Trainer) -> None:
        self._save(trainer, "last")
        self._due = False

    def _save(self, trainer: pl.Trainer, name: str) -> None:
        if not getattr(trainer, "fast_dev_run", False):
            trainer.save_checkpoint(self.path(name))


def _interrupt(trainer: pl.Trainer) -> NoReturn:
    """End the run on this process, as all others do at the same step.

    Lightning would kill the processes that it has launched, and its observer of them, which holds the same list, this
    one within 5 seconds of that, amid the export.
    """
    launched: list[Any] = getattr(trainer.strategy.launcher, "procs", [])
    launched.clear()
    raise KeyboardInterrupt


@contextmanager
def stops_on_interrupt(checkpoints: Checkpoints) -> Iterator[None]:
    """Ctrl-C asks the run to stop after its step; a second one ends it at once.

    Python tells the main thread alone of Ctrl-C, so that a run in another thread goes on without.

    Raises:
        KeyboardInterrupt: the run was stopped.
    """

    def ask(*_: Any) -> None:  # noqa: ANN401
        if checkpoints.stop_requested:
            raise KeyboardInterrupt
        checkpoints.stop_requested = True

    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, ask) if is_main else None
    try:
        yield
    except SystemExit as stop:  # what Lightning makes of an interrupt
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        if is_main:
            signal.signal(signal.SIGINT, before)
