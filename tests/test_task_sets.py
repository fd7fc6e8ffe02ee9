"""Every registered task set: images by task as they are promised, a split by task, options that are refused or kept."""

from __future__ import annotations

import pytest
import torch

from metagen.core.registry import options_of
from metagen.errors import MetagenError
from metagen.storage.images import resized, save_pngs
from metagen.tasks import TaskSet, task_sets
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import SPLITS
from tests.doubles import Blobs
from tests.test_celeba import make as make_celeba
from tests.test_omniglot import make as make_omniglot


def make_folder(root) -> str:
    blobs = Blobs(tasks=12, images=4)
    for part in SPLITS:
        for task in blobs.split[part]:
            save_pngs(blobs.images(task), root / task)
    return str(root)


# How each is made small: the maker of its files, and further options.
SMALL = {
    "avatars": (None, {"identities": 5, "drawings": 4}),
    "celeba": (make_celeba, {"min_images": 3}),
    "folder": (make_folder, {"val": 2, "test": 2}),
    "glyphs": (None, {}),
    "omniglot": (make_omniglot, {}),
}


@pytest.fixture(scope="module", params=task_sets)
def options(request, tmp_path_factory) -> dict:
    """The description of a small one."""
    make, more = SMALL[request.param]
    root = {} if make is None else {"root": make(tmp_path_factory.mktemp(request.param))}
    return {"name": request.param, **root, **more}


@pytest.fixture(scope="module")
def task_set(options) -> TaskSet:
    return task_sets.build(options)


def some(task_set: TaskSet) -> list[str]:
    """Two tasks of each part."""
    return [task for part in SPLITS for task in task_set.split[part][:2]]


def test_each_has_a_small_one_here():
    assert SMALL.keys() == set(task_sets)


def test_no_task_is_in_two_parts_and_none_is_empty(task_set):
    parts = [set(task_set.split[part]) for part in SPLITS]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert all(list(task_set.split[part]) == list(dict.fromkeys(task_set.split[part])) for part in SPLITS)


def test_images_are_bytes_of_its_size_and_the_same_each_time(task_set):
    for task in some(task_set):
        images = task_set.images(task)
        assert images.dtype == torch.uint8
        assert images.shape == (task_set.readable_count(task), task_set.channels, task_set.size, task_set.size)
        assert torch.equal(images, task_set.images(task))
        assert images.float().std() > 0


def test_images_are_read_by_place_in_the_order_asked_for(task_set):
    for task in some(task_set):
        images = task_set.images(task)
        places = [len(images) - 1, 0]
        assert torch.equal(task_set.images(task, places), images[places])


def test_it_is_the_same_when_it_is_made_again(task_set, options):
    again = task_sets.build(options)
    assert again.split == task_set.split
    assert again.split.hash == task_set.split.hash
    for task in some(task_set):
        assert again.image_count(task) == task_set.image_count(task)
        assert torch.equal(again.images(task), task_set.images(task))
        assert again.prints(task) == task_set.prints(task)


def test_a_task_is_known_by_its_images_unless_it_is_streamed(task_set):
    tasks = some(task_set)
    prints = [set(task_set.prints(task)) for task in tasks]
    if task_set.streamed:
        assert not any(prints)
        return
    assert all(prints)
    assert sum(map(len, prints)) == len(set.union(*prints))


def test_inverted_it_is_its_negative_at_the_same_split(task_set, options):
    other = task_sets.build({**options, "invert": True})
    assert other.split == task_set.split
    for task in some(task_set):
        apart = (255 - other.images(task)).int() - task_set.images(task).int()
        assert apart.abs().max() <= 1  # of resizing


@pytest.mark.parametrize(("size", "channels"), [(40, 1), (28, 3)])
def test_it_comes_in_other_sizes_and_channels(task_set, options, size, channels):
    other = task_sets.build({**options, "size": size, "channels": channels})
    assert other.split == task_set.split
    for task in some(task_set)[:2]:
        assert other.images(task).shape == (task_set.image_count(task), channels, size, size)


def test_originals_resized_and_finished_are_its_images(task_set):
    for task in some(task_set)[:2]:
        originals = task_set.originals(task)
        assert originals.dtype == torch.uint8
        small = resized(originals, task_set.size)
        apart = task_set.finished(small).int() - task_set.images(task).int()
        assert apart.abs().max() <= 1


def test_episodes_are_of_it(task_set):
    episode = Episodes(task_set, 1, 2).of("val", [0])
    assert episode.support.shape == (1, 1, task_set.channels, task_set.size, task_set.size)
    assert 0 <= episode.query.min() <= episode.query.max() <= 1


def test_every_option_is_kept_and_described(task_set):
    description = task_sets.describe(task_set)
    assert description.keys() == {"name", *options_of(type(task_set))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 27}, "size"),
        ({"size": 129}, "size"),
        ({"channels": 2}, "channels"),
        ({"sise": 28}, "did you mean size"),
    ],
)
def test_an_option_out_of_range_is_one_line(options, change, said):
    with pytest.raises(MetagenError, match=said) as refused:
        task_sets.build({**options, **change})
    assert "\n" not in str(refused.value)


def test_a_root_that_is_not_there_is_one_line_that_names_it(options, tmp_path):
    known = "root" in options_of(task_sets[options["name"]])
    with pytest.raises(MetagenError, match="absent" if known else "unknown option .*'root'") as refused:
        task_sets.build({**options, "root": str(tmp_path / "absent")})
    assert "\n" not in str(refused.value)


def test_a_task_that_is_not_there_is_one_line_that_names_it(task_set):
    with pytest.raises(MetagenError, match="no such thing") as refused:
        task_set.images("no such thing")
    assert "\n" not in str(refused.value)
