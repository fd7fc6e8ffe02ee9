"""The held-out protocol: intervals, pairing, what is chosen on which split, and that no query leaks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from scipy import stats

from metagen import evaluation
from metagen.errors import MetagenError
from metagen.evaluation import measure, over_tasks_interval, picture, query_losses, table, tuned_scratch
from metagen.learners import Reptile
from metagen.pictures import curve_png
from metagen.tasks.episodes import Episode, Episodes
from tests.doubles import Blobs, tiny_vae


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return Reptile(tiny_vae(size=28), steps=1, rate=0.02, test_steps=2, optimiser="adam").requires_grad_(False)


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(evaluation, "SCRATCH_GRID", ((1e-2, 1), (3e-2, 2)))


class Recorded(Episodes):
    """Episodes that remember what was asked of them."""

    def __init__(self, task_set) -> None:
        super().__init__(task_set, 2, 3)
        self.asked: list[tuple] = []
        self.given: list[tuple[str, Episode]] = []

    def train(self, *args, **kwargs):
        self.asked.append(("train",))
        return super().train(*args, **kwargs)

    def held_out(self, split, batch, limit=None, rank=0, world=1):
        self.asked.append((split, limit))
        for episode in super().held_out(split, batch, limit, rank, world):
            self.given.append((split, episode))
            yield episode


# intervals


@pytest.mark.parametrize("count", [12, 100])
def test_the_interval_is_scipys_percentile_bootstrap(count):
    values = np.random.default_rng(0).gamma(2.0, 10.0, count)
    found = over_tasks_interval(values.tolist())
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    error = values.std() / count**0.5
    assert found.mean == pytest.approx(values.mean())
    assert found.tasks == count
    assert abs(found.low - theirs.low) < 0.15 * error  # two draws of 10,000 resamples each
    assert abs(found.high - theirs.high) < 0.15 * error
    assert found == over_tasks_interval(torch.from_numpy(values))  # seeded


def test_the_interval_of_known_values():
    assert over_tasks_interval([3.0]) == evaluation.Interval(3.0, 3.0, 3.0, 1)
    constant = over_tasks_interval([0.5] * 7)
    assert (constant.low, constant.high) == (0.5, 0.5)
    assert str(evaluation.Interval(1.234, -1, 2.5, 3)) == "1.23 [-1.00, 2.50]"
    two = over_tasks_interval([0.0, 1.0])
    assert (two.low, two.mean, two.high) == (0.0, 0.5, 1.0)
    with pytest.raises(MetagenError, match="no task was measured"):
        over_tasks_interval([])


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [over_tasks_interval(rng.normal(5, 2, 40)) for _ in range(60)]
    covered = sum(interval.low <= 5 <= interval.high for interval in intervals)
    assert 48 <= covered <= 60
    assert covered < 60 or max(interval.high - interval.low for interval in intervals) < 3


# measuring


def test_differences_are_paired_and_rows_are_what_they_say(learner, small_grid, monkeypatch):
    """Tasks differ a thousandfold more than the contenders do, so that only pairing can tell these apart."""
    hardness = torch.linspace(100, 2000, 6)
    gains = {0: torch.zeros(6), 1: torch.zeros(6) + 0.5, 2: torch.tensor([1.0, 1.1, 0.9, 1.2, 0.8, 1.0])}
    monkeypatch.setattr(evaluation, "query_losses", lambda learner, episodes, key, steps: hardness - gains[steps])
    scratch = tuned_scratch(learner, [])
    scratch.test_steps = 1
    monkeypatch.setattr(evaluation, "tuned_scratch", lambda *_: scratch)
    result = measure(learner, Recorded(Blobs()), "test", None, (0, 1, 2))
    means = {row["row"]: row["mean"] for row in result["rows"]}
    assert list(means) == ["unadapted", "scratch", "adapted"]
    assert [row["steps"] for row in result["rows"]] == [0, 1, 2]
    unpaired = result["rows"][2]["high"] - result["rows"][2]["low"]
    for difference, name, gain in zip(result["differences"], ("unadapted", "scratch"), (1.0, 0.5), strict=True):
        assert difference["row"] == f"adapted - {name}"
        assert difference["mean"] == pytest.approx(means["adapted"] - means[name], abs=1e-3)
        assert difference["mean"] == pytest.approx(-gain, abs=1e-3)
        assert difference["high"] < 0
        assert difference["high"] - difference["low"] < unpaired / 1000
    assert [point["steps"] for point in result["curve"]] == [0, 1, 2]
    assert [point["mean"] for point in result["curve"]] == list(means.values())
    json.dumps(result)


@pytest.mark.parametrize("split", ["test", "val"])
def test_what_is_asked_of_the_tasks(learner, small_grid, split):
    """Scratch is tuned on val tasks alone, and no train task is looked at."""
    episodes = Recorded(Blobs())
    result = measure(learner, episodes, split, 4, (0, 2))
    assert sorted(episodes.asked) == sorted([(split, 4), ("val", 16)])
    assert result["scratch"]["chosen_on"] == "val"
    assert (result["scratch"]["rate"], result["scratch"]["steps"]) in evaluation.SCRATCH_GRID
    assert {row["tasks"] for row in result["rows"]} == {4}
    assert result["split_sha256"] == episodes.task_set.split.hash
    points = {point["steps"]: point["mean"] for point in result["curve"]}
    assert points[0] == result["rows"][0]["mean"]
    assert points[2] == result["rows"][2]["mean"]


def test_scratch_is_the_best_of_the_grid_on_val_and_never_sees_test(learner, monkeypatch):
    episodes = Recorded(Blobs())
    val = list(episodes.held_out("val", 16, 16))
    seen, losses = [], iter([3.0, 1.0, 2.0, 1.0])

    def fake(scratch, given, key, steps):
        seen.append((scratch.rate, scratch.optimiser, steps, given))
        return torch.tensor([next(losses)])

    monkeypatch.setattr(evaluation, "query_losses", fake)
    state = torch.get_rng_state()
    best = tuned_scratch(learner, val)
    assert torch.equal(state, torch.get_rng_state())
    assert [(rate, steps) for rate, _, steps, _ in seen] == list(evaluation.SCRATCH_GRID)
    assert all(given is val for *_, given in seen)
    assert (best.rate, best.test_steps) == evaluation.SCRATCH_GRID[1]
    weights, theirs = best.generator.state_dict(), learner.generator.state_dict()
    assert weights.keys() == theirs.keys()
    assert all(w.shape == theirs[name].shape for name, w in weights.items())
    torch.manual_seed(0)
    fresh = tiny_vae(size=28).state_dict()  # the same networks, without what meta-training put into them
    assert all(torch.equal(w, fresh[name]) for name, w in weights.items())


def test_the_measured_loss_is_of_the_query_after_adaptation_to_the_support(learner):
    episode = next(Episodes(Blobs(), 2, 3).held_out("test", 16, 4))
    losses = query_losses(learner, [episode], (0, "test"), 2)
    assert losses.shape == (4,)
    other_query = episode._replace(query=episode.query.roll(1, 0))
    other_support = episode._replace(support=episode.support.roll(1, 0))
    for other in (other_query, other_support):
        assert not torch.allclose(losses, query_losses(learner, [other], (0, "test"), 2), rtol=1e-5)
    unadapted = query_losses(learner, [episode], (0, "test"), 0)
    torch.testing.assert_close(unadapted, query_losses(learner, [other_support], (0, "test"), 0))
    halves = [
        Episode(0, episode.tasks[s], episode.numbers[s], episode.support[s], episode.query[s])
        for s in (slice(0, 1), slice(1, 4))
    ]
    torch.testing.assert_close(query_losses(learner, halves, (0, "test"), 2), losses)  # batching changes nothing


def test_no_support_image_is_a_query_image_and_no_test_task_is_a_train_task(learner, small_grid):
    episodes = Recorded(Blobs())
    measure(learner, episodes, "test", None, (0,))
    assert [split for split, _ in episodes.given] == ["test", "val"]
    for split, episode in episodes.given:
        assert set(episode.tasks) == set(episodes.task_set.split[split])
        assert not set(episode.tasks) & set(episodes.task_set.split.train)
        for support, query in zip(episode.support, episode.query, strict=True):
            shown = {tuple(image.flatten().tolist()) for image in support}
            assert len(shown) == 2
            assert not shown & {tuple(image.flatten().tolist()) for image in query}


def test_the_same_seed_gives_the_same_figures(learner, small_grid):
    def figures(seed):
        result = measure(learner, Episodes(Blobs(), 2, 3), "test", 3, (0, 1), seed)
        return [
            [{k: v for k, v in row.items() if k != "seconds"} for row in result[part]] for part in ("rows", "curve")
        ]

    assert figures(0) == figures(0)
    assert figures(0) != figures(1)


@pytest.mark.parametrize(
    ("split", "limit", "curve", "said"),
    [
        ("train", 3, (0,), "split: expected one of val, test, got 'train'"),
        ("tset", 3, (0,), "got 'tset'"),
        ("test", 0, (0,), "limit of 1 or more"),
        ("test", 3, (0, -1), "0 or more steps"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(learner, split, limit, curve, said):
    episodes = Recorded(Blobs())
    with pytest.raises(MetagenError, match=said):
        measure(learner, episodes, split, limit, curve)
    assert not episodes.asked


# what is shown


def test_the_table_and_the_curve_show_the_figures(learner, small_grid):
    result = measure(learner, Episodes(Blobs(), 2, 3), "test", 3, (0, 1))
    text = table(result)
    for row in result["rows"] + result["differences"]:
        assert row["row"] in text
        assert f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]" in text
    assert "2 shots, test tasks" in text
    first = curve_png(result)
    assert first.startswith(b"\x89PNG")
    result["curve"][1]["mean"] += 100
    assert curve_png(result) != first


def test_a_picture_has_a_row_a_task_and_shows_support_real_and_generated(learner):
    episode = next(Episodes(Blobs(), 2, 3).held_out("test", 4, 4))
    shown = picture(learner, episode, 3)
    assert shown.shape[0] == 3
    assert 0 <= shown.min() <= shown.max() <= 1
    assert torch.equal(shown, picture(learner, episode, 3))
    taller = picture(learner, Episode(0, *(x[:2] for x in episode[1:])), 3)
    wider = picture(learner, episode, 5)
    assert (taller.shape[1] - 26) * 2 == pytest.approx(shown.shape[1] - 26, abs=12)
    assert wider.shape[1] == shown.shape[1]
    assert wider.shape[2] == shown.shape[2] + 2 * 29 * 3  # two more cells of 28 px and 1 between, thrice enlarged
    enlarged = episode.support[0, 0, 0].repeat_interleave(3, 0).repeat_interleave(3, 1)
    windows = shown[0].unfold(0, 84, 1).unfold(1, 84, 1)[:80, :20]
    assert ((windows - enlarged).abs().amax((-1, -2)) < 1 / 250).any()  # the support is in the first column
