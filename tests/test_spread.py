"""Work on tasks: in order, kept, gone on with, and never done twice."""

from __future__ import annotations

import pytest
import torch

from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError

BATCH = 16
TASKS = [3, 5, *range(20, 60)]


class Work:
    """Squares each number; stops at a batch that holds a given one."""

    def __init__(self, stops_at: int = -1) -> None:
        self.stops_at = stops_at
        self.done: list[int] = []

    def __call__(self, tasks):
        if self.stops_at in tasks:
            raise KeyboardInterrupt
        self.done += tasks
        numbers = torch.tensor(tasks, dtype=torch.float32)
        return {"square": numbers**2, "row": numbers[:, None].expand(-1, 3)}


def right(found):
    numbers = torch.tensor(TASKS, dtype=torch.float32)
    return torch.equal(found["square"], numbers**2) and torch.equal(found["row"], numbers[:, None].expand(-1, 3))


def test_all_tasks_are_done_once_and_come_in_order():
    work = Work()
    assert right(ShardedTasks(batch=BATCH).over("stage", TASKS, work))
    assert work.done == TASKS


def stopped(folder):
    with pytest.raises(KeyboardInterrupt):
        ShardedTasks(folder, {"seed": 0}, BATCH).over("stage", TASKS, Work(stops_at=TASKS[-1]))


def test_what_was_done_before_is_not_done_again(tmp_path):
    folder = tmp_path / "unfinished"
    stopped(folder)
    spread, work = ShardedTasks(folder, {"seed": 0}, BATCH), Work()
    assert spread.batches_found == 2
    assert right(spread.over("stage", TASKS, work))
    assert work.done == TASKS[2 * BATCH :]
    assert right(spread.over("another stage", TASKS, work))
    assert work.done[-len(TASKS) :] == TASKS


def test_batches_may_be_others_for_one_stage():
    sizes = []

    def work(tasks):
        sizes.append(len(tasks))
        return Work()(tasks)

    assert right(ShardedTasks(batch=BATCH).over("stage", TASKS, work, batch=5))
    assert sizes == [5] * 8 + [2]


def test_a_damaged_batch_is_done_again(tmp_path, caplog):
    stopped(tmp_path / "unfinished")
    first = min((tmp_path / "unfinished").glob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:100])
    work = Work()
    assert right(ShardedTasks(tmp_path / "unfinished", {"seed": 0}, BATCH).over("stage", TASKS, work))
    assert work.done == TASKS[:BATCH] + TASKS[2 * BATCH :]
    assert str(first) in caplog.text


def test_other_work_is_not_gone_on_with_nor_lost_unasked(tmp_path):
    folder = tmp_path / "unfinished"
    stopped(folder)
    with pytest.raises(MetagenError, match="unfinished: expected unfinished work with these options"):
        ShardedTasks(folder, {"seed": 1}, BATCH)
    assert ShardedTasks(folder, {"seed": 0}, BATCH).batches_found == 2
    other, work = ShardedTasks(folder, {"seed": 1}, BATCH, overwrite=True), Work()
    assert other.batches_found == 0
    assert right(other.over("stage", TASKS, work))
    assert work.done == TASKS
    assert ShardedTasks(folder, {"seed": 1}, BATCH).batches_found == 3


def test_a_folder_that_holds_no_work_is_never_replaced(tmp_path):
    (tmp_path / "photographs").mkdir()
    with pytest.raises(MetagenError, match="photographs: expected unfinished work"):
        ShardedTasks(tmp_path / "photographs", {"seed": 0}, overwrite=True)


def test_nothing_is_written_before_something_is_found(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        ShardedTasks(tmp_path / "unfinished", {}, BATCH).over("stage", TASKS, Work(stops_at=TASKS[0]))
    assert not (tmp_path / "unfinished").exists()
