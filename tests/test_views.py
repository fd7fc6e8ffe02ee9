"""What people look at: the table, the curve and the picture of a result."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.ndimage import label

from metagen.evaluation import baselines
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.learners import Amortised, Joint, Reptile
from metagen.metrics import Extractor, metrics
from metagen.report.headings import FIRST, HEADINGS, ROWS
from metagen.report.plots import curve_png, map_png
from metagen.report.result import TaskEstimate
from metagen.report.tables import headline, picture, short, study_lines, table
from metagen.tasks.episodes import Episode, Episodes
from tests.doubles import Blobs, tiny_generator, tiny_vae


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return Reptile(tiny_vae(size=28), steps=1, rate=0.02, test_steps=2, optimiser="adam").requires_grad_(False)


class Half(Extractor):
    """Sees images at half their size: pixels as features."""

    size, channels = 28, 1

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


@pytest.fixture(scope="module")
def card(learner):
    """A scorecard with the rows that train something, and with figures through an extractor."""
    joint = Joint(tiny_vae(size=28), test_steps=1).requires_grad_(False)
    with pytest.MonkeyPatch.context() as patch:
        for grid in ("SCRATCH_GRID", "JOINT_GRID"):
            patch.setattr(baselines, grid, ((1e-2, 1),))
        options = EvaluationOptions(limit=4, curve=(0, 1), baselines=True)
        scores = measure(learner, Episodes(Blobs(tasks=80), 2, 8), options, {"half": Half()}, joint=joint).result
    return {**scores, "extractors": [{"name": "half", "weights_sha256": ""}]}


def cells(text: str) -> list[list[str]]:
    """The cells of a table's rows, one with headings first."""
    return [[cell.strip() for cell in re.split("[│┃]", line)[1:-1]] for line in text.splitlines() if line[:1] in "│┃"]


def test_the_terminal_shows_the_most_telling_figures_and_rows(card):
    text = table(card, place=Path("out/result.json"))
    headings, *rows = cells(text)
    assert headings == ["", *(HEADINGS[name].title for name in FIRST if name not in ("fid", "lpips", "energy", "kid"))]
    assert len(headings) == 7
    names = ["human", "copy", "affine x1", "unadapted", "scratch, 1 step", "joint + fine-tune, 1 step"]
    assert [row[0] for row in rows] == [*names, "another task's support, 2 steps", "adapted, 2 steps"]
    assert "4 test tasks, 2 shots, through half" in text
    adapted = card["rows"][-1]["figures"]
    assert rows[-1][1:4] == [short(adapted[name]) for name in ("query_loss", "fd[half]", "recognisability[half]")]
    told = {line[2:].partition("  ")[0] for line in text.splitlines() if line.startswith("  ") and "±" not in line}
    assert told == {*headings[1:], *(row[0].partition(", ")[0] for row in rows)}  # a clause for each
    hidden = len({name for row in card["rows"] for name in row["figures"]}) - 6
    assert text.splitlines()[-1] == f"... and {hidden} more figures, 2 more rows, paired differences in out/result.json"


def test_every_figure_is_shown_where_it_was_named(card):
    text = table(card, every=True)
    blocks = [line for line in cells(text) if line[0] == ""]
    shown = [heading for line in blocks for heading in line[1:]]
    assert len(shown) == len({name for row in card["rows"] for name in row["figures"]})
    assert max(map(len, blocks)) == 7
    assert text.splitlines()[-1] == "... and 2 more rows, paired differences in result.json"
    figure: TaskEstimate = {"mean": 1.5, "low": 1, "high": 2, "tasks": 3}
    rows = [{**row, "figures": {**row["figures"], "fd[mine]": figure}} for row in card["rows"]]
    assert "fd[mine]" in table({**card, "rows": rows}, every=True)
    assert "fd[mine]" not in table({**card, "rows": rows})


def test_every_figure_that_can_be_measured_has_a_heading_and_a_clause():
    assert {"query_loss", "fid", *metrics} == {*HEADINGS}
    assert len(ROWS) <= 10
    assert all(len(clause) <= 80 for clause in [*(each.clause for each in HEADINGS.values()), *ROWS.values()])


def test_the_adapted_row_is_told_in_one_line_beside_people(card):
    human, adapted = card["rows"][0]["figures"], card["rows"][-1]["figures"]
    mean = f"{adapted['fd[half]']['mean']:.3g}"
    assert headline(card).startswith(f"adapted, and real images in brackets: Frechet {mean[:3]}")
    assert short(human["recognisability[half]"]).partition(" ")[0] in headline(card)
    alone = [{**row, "figures": {"query_loss": row["figures"]["query_loss"]}} for row in card["rows"][5:]]
    assert headline({**card, "rows": alone}) == ""


def test_the_curve_shows_the_criterion(card):
    first = curve_png(card)
    assert first.startswith(b"\x89PNG")
    moved = [{**point, "mean": point["mean"] + 100} for point in card["curve"]]
    assert curve_png({**card, "curve": moved}) != first


def test_a_figure_is_its_mean_and_half_its_interval():
    assert short({"mean": 123.456, "low": 122.4, "high": 124.6}) == "123.5 ±1.1"
    assert short({"mean": -0.123, "low": -0.2, "high": 0}) == "-0.12 ±0.10"
    assert short({"mean": 0.0123, "low": 0.01, "high": 0.015}) == "0.0123 ±0.0025"


def test_a_picture_has_a_row_a_task_and_shows_support_real_and_generated(learner):
    episode = Episodes(Blobs(), 2, 3).first("test", 4)
    shown = picture({"generated": learner}, episode, 3)
    assert shown.shape[0] == 3
    assert 0 <= shown.min() <= shown.max() <= 1
    assert torch.equal(shown, picture({"generated": learner}, episode, 3))
    taller = picture({"generated": learner}, Episode(0, *(x[:2] for x in episode[1:])), 3)
    wider = picture({"generated": learner}, episode, 5)
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
    same, apart = (picture({"generated": redraw}, e, 4) for e in (twice, twice._replace(numbers=(0, 1))))
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
