"""Warnings: those of libraries that a user cannot act on are silenced, and of several processes one warns."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGES = (
    "LightningCLI's args parameter",  # the verb takes its arguments from `main`, on purpose
    "The '.*dataloader' does not have many workers",  # episodes are gathered from memory: workers would cost time
    "Your `IterableDataset` has `__len__`",
    "Experiment logs directory .* exists",
    "The number of training batches .* is smaller than the logging interval",
    "You're resuming from a checkpoint that ended before the epoch ended",  # exactly, see training/episode_data.py
    "It is recommended to use .*sync_dist=True",  # torchmetrics has summed over the processes
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's, under torch 2.14
    "There is a performance drop because we have not yet implemented the batching rule",  # torch's, in vmap
)

_FILTERS = threading.RLock()


@contextmanager
def unwarned(*kinds: type[Warning]) -> Iterator[None]:
    """Ignore warnings of these kinds in the block; threads take turns, as what filters warnings is one list for all."""
    with _FILTERS, warnings.catch_warnings():
        for kind in kinds:
            warnings.simplefilter("ignore", kind)
        yield


def quieten() -> None:
    """Silence them, for the rest of the process; once more after Lightning is imported, which sets levels itself."""
    for message in MESSAGES:
        warnings.filterwarnings("ignore", message)
    for library in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(library).setLevel(logging.WARNING)
        logging.getLogger(f"{library}.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # that it looks for fonts, once a machine


def from_first_process(_: logging.LogRecord) -> bool:
    """Whether this process prints a warning: until the processes are joined all warn alike, so the first one does."""
    starters = ("RANK", "SLURM_PROCID", "LOCAL_RANK")  # by torchrun, SLURM and Lightning
    number = next((os.environ[name] for name in starters if name in os.environ), "0")
    distributed = sys.modules.get("torch.distributed")  # imported by whoever joins processes
    return number == "0" or (distributed is not None and distributed.is_initialized())
