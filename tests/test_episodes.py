"""Episodes: decided by seeds alone, whoever asks for them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from metagen.errors import MetagenError
from metagen.tasks import TaskSet, task_sets
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import Split
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs


class StreamedBlobs(Blobs):
    """Blobs that are read anew each time."""

    streamed = True

    def images(self, task, which=None):
        images = super().images(task)
        return images if which is None else images[list(which)]


class Levels(TaskSet):
    """One train task whose images are flat, each of another of all 256 levels."""

    split = Split(("levels",), (), ())

    def images(self, task, which=None):
        return torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, self.size, self.size)


@pytest.fixture
def episodes():
    return Episodes(Blobs(tasks=20, images=6), shots=2, queries=3, seed=1)


def assert_same(one, other):
    assert one[:3] == other[:3]
    assert torch.equal(one.support, other.support)
    assert torch.equal(one.query, other.query)


def joined(parts):
    whole = parts[0]
    return whole._replace(
        tasks=sum((p.tasks for p in parts), ()),
        numbers=sum((p.numbers for p in parts), ()),
        support=torch.cat([p.support for p in parts]),
        query=torch.cat([p.query for p in parts]),
    )


def test_a_turned_train_task_is_a_task_of_its_own(episodes):
    turned = Episodes(episodes.task_set, 2, 3, seed=1, turns=True)
    count = len(episodes.task_set.split.train)
    episode = turned.train(0, 4 * count)
    assert len(set(episode.tasks)) == 4 * count
    for name, support, query in zip(episode.tasks, episode.support, episode.query, strict=True):
        plain, _, degrees = name.partition(" turned ")
        images = episodes.task_set.images(plain).rot90(int(degrees or 0) // 90, (-2, -1))
        assert {image.numpy().tobytes() for image in (torch.cat([support, query]) * 255).round().byte()} <= {
            image.numpy().tobytes() for image in images
        }
    with pytest.raises(MetagenError, match=f"there are {4 * count}"):
        turned.train(0, 4 * count + 1)


def test_held_out_tasks_are_never_turned(episodes):
    turned = Episodes(episodes.task_set, 2, 3, seed=1, turns=True)
    assert_same(turned.of("val", [0, 1]), episodes.of("val", [0, 1]))


def test_shapes_and_range(episodes):
    episode = episodes.train(0, 4)
    assert episode.support.shape == (4, 2, 1, 28, 28)
    assert episode.query.shape == (4, 3, 1, 28, 28)
    assert episode.support.min() >= 0
    assert 0.5 < episode.support.max() <= 1


def test_an_episode_has_different_train_tasks_and_a_query_apart_from_the_support(episodes):
    for index in range(20):
        episode = episodes.train(index, 4)
        assert len(set(episode.tasks)) == 4
        assert set(episode.tasks) <= set(episodes.task_set.split.train)
        for support, query in zip(episode.support, episode.query, strict=True):
            assert not (support[:, None] == query[None]).flatten(2).all(-1).any()


def test_every_train_task_comes_up(episodes):
    seen = {task for index in range(40) for task in episodes.train(index, 4).tasks}
    assert seen == set(episodes.task_set.split.train)


def test_an_episode_depends_on_index_and_seed_alone(episodes):
    assert_same(episodes.train(3, 4), Episodes(episodes.task_set, 2, 3, seed=1).train(3, 4))
    assert not torch.equal(episodes.train(3, 4).support, episodes.train(4, 4).support)
    assert not torch.equal(episodes.train(3, 4).support, Episodes(episodes.task_set, 2, 3, seed=2).train(3, 4).support)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_an_episode_without_changing_it(episodes, world):
    parts = [episodes.train(3, 4, rank, world) for rank in range(world)]
    assert_same(joined(parts), episodes.train(3, 4))


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 2, 16])
def test_held_out_tasks_are_each_seen_once_however_shared(episodes, world, batch):
    whole = next(episodes.held_out("val", 100))
    parts = [e for rank in range(world) for e in episodes.held_out("val", batch, None, rank, world)]
    together = joined(parts)
    assert sorted(together.tasks) == sorted(episodes.task_set.split.val) == sorted(whole.tasks)
    order = [whole.tasks.index(task) for task in together.tasks]
    assert torch.equal(together.query, whole.query[order])


def test_held_out_episodes_are_the_same_at_every_seed_and_a_limit_keeps_a_subset(episodes):
    other = Episodes(episodes.task_set, 2, 3, seed=7)
    assert_same(next(episodes.held_out("test", 9)), next(other.held_out("test", 9)))
    few = next(episodes.held_out("test", 9, limit=2))
    assert_same(few, next(other.held_out("test", 9, limit=2)))
    for seed in range(3):
        again = Episodes(episodes.task_set, 2, 3, seed=seed)
        assert_same(next(again.held_out("test", 9, limit=2)), few)
    assert len(few.tasks) == 2
    assert set(few.tasks) < set(episodes.task_set.split.test)


def test_held_out_tasks_by_number_are_those_of_the_whole(episodes):
    for limit in (None, 3):
        whole = next(episodes.held_out("test", 100, limit))
        assert tuple(episodes.held_out_numbers("test", limit)) == whole.numbers
        assert_same(episodes.of("test", whole.numbers), whole)
    assert len(whole.numbers) == 3
    back = episodes.of("test", whole.numbers[::-1])
    assert back.tasks == whole.tasks[::-1]
    assert torch.equal(back.query, whole.query.flip(0))


def test_the_first_tasks_are_those_of_the_split(episodes):
    names = episodes.task_set.split.val
    assert_same(episodes.first("val", 2), episodes.of("val", [0, 1]))
    assert episodes.first("val", 99).tasks == names


def test_floats_are_exactly_the_levels_over_255():
    episode = Episodes(Levels(28, 1), 100, 156).train(0, 1)
    levels = torch.cat([episode.support, episode.query], 1)[0, :, 0, 0, 0].sort().values
    assert torch.equal(levels, torch.arange(256) / 255)


def test_episodes_are_put_together_on_the_device_where_each_task_is_kept(episodes, monkeypatch):
    asked, images = [], episodes.task_set.images

    def watched(task):
        asked.append(task)
        return images(task)

    monkeypatch.setattr(episodes.task_set, "images", watched)
    there = Episodes(episodes.task_set, 2, 3, seed=1, device="meta")
    for index in range(40):
        episode = there.train(index, 4)
        assert episode.support.device.type == episode.query.device.type == "meta"
        assert (episode.support.shape, episode.query.shape) == ((4, 2, 1, 28, 28), (4, 3, 1, 28, 28))
    assert sorted(asked) == sorted(episodes.task_set.split.train)  # each once
    assert episode[:3] == episodes.train(39, 4)[:3]


def test_streamed_tasks_give_the_same_episodes_and_stay_on_the_cpu(episodes):
    streamed = Episodes(StreamedBlobs(tasks=20, images=6), 2, 3, seed=1, device="meta")
    for index in range(5):
        assert_same(streamed.train(index, 4), episodes.train(index, 4))


def test_what_cannot_be_drawn_is_refused(episodes):
    for options, match in [({"shots": 0, "queries": 1}, "shots: expected"), ({"shots": 1, "queries": 0}, "queries")]:
        with pytest.raises(MetagenError, match=match):
            Episodes(episodes.task_set, **options)
    with pytest.raises(MetagenError, match="there are 10"):
        episodes.train(0, 11)
    with pytest.raises(MetagenError, match="shared evenly by 3"):
        episodes.train(0, 4, 0, 3)
    with pytest.raises(MetagenError, match=r"'blob-\d+' has 6 images; 4 shots and 3 queries need 7"):
        Episodes(episodes.task_set, 4, 3).train(0, 4)
    with pytest.raises(MetagenError, match="unknown split"):
        next(episodes.held_out("tset", 4))


def data_at(monkeypatch, total, current, task_set=Blobs, device="cpu", **options):
    name = task_set.__name__.lower()
    monkeypatch.setitem(task_sets._classes, name, task_set)
    data = EpisodeData(name, shots=2, queries=3, tasks=4, episodes=12, **options)
    progress = SimpleNamespace(total=SimpleNamespace(completed=total), current=SimpleNamespace(completed=current))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(fit_loop=loop, strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
    return data


@pytest.mark.parametrize(
    ("total", "current", "first", "count"), [(0, 0, 0, 12), (7, 7, 7, 5), (12, 0, 12, 12), (15, 3, 15, 9)]
)
def test_an_epoch_goes_on_where_the_loop_is(monkeypatch, total, current, first, count):
    data = data_at(monkeypatch, total, current)
    found = [episode.index for episode in data.train_dataloader()]
    assert found == list(range(first, first + count))


@pytest.mark.parametrize("workers", [1, 2])
def test_episodes_read_ahead_are_the_same_in_the_same_order(monkeypatch, workers):
    plain, ahead = (data_at(monkeypatch, 7, 7, each, workers=workers) for each in (Blobs, StreamedBlobs))
    pairs = list(zip(plain.train_dataloader(), ahead.train_dataloader(), strict=True))
    assert [one.index for one, _ in pairs] == list(range(7, 12))
    for one, other in pairs:
        assert one.tasks == other.tasks
        assert torch.equal(one.support, other.support)
        assert torch.equal(one.query, other.query)


def test_what_a_worker_meets_is_raised_as_it_was(monkeypatch):
    data = data_at(monkeypatch, 0, 0, StreamedBlobs)
    data.queries = 99
    with pytest.raises(MetagenError, match=r"^task '[^\n]* or add images$"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize(("task_set", "expected"), [(Blobs, "meta"), (StreamedBlobs, "cpu")])
def test_loaders_put_episodes_together_where_the_run_is(monkeypatch, task_set, expected):
    data = data_at(monkeypatch, 0, 0, task_set, device="meta")
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert next(iter(loader)).support.device.type == expected
    assert data.episodes.first("val", 1).support.device.type == "cpu"


@pytest.mark.parametrize(("val_tasks", "batches"), [(1, 1), (4, 1), (5, 2), (60, 2)])
def test_the_val_loader_says_how_long_it_is(monkeypatch, val_tasks, batches):
    loader = data_at(monkeypatch, 0, 0, val_tasks=val_tasks).val_dataloader()
    assert len(loader) == len(list(loader)) == batches


@pytest.mark.parametrize("name", ["shots", "queries", "tasks", "val_tasks", "episodes"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(MetagenError, match=rf"data\.{name}: expected 1 or more, got 0"):
        EpisodeData(**{name: 0})


def test_what_the_processes_cannot_share_is_refused(monkeypatch):
    data = data_at(monkeypatch, 0, 0, val_tasks=2)
    data.check(2)
    with pytest.raises(MetagenError, match="4 tasks an episode cannot be shared evenly by 3 processes"):
        data.check(3)
    with pytest.raises(MetagenError, match="at least one for each of 4 processes, got 2"):
        data.check(4)


def test_a_description_names_no_place(monkeypatch):
    data = data_at(monkeypatch, 0, 0, root="/home/me", split_file="/home/me/split.json")
    assert data.description == {"task_set": "blobs", "size": 28, "channels": 1, "invert": False}
