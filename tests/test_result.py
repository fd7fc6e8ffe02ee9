"""result.json has the keys of its schema, in this version and in those before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metagen.errors import MetagenError
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.learners import Reptile
from metagen.report.result import CurvePoint, Difference, Result, Row, Scores, TaskEstimate, read_result, row_named
from metagen.tasks.episodes import Episodes
from tests.doubles import Blobs, tiny_vae

EARLIER = sorted((Path(__file__).parent / "data").glob("*/evaluation/result.json"))


def keys(schema) -> set[str]:
    return set(schema.__annotations__)


def check(result) -> None:
    for row in result["rows"]:
        assert row.keys() == keys(Row)
    for row in result["differences"]:
        assert row.keys() == keys(Difference)
    for point in result["curve"]:
        assert point.keys() == keys(CurvePoint) - {"clear"}
    for row in [*result["rows"], *result["differences"]]:
        assert all(figure.keys() == keys(TaskEstimate) - {"clear"} for figure in row["figures"].values())


def test_what_is_measured_has_the_keys_of_the_schema():
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01).requires_grad_(False)
    options = EvaluationOptions(limit=3, curve=(0, 1), baselines=False)
    scores = measure(learner, Episodes(Blobs(), 2, 3), options).result
    assert scores.keys() == keys(Scores)
    check(scores)
    assert row_named(scores["rows"], "adapted") == scores["rows"][-1]
    assert row_named(scores["rows"], "scratch") is None


@pytest.mark.parametrize("path", EARLIER, ids=lambda path: path.parts[-3])
def test_files_of_earlier_versions_have_them_too(path):
    result = read_result(path)
    assert keys(Result) - {"notes"} <= result.keys()
    check(result)
    assert result == json.loads(path.read_text())


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(MetagenError, match=r"result.json: cannot be read \(JSONDecodeError\); evaluate again"):
        read_result(tmp_path / "result.json")
