"""Files of earlier versions are read, and mean what they meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import metagen
from metagen.cli import main

EARLIER = sorted(path for path in (Path(__file__).parent / "data").iterdir() if path.is_dir())


@pytest.fixture(params=EARLIER, ids=lambda folder: folder.name)
def earlier(request, tmp_path, monkeypatch) -> Path:
    """A copy of the files of one version, which is the current folder."""
    folder = shutil.copytree(request.param, tmp_path / "earlier")
    monkeypatch.chdir(folder)
    return folder


def test_models_make_what_they_made(earlier):
    made = load_file("samples.safetensors")
    anew = metagen.load("run/export").adapt("images/sign 5", seed=2)
    torch.testing.assert_close(metagen.load("adapted").sample(4, seed=1), made["adapted"], rtol=0, atol=1e-4)
    torch.testing.assert_close(anew.sample(4, seed=3), made["newly adapted"], rtol=0, atol=1e-4)


def test_a_run_goes_on_to_the_end_it_had(earlier):
    expected = load_file("run/export/model.safetensors")
    shutil.rmtree("run/export")
    assert main(["fit", "--config", "config.yaml", "--ckpt_path", "last"]) == 0
    found = load_file("run/export/model.safetensors")
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-4)


def test_a_result_is_compared_with_one_of_today(earlier):
    words = ["--model", "run/export", "--data.root", "images", "--data.val", 2, "--data.test", 2]
    words += ["--data.queries", 4, "--extractor", "none", "--baselines", "false", "--curve", "[0,1]", "--limit", "null"]
    assert main(["evaluate", *map(str, words), "--out", "today"]) == 0
    assert main(["compare", "evaluation", "today", "--out", "league"]) == 0
    values, anew = (load_file(f"{name}/values.safetensors") for name in ("evaluation", "today"))
    assert anew.keys() == values.keys()
    assert all(torch.allclose(anew[name], value, rtol=1e-4) for name, value in values.items())
    then, now = (json.loads(Path(name, "result.json").read_text()) for name in ("evaluation", "today"))
    assert now["task_names"] == then["task_names"]
    league = json.loads(Path("league/league.json").read_text())
    assert len(league["models"]) == 2
