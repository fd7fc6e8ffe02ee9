"""What people look at: the table, the curve and the picture of a result."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.ndimage import label

from metagen.evaluation import baselines
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.learners import Amortised, Reptile
from metagen.report.plots import curve_png, map_png
from metagen.report.result import TaskEstimate
from metagen.report.tables import picture, short, study_lines, table
from metagen.tasks.episodes import Episode, Episodes
from tests.doubles import Blobs, tiny_generator, tiny_vae


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return Reptile(tiny_vae(size=28), steps=1, rate=0.02, test_steps=2, optimiser="adam").requires_grad_(False)


def test_the_table_and_the_curve_show_the_figures(learner, monkeypatch):
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-2, 1),))
    result = measure(learner, Episodes(Blobs(), 2, 3), EvaluationOptions(limit=3, curve=(0, 1))).result
    text = table({**result, "extractors": []})
    for row in result["rows"] + result["differences"]:
        assert row["row"] in text
        assert short(row["figures"]["query_loss"]) in text
    assert "3 test tasks, 2 shots, through no extractor" in text
    figure: TaskEstimate = {"mean": 1.5, "low": 1, "high": 2, "tasks": 3}
    for row in result["rows"]:
        row["figures"]["mifid[mine]"] = figure
    assert "mifid" not in table({**result, "extractors": []})
    assert "1.50 ±0.50" in table({**result, "extractors": []}, every=True)
    first = curve_png(result)
    assert first.startswith(b"\x89PNG")
    result["curve"][1]["mean"] += 100
    assert curve_png(result) != first


def test_a_figure_is_its_mean_and_half_its_interval():
    assert short({"mean": 123.456, "low": 122.4, "high": 124.6}) == "123.5 ±1.1"
    assert short({"mean": -0.123, "low": -0.2, "high": 0}) == "-0.12 ±0.10"
    assert short({"mean": 0.0123, "low": 0.01, "high": 0.015}) == "0.0123 ±0.0025"


def test_a_picture_has_a_row_a_task_and_shows_support_real_and_generated(learner):
    episode = Episodes(Blobs(), 2, 3).first("test", 4)
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


def test_pictures_show_the_first_tasks_by_order():
    episode = Episodes(Blobs(), 2, 3).first("test", 3)
    assert episode.tasks == Blobs().split.test[:3]
    whole = next(Episodes(Blobs(), 2, 3).held_out("test", 16))
    assert torch.equal(episode.support, whole.support[:3])  # the very episodes that are measured


def test_each_task_of_a_picture_has_noise_of_its_own():
    redraw = Amortised(tiny_generator("redraw", size=28)).requires_grad_(False).eval()
    episode = Episodes(Blobs(), 2, 3).first("test", 2)
    twice = Episode(0, episode.tasks, (0, 0), episode.support[[0, 0]], episode.query[[0, 0]])
    same, apart = (picture(redraw, e, 4) for e in (twice, twice._replace(numbers=(0, 1))))
    assert not torch.equal(same, apart)


def test_a_study_is_told_with_its_figures_and_rows():
    figure = {"n": 3, "mean": 1.5, "low": 1.0, "high": 2.0}
    rows = [{"shots": k, **figure, "gain": {**figure, "mean": -30.0}, "published": None} for k in (0, 9)]
    text = study_lines(
        "likelihood", {"unit": "nats", "steps": 3, "accuracy": {"real": figure}, "seconds": figure, "rows": rows}
    )
    for said in (
        "likelihood:",
        "unit: nats",
        "steps: 3",
        "accuracy, real: 1.50 ±0.50",
        "seconds: 1.50 ±0.50",
        "-30.0 ±0.5",
    ):
        assert said in text
    assert [line.split()[1] for line in text.splitlines() if "-30.0" in line] == ["0", "9"]


def squares(png: bytes, colour: str) -> int:
    """How many connected areas of a picture have a colour of Matplotlib's: frames, and the mark in a legend."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(float)
    near = np.abs(pixels - 255 * np.array(to_rgb(colour))).max(-1) < 12
    labels, count = label(near, np.ones((3, 3)))
    return sum(int((labels == number).sum()) >= 20 for number in range(1, count + 1))


def drawn(groups: list[str]) -> bytes:
    """A map of tasks far apart, their images white."""
    places = torch.cartesian_prod(torch.arange(6.0), torch.arange(6.0))[: len(groups)]
    return map_png("gradient", places, groups, torch.ones(len(groups), 1, 28, 28))


def test_a_map_draws_the_tasks_of_every_group():
    groups = [f"group-{number}" for number in range(10) for _ in range(3)] + ["alone"]
    png = drawn(groups)
    colours = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8", "C9")
    assert [squares(png, colour) for colour in colours] == [3 + 1] * 8 + [0]  # each group's, and one in the legend
    assert squares(png, "C7") == 2 * 3 + 1 + 1


def test_a_map_of_tasks_that_share_no_group_is_of_one_colour_without_a_legend():
    png = drawn([f"task-{number}" for number in range(20)])
    assert [squares(png, colour) for colour in ("C0", "C1", "C7")] == [20, 0, 0]
