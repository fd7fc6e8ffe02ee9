"""Through what models are chosen: what travels, what was trained, and what may not be used."""

from __future__ import annotations

import pytest
import torch

from metagen.core.energy_distance import blurred
from metagen.errors import MetagenError
from metagen.evaluation.extractor_choice import selection_features
from metagen.metrics.extractors import Embedding
from metagen.metrics.extractors.extractor_files import save_extractor
from metagen.tasks.splits import Split
from metagen.training.episode_data import EpisodeData


@pytest.fixture
def tasks(blobs):
    """A data module over folders of blobs."""
    return EpisodeData("folder", str(blobs / "tasks"), split_file=str(blobs / "split.json"), shots=2, queries=3)


def saved(path, tasks, size=28, split=None):
    """An extractor that was trained by that split, not really."""
    torch.manual_seed(0)
    extractor = Embedding(size, 1, (8, 8, 8), 4, 3)
    save_extractor(path, extractor, {"data": {"task_set": tasks.name}}, split or tasks.task_set.split)
    return extractor


def test_the_extractor_of_the_domain_selects_where_one_of_the_size_travels():
    name, look = selection_features(None, EpisodeData("glyphs", size=28))
    assert name == "glyphs-select"
    assert look(torch.rand(2, 3, 1, 28, 28)).shape == (2, 3, 128)
    assert selection_features(None, EpisodeData("glyphs", size=32)) == ("pixels", blurred)
    assert selection_features("pixels", EpisodeData("glyphs", size=28)) == ("pixels", blurred)


def test_tasks_of_ones_own_are_looked_at_in_pixels_or_through_what_is_named(tasks, tmp_path):
    assert selection_features(None, tasks) == ("pixels", blurred)
    extractor, images = saved(tmp_path / "mine", tasks), torch.rand(2, 3, 1, 28, 28)
    name, look = selection_features(str(tmp_path / "mine"), tasks)
    assert name == "mine"
    assert torch.equal(look(images), extractor.of(images))
    assert not torch.allclose(look(images).mean(), blurred(images).mean())


def test_an_extractor_that_does_not_fit_is_one_error(tasks, tmp_path):
    saved(tmp_path / "large", tasks, size=32)
    with pytest.raises(MetagenError, match="takes images of 1 channels and 32 px"):
        selection_features(str(tmp_path / "large"), tasks)
    split = tasks.task_set.split
    saved(tmp_path / "seen", tasks, split=Split((*split.train, split.val[0]), split.val[1:], split.test))
    with pytest.raises(MetagenError, match="was trained or chosen on 1 of these val tasks"):
        selection_features(str(tmp_path / "seen"), tasks)
    with pytest.raises(MetagenError, match="neither a folder nor one of the extractors"):
        selection_features("nothing", tasks)


def test_a_split_of_ones_own_asks_for_an_extractor_of_ones_own(tmp_path):
    split = EpisodeData("glyphs").task_set.split
    (tmp_path / "split.json").write_text(Split(split.test, split.train, split.val).to_json())
    with pytest.raises(MetagenError, match=r"or choose without one: --model\.chosen_by pixels"):
        selection_features(None, EpisodeData("glyphs", split_file=str(tmp_path / "split.json")))
