"""The metrics of training loops give one value, on one process and on many that hold different numbers of images."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from metagen.metrics.extractors import Embedding
from metagen.metrics.torchmetric import FrechetDistance, InceptionScore, KernelDistance, Scored

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The ``compute`` method")]

METRICS = (FrechetDistance, KernelDistance, InceptionScore)
BATCHES = 4  # of real images, and as many of generated ones


def look():
    torch.manual_seed(0)
    extractor = Embedding(8, 1, (8, 8, 8), 4, 5).requires_grad_(False)
    extractor.head.weight.mul_(20)
    return extractor


def fed(metric, held):
    """The metric after the batches of these numbers; which images are in a batch does not depend on who holds it."""
    it = metric(look())
    for number in held:
        images = torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(number))
        it.update(images[0], real=True)
        it.update(images[1] ** 2, real=False)
    return it


def values(held, autocast):
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        return [fed(metric, held).compute() for metric in METRICS]


def one_of_many(rank, dealt, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(dealt))
    try:
        mine = dealt[rank]
        torch.save([*values(mine, False), *values(mine, True), *twice(mine)], folder / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def twice(held):
    """Asked on the way and at the end: what was gathered is not kept."""
    it = fed(FrechetDistance, held)
    first = it.compute()
    it.update(torch.rand(0, 1, 8, 8), real=True)
    return [first, it.compute()]


@pytest.mark.parametrize(
    "dealt",
    [[[0, 1], [2, 3]], [[0, 1, 2], [3]], [[], [0, 1, 2, 3]], [[0, 1, 2, 3], []], [[0, 2, 3], [], [1]]],
    ids=["even", "uneven", "first-empty", "last-empty", "three"],
)
def test_every_process_finds_what_one_would(tmp_path, dealt):
    alone = values(range(BATCHES), autocast=False)
    expected = [*alone, *alone, alone[0], alone[0]]
    spawn(one_of_many, (dealt, tmp_path), nprocs=len(dealt))
    for rank in range(len(dealt)):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert found[0] > 0.01


def only_one_side(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    it = fed(FrechetDistance, [])
    it.update(torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(rank)), real=rank == 0)
    torch.save(it.compute(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_one_process_may_hold_the_real_images_and_another_the_generated(tmp_path):
    spawn(only_one_side, (tmp_path,), nprocs=2)
    alone = fed(FrechetDistance, [])
    for seed in (0, 1):
        alone.update(torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(seed)), real=seed == 0)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, alone.compute(), rtol=1e-12, atol=1e-12)


def some_tasks(rank, dealt, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/tasks", rank=rank, world_size=len(dealt))
    torch.save([scored(name, dealt[rank]) for name in ("recognisability", "fd")], folder / f"{rank}.pt")
    dist.destroy_process_group()


def scored(name, numbers):
    it = Scored(name, look())
    for number in numbers:
        rng = torch.Generator().manual_seed(number)
        place = torch.rand(1, 1, 1, 8, 8, generator=rng)
        it.update(*((place + 0.3 * torch.rand(1, n, 1, 8, 8, generator=rng)).clamp(0, 1) for n in (4, 2, 5, 4)))
    return it.compute()


@pytest.mark.parametrize("dealt", [[[0, 1, 2], [3, 4]], [[], [0, 1, 2, 3, 4]], [[0, 3, 4], [], [1, 2]]])
def test_tasks_may_lie_with_any_process(tmp_path, dealt):
    expected = [scored(name, range(5)) for name in ("recognisability", "fd")]
    spawn(some_tasks, (dealt, tmp_path), nprocs=len(dealt))
    for rank in range(len(dealt)):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
