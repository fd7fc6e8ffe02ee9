"""The processes of one job: how they are started, which of them this is, and what is gathered from all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from metagen.core.quiet import quieten
from metagen.errors import MetagenError

T = TypeVar("T")
PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """The devices and machines of a job.

    Attributes:
        devices: how many devices of this machine, each with a process of its own.
        accelerator: "auto" (a GPU where there is one), "cpu", "gpu" or another that Lightning knows.
        num_nodes: how many machines, started by torchrun or SLURM.
    """

    devices: int = 1
    accelerator: str = "auto"
    num_nodes: int = 1

    @contextmanager
    def launched(self) -> Iterator[torch.device]:
        """Start the others, which run the same command again up to here; the device of this one.

        Raises:
            MetagenError: there are no such devices, or another number of processes was started.
        """
        from lightning_fabric import Fabric  # slow to import, and for few verbs
        from lightning_fabric.strategies.ddp import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException

        quieten()  # once more: Lightning sets levels itself when it is imported

        if self.devices < 1 or self.num_nodes < 1:
            raise MetagenError(
                f"trainer: expected 1 or more devices and nodes, got {self.devices} and {self.num_nodes}"
            )
        wanted, started = self.devices * self.num_nodes, int(os.environ.get("WORLD_SIZE", 0))
        if started and started != wanted:  # by torchrun
            raise MetagenError(
                f"trainer: {started} processes were started, but devices {self.devices} on {self.num_nodes} nodes are "
                f"{wanted}; say --trainer.devices and --trainer.num_nodes as they are"
            )
        # Shares are uneven, so some wait long for others; that these are alive is the launcher's business.
        strategy = DDPStrategy(timeout=PATIENCE) if wanted > 1 else "auto"
        try:
            fabric = Fabric(
                accelerator=self.accelerator, strategy=strategy, devices=self.devices, num_nodes=self.num_nodes
            )
        except (MisconfigurationException, ImportError, ValueError, RuntimeError) as error:
            raise MetagenError(f"trainer: {error}") from error
        fabric.launch()
        try:
            yield fabric.device
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def rank() -> int:
    """The number of this process; 0 of a job of one."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """The number of processes of the job."""
    return dist.get_world_size() if dist.is_initialized() else 1


def gathered(thing: T) -> list[T]:
    """The thing of every process, in their order: each has to ask at the same time."""
    things: list[Any] = [thing]
    if count() > 1:
        things *= count()
        dist.all_gather_object(things, thing)
    return things
