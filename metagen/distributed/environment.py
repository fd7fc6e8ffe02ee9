"""What a figure was measured on: hardware and versions."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from metagen.distributed.processes import count
from metagen.learners import Learner


def environment(learner: Learner) -> dict[str, str]:
    """What a figure was measured on."""
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    except OSError:
        pass  # not Linux
    device = next(learner.parameters()).device
    hardware = f"{cpu}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        hardware = f"{torch.cuda.get_device_name(device)}, {hardware}"
    if count() > 1:
        hardware += f", {count()} processes"
    return {"hardware": hardware, "python": platform.python_version(), "torch": torch.__version__}
