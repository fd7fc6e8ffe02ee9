"""Numbers of shots: of train episodes drawn by index alone, of held-out ones fixed."""

from __future__ import annotations

import csv
import json
from collections import Counter

import pytest
import torch

from metagen.errors import MetagenError
from metagen.tasks.episodes import Episodes
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs
from tests.test_episodes import assert_same, data_at, joined

SHARES = {1: 0.4, 2: 0.15, 3: 0.15, 5: 0.2, 10: 0.1}


def of_many(seed: int = 0, shares: dict[int, float] = SHARES, images: int = 12) -> Episodes:
    return Episodes(Blobs(tasks=8, images=images), 5, 2, seed, train_shots=shares)


def test_shots_come_up_as_often_as_their_probabilities_say():
    episodes = of_many()
    found = Counter(episodes.train(index, 1).support.shape[1] for index in range(1000))
    assert found.keys() == SHARES.keys()
    for k, share in SHARES.items():
        assert abs(found[k] / 1000 - share) < 4 * (share * (1 - share) / 1000) ** 0.5


def test_they_depend_on_seed_and_episode_alone():
    one, other, order = of_many(), of_many(seed=1), of_many(shares=dict(reversed(SHARES.items())))
    found, others, again = ([e.train(i, 2).support.shape[1] for i in range(40)] for e in (one, other, order))
    assert found != others
    sizes = [[one.train(i, 4, rank, 2).support.shape[1] for i in range(40)] for rank in range(2)]
    assert sizes == [found, found]
    assert again == found  # in whatever order they are given
    assert_same(joined([one.train(3, 4, rank, 2) for rank in range(2)]), one.train(3, 4))


def test_one_number_draws_what_it_always_drew():
    task_set = Blobs(tasks=8, images=12)
    plain, sure = Episodes(task_set, 5, 2), Episodes(task_set, 5, 2, train_shots={5: 1.0})
    assert_same(plain.train(4, 2), sure.train(4, 2))


def test_held_out_episodes_have_one_number(monkeypatch):
    data = data_at(monkeypatch, 0, 0)
    many = EpisodeData("blobs", shots=SHARES, queries=3)
    assert (many.val_shots, many.held_out_shots, data.val_shots) == ([1, 5], 5, [2])
    assert many.episodes.of("val", [0]).support.shape[1] == many.episodes.shots == 5


@pytest.mark.parametrize(
    ("shots", "val_shots", "expected"),
    [
        (3, None, [3]),
        ({"1": 0.5, "4": 0.5}, None, [1]),
        ({7: 1}, None, [7]),
        ({2: 0.5, 9: 0.5, 12: 0}, None, [1, 5]),
        (3, [10, 1, 10], [1, 10]),
    ],
)
def test_at_which_shots_val_is_judged(shots, val_shots, expected):
    assert EpisodeData(shots=shots, val_shots=val_shots).val_shots == expected


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"shots": 0}, "data.shots: expected 1 or more, got 0"),
        ({"shots": {}}, "data.shots: expected numbers of 1 or more with prob"),
        ({"shots": {0: 1.0}}, "data.shots: expected numbers of 1 or more with prob"),
        ({"shots": {1: 0.5, 5: 0.4}}, "whose sum is 0.9$"),
        ({"shots": {1: 1.5, 5: -0.5}}, "probabilities of 0 or more"),
        ({"shots": {1: float("nan")}}, "probabilities of 0 or more"),
        ({"shots": {1.5: 1.0}}, "data.shots: expected whole numbers"),
        ({"shots": {"many": 1.0}}, "data.shots: expected whole numbers"),
        ({"val_shots": []}, "data.val_shots: expected one or more"),
        ({"val_shots": [0]}, "data.val_shots: expected one or more"),
    ],
)
def test_what_is_no_distribution_is_refused_in_one_line(options, match):
    with pytest.raises(MetagenError, match=match) as info:
        EpisodeData(**options)
    assert "\n" not in str(info.value)


def test_val_is_judged_at_each_number_of_shots_by_the_same_queries(monkeypatch):
    data = data_at(monkeypatch, 0, 0, val_shots=[1, 2, 4])
    loader = data.val_dataloader()
    found = list(loader)
    assert len(loader) == len(found) == 6  # 6 val tasks, 4 at a time
    assert [e.support.shape[1] for e in found] == [1, 2, 4] * 2
    for first, second, largest in (found[:3], found[3:]):
        assert torch.equal(first.query, largest.query)
        assert first.tasks == largest.tasks
        for each in (first, second):
            assert torch.equal(each.support, largest.support[:, : each.support.shape[1]])
    whole = list(data.episodes.held_out("val", 4))[1]
    assert torch.equal(largest.support, whole.support)
    assert torch.equal(largest.query, whole.query)
    assert {episode.support.shape[1] for episode in data.train_dataloader()} == {2}


def test_one_number_leaves_val_as_it_was(monkeypatch):
    data = data_at(monkeypatch, 0, 0)
    for one, other in zip(data.val_dataloader(), data.episodes.held_out("val", 4), strict=True):
        assert tuple(one.tasks) == other.tasks
        assert torch.equal(one.support, other.support)
        assert torch.equal(one.query, other.query)


def test_tasks_have_to_have_images_for_the_largest(monkeypatch):
    data = data_at(monkeypatch, 0, 0)
    many = EpisodeData("blobs", shots={1: 0.9, 8: 0.1}, queries=3, tasks=4)
    with pytest.raises(MetagenError, match=r"^8 shots and 3 queries need 11 images a task, but 'blob-0' has 10"):
        many.check(1)
    many.check_counts(data.task_set.split.test)  # which are judged at 5
    with pytest.raises(MetagenError, match="9 shots and 3 queries"):
        EpisodeData("blobs", shots=2, queries=3, tasks=4, val_shots=[9]).check(1)


@pytest.fixture(scope="module")
def logged(tiny, tmp_path_factory):
    """A run at 1 and 3 shots, judged at 1 and 2."""
    from metagen.cli import main

    folder = tmp_path_factory.mktemp("many")
    words = [
        "--data.shots",
        "{1: 0.5, 3: 0.5}",
        "--data.val_shots",
        "[1, 2]",
        "--data.augment",
        "--run_dir",
        str(folder),
    ]
    assert main(["fit", *tiny, *words]) == 0
    return folder


def test_the_mean_over_val_shots_is_watched_and_each_is_logged(logged):
    with (logged / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/query_loss"]]
    assert rows
    for row in rows:
        one, two = (float(row[f"val/query_loss/{k}shots"]) for k in (1, 2))
        assert float(row["val/query_loss"]) == pytest.approx((one + two) / 2, rel=1e-5)
        assert one != two


def test_the_export_says_what_was_given_and_is_judged_at_one_number(logged, tmp_path, blobs):
    from metagen.cli import main

    config = json.loads((logged / "export" / "config.json").read_text())
    assert config["info"]["data"]["shots"] == {"1": 0.5, "3": 0.5}
    words = ["evaluate", "--model", str(logged / "export"), "--extractor", "none", "--baselines", "false"]
    words += ["--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json")]
    for out, more, expected in (("own", [], 1), ("two", ["--data.shots", "2"], 2)):
        assert main([*words, "--curve", "[]", "--out", str(tmp_path / out), *more]) == 0
        assert json.loads((tmp_path / out / "result.json").read_text())["shots"] == expected


def test_a_distribution_that_is_none_is_one_line_on_the_command_line(fit, tmp_path, capsys):
    for given, said in (("{1: 0.5}", "data.shots: expected numbers"), ("many", "shots: expected one of int")):
        assert fit(tmp_path, "--data.shots", given) == 2
        told = capsys.readouterr().err
        assert said in told
        assert told.count("\n") == 1
