"""The hardware and the versions that a figure was measured with."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TypedDict

import torch

from metagen.distributed.processes import count


class Environment(TypedDict):
    """Names of the hardware, and versions of Python and torch."""

    hardware: str
    python: str
    torch: str


def environment(device: torch.device) -> Environment:
    """The hardware and the versions of work on a device."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux
    threads = torch.get_num_threads()
    hardware = f"{cpu}, {threads} thread{'s' * (threads > 1)}"
    if device.type == "cuda":
        hardware = f"{torch.cuda.get_device_name(device)}, {hardware}"
    if count() > 1:
        hardware += f", {count()} processes"
    return {"hardware": hardware, "python": platform.python_version(), "torch": torch.__version__}
