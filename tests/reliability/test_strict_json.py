"""Numbers that are not finite: null with a note in every JSON file, and read by everything that reads results."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure

from experiments import scorecard
from experiments.pages import result_table
from metagen.cli import main
from metagen.evaluation.league import league, read
from metagen.evaluation.sampling_choice import FIGURES, distance_to_people
from metagen.learners.model_files import save_model
from metagen.metrics.extractors import Embedding
from metagen.metrics.extractors.extractor_files import save_extractor
from metagen.report.plots import curve_png
from metagen.report.tables import short, table, with_ends
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import finite, page, read_json, to_json
from tests.doubles import tiny_learner

ROOT = Path(__file__).parents[2]
LOST = (math.nan, math.inf, -math.inf)


def strict(path: Path):
    """What a file holds, read as the standard has it."""

    def refused(word: str):
        raise AssertionError(f"{path} holds {word}")

    return json.loads(path.read_text(), parse_constant=refused)


@pytest.mark.parametrize("lost", LOST)
def test_a_lost_number_is_null_wherever_it_stands_and_told_once(lost):
    data = {"rows": [{"row": "human", "figures": {"fd": {"mean": 1.5, "low": lost, "high": lost}}}], "n": lost}
    found = finite(data)
    assert found["n"] is None
    assert found["rows"][0]["figures"]["fd"] == {"mean": 1.5, "low": None, "high": None}
    assert len(found["notes"]) == 2
    assert any("human" in note and "fd" in note and "low" in note for note in found["notes"])
    assert finite(found) == found
    assert data["n"] is lost  # what was given stays


def test_what_is_finite_is_written_as_before():
    data = {"a": [1, 2.5, "NaN", None, True], "b": {"c": 1e300}}
    assert finite(data) == data
    assert page(data).decode() == json.dumps(data, indent=1) + "\n"
    assert to_json((1, [math.inf])) == "[1, [null]]"


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_earlier_versions_wrote_is_read(tmp_path, word):
    (tmp_path / "old.json").write_text(f'{{"a": [{word}]}}')
    assert read_json(tmp_path / "old.json") == {"a": [None]}


def test_json_is_written_in_one_place_alone():
    names = {"metagen/tasks/glyphs.py", "metagen/tasks/splits.py"}  # which write names alone
    allowed = {"metagen/storage/strict_json.py", *names}
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("metagen", "experiments", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bjson\.dumps?\(", path.read_text())
    }
    assert found <= allowed


@pytest.mark.parametrize("lost", LOST)
def test_a_config_and_its_card_hold_no_lost_number(tmp_path, lost):
    info = {"training": {"best_val": lost}, "sampling": {"chosen": {}, "tried": [{"distance": lost}]}}
    save_model(tmp_path / "model", tiny_learner("maml", steps=1), info)
    config = strict(tmp_path / "model/config.json")
    assert config["info"]["training"]["best_val"] is None
    assert config["notes"]
    card = (tmp_path / "model/README.md").read_text()
    assert "NaN" not in card
    assert "Infinity" not in card


FIGURE = {"mean": 1.0, "low": 0.5, "high": 1.5, "tasks": 3}


@pytest.mark.parametrize("lost", [("mean", "low", "high"), ("low", "high"), ("low",)])
def test_a_figure_is_shown_without_what_is_null(lost):
    shown = short({**FIGURE, **dict.fromkeys(lost)})
    assert "nan" not in shown
    assert "None" not in shown
    assert ("1.00" in shown) == ("mean" not in lost)


@pytest.fixture(scope="module")
def judged(blobs, exported, tmp_path_factory):
    """A result of tasks whose images are all the same, as users' may be: some figures of theirs are 0 / 0."""
    place = tmp_path_factory.mktemp("alike")
    for task in sorted((blobs / "tasks").iterdir()):
        for image in range(6):
            write_atomically(place / "tasks" / task.name / f"{image}.png", (task / "0000.png").read_bytes())
    torch.manual_seed(0)
    save_extractor(place / "seen", Embedding(28, 1, (8, 8, 8), 8, 2), {})
    words = ["evaluate", "--model", str(exported), "--data.root", str(place / "tasks"), "--extractor"]
    words += [str(place / "seen"), "--data.split_file", str(blobs / "split.json"), "--data.queries", "4"]
    words += ["--data.shots", "2", "--baselines", "false", "--curve", "[0, 1]", "--trainer.accelerator", "cpu"]
    assert main([*words, "--out", str(place / "one")]) == 0
    return place / "one"


def test_a_result_is_strict_json_with_nulls_and_notes(judged):
    result = strict(judged / "result.json")
    lost = [
        f"{row['row']}/figures/{name}"
        for row in result["rows"]
        for name, figure in row["figures"].items()
        if figure["mean"] is None
    ]
    assert lost
    assert all(any(place in note for note in result["notes"]) for place in lost)
    assert "None" not in table(result, every=True)


@pytest.mark.parametrize("old", [False, True])
def test_results_with_nulls_are_compared_and_written(judged, tmp_path, old):
    for name in ("one", "two"):
        shutil.copytree(judged, tmp_path / name)
    if old:  # as before, with NaN in the file
        text = (judged / "result.json").read_text()
        (tmp_path / "one/result.json").write_text(text.replace("null", "NaN"))
    words = ["compare", str(tmp_path / "one"), str(tmp_path / "two")]
    for number, by in enumerate(
        name.partition("[")[0] for name in strict(judged / "result.json")["rows"][0]["figures"]
    ):
        assert main([*words, "--by", by, "--out", str(tmp_path / f"league-{number}")]) == 0
        strict(tmp_path / f"league-{number}/league.json")
        assert "nan" not in (tmp_path / f"league-{number}/league.md").read_text()


def test_a_null_of_one_result_is_no_figure_of_another(judged, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(judged, tmp_path / name)
    result = strict(judged / "result.json")
    human = next(row for row in result["rows"] if row["row"] == "human")["figures"]
    next(figure for figure in human.values() if figure["mean"] is None)["mean"] = 3.0
    (tmp_path / "two/result.json").write_text(json.dumps(result))
    assert main(["compare", str(tmp_path / "one"), str(tmp_path / "two")]) == 2


def test_a_league_puts_what_has_no_number_last(judged, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(judged, tmp_path / name)
    result = strict(judged / "result.json")
    adapted = next(row for row in result["rows"] if row["row"] == "adapted")["figures"]
    by = next(name for name in adapted if name.startswith("fd["))
    adapted[by]["mean"] = None
    (tmp_path / "one/result.json").write_text(json.dumps(result))
    found = league(read([tmp_path / "one", tmp_path / "two"]), by)
    assert [model["row"] for model in found["models"]] == ["two", "one"]


def test_a_curve_is_drawn_with_gaps():
    point = {"steps": 0, "mean": None, "low": None, "high": None}
    curve = [point, {"steps": 1, "mean": 1.0, "low": None, "high": 2.0}]
    rows = [{"row": "unadapted", "figures": {"query_loss": {"mean": None, "low": None, "high": None}}}]
    drawn = curve_png({"criterion": "query_loss", "unit": "nats", "tasks": 3, "curve": curve, "rows": rows})
    assert drawn.startswith(b"\x89PNG")


@pytest.mark.parametrize("figure", [{**FIGURE, "mean": None}, dict.fromkeys(FIGURE), {**FIGURE, "low": None}])
def test_pages_cope_with_null(figure):
    row: Any = {"row": "adapted", "figures": {"fd[a]": figure, scorecard.X: figure, scorecard.Y: figure}}
    assert "None" not in with_ends(figure)
    assert not [line for line in result_table([("a", row)], ("fd",)) if "None" in line]
    scorecard.point(Figure().add_subplot(), row, "a", "C0", "D")


@pytest.mark.parametrize("people", [0.0, 5.0])
@pytest.mark.parametrize("affine", [0.0, 2.0])
def test_where_people_never_copy_sampling_can_still_be_chosen(people, affine):
    plain = dict.fromkeys(FIGURES, 100.0)
    made, real, moved = plain | {"near_copies": 0.0}, plain | {"near_copies": people}, plain | {"fd": affine}
    assert distance_to_people(made, real, moved) == (50.0 if affine else math.inf)
    assert distance_to_people(made | {"near_copies": 5.0}, real, moved) >= distance_to_people(made, real, moved)
