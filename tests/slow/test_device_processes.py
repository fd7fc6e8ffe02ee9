"""Two processes that meet by gloo and share one device, CPU or GPU (`--device cuda`), against one process there."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from metagen.metrics.extractors import Embedding
from metagen.metrics.torchmetric import DensityCoverage, FrechetDistance, InceptionScore, KernelDistance, Scored
from tests.test_training import assert_same_run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``compute`` method")]

METRICS = (FrechetDistance, KernelDistance, InceptionScore, DensityCoverage)
GLOO = ("--trainer.strategy", "DDPStrategy", "--trainer.strategy.process_group_backend", "gloo")


def figures(numbers, device):
    """Every metric after the batches of these numbers; which images are in a batch does not depend on who holds it."""
    torch.manual_seed(0)
    look = Embedding(8, 1, (8, 8, 8), 4, 5).requires_grad_(False)
    look.head.weight.mul_(20)
    found = []
    for metric in [*(each(look) for each in METRICS), Scored("recognisability", look)]:
        metric.to(device)
        for number in numbers:
            rng = torch.Generator().manual_seed(number)
            if isinstance(metric, Scored):
                metric.update(*(torch.rand(1, n, 1, 8, 8, generator=rng).to(device) for n in (4, 2, 5, 4)))
            else:
                metric.update(torch.rand(5, 1, 8, 8, generator=rng).to(device), real=True)
                metric.update((torch.rand(5, 1, 8, 8, generator=rng) ** 2).to(device), real=False)
        found += [value.cpu() for value in torch.utils._pytree.tree_leaves(metric.compute())]
    return found


def one_of_two(rank, dealt, device, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(figures(dealt[rank], device), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "dealt", [[[0, 1], [2, 3]], [[1, 2, 3], [0]], [[], [0, 1, 2, 3]]], ids=["even", "uneven", "empty"]
)
def test_metrics_of_two_processes_are_those_of_one(tmp_path, device, dealt):
    alone = figures(range(4), device)
    spawn(one_of_two, (dealt, device, tmp_path), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-9)


def test_a_fit_of_two_processes_is_that_of_one(command, tmp_path, accelerator):
    """As two nodes of one device each, which here is the same one: NCCL would refuse to share it."""
    options = ("--trainer.precision", "64-true", "--trainer.accelerator", accelerator)
    subprocess.run(command(tmp_path / "one", *options), check=True, env=os.environ)
    line = command(tmp_path / "two", *options, *GLOO, "--trainer.num_nodes", "2", "--trainer.devices", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meet = ["--nnodes", "2", "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port)]
    words = [line[0], "-m", "torch.distributed.run", *meet]
    both = [subprocess.Popen([*words, "--node_rank", str(rank), *line[1:]], env=os.environ) for rank in range(2)]
    assert [each.wait(240) for each in both] == [0, 0]
    assert_same_run(tmp_path / "one", tmp_path / "two", atol=1e-9)
