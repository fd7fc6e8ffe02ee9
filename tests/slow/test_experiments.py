"""Experiments that take longer, in processes of their own too; pages and a split that are made again as they stand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from metagen.storage.strict_json import read_json
from metagen.tasks.glyphs import FIXED_SPLIT
from tests.projects import ROOT
from tests.test_experiments import SLOW


@pytest.mark.parametrize("smoke", dict.fromkeys(SLOW.values()), ids=lambda smoke: smoke.__name__)
def test_it_runs(smoke, project):
    smoke(project)


def test_a_league_is_shared_by_processes(project):
    project.fit("omniglot-vae-joint")
    words = ["--seconds", 0.01, "--seeds", 1, "--tasks", 2, "--pilot", 2, "--pilot_tasks", 2, "--val_tasks", 2]
    words += ["--shots", 1, "--test_tasks", 3, "--curve", 0, "--workers", 2, "--only", "anil", "low-rank"]
    words = [sys.executable, str(ROOT / "experiments/league.py"), "--root", project.root, *map(str, words)]
    done = subprocess.run(
        words, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("anil", "low-rank"):
        assert len(project.read(f"results/league/rows/{name}.json")["search"]["cells"]) == 6


def test_what_a_meta_step_costs_is_measured_in_processes(project, monkeypatch):
    script = project.module("experiments.gans")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["--config", "configs/omniglot/figr.yaml", "--data.root", project.root]
    cost = script.cost(project.folder / "runs/a", words)
    assert cost == json.loads((project.folder / "runs/a/cost.json").read_text())
    assert -1 < cost < 1  # of some milliseconds, beside seconds that a start takes


@pytest.mark.parametrize(
    ("name", "folder"), [("league_page", "league"), ("league_page", "league-gan"), ("gans_page", "gans")]
)
def test_a_page_is_made_of_its_files_as_it_stands(project, name, folder):
    place = project.folder / "results" / folder
    shutil.copytree(ROOT / "results" / folder, place, ignore=shutil.ignore_patterns("README.md"))
    project.run(f"experiments.{name}", "--out", f"results/{folder}")
    assert (place / "README.md").read_text() == (ROOT / "results" / folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "folder"), [("experiments.search", "search"), ("benchmarks.learned_optimiser", "learned-optimiser")]
)
def test_a_page_has_the_figures_of_its_file(project, name, folder):
    result = read_json(ROOT / "results" / folder / "result.json")
    text = "\n".join(project.module(name).page_lines(result)) + "\n"
    assert text == (ROOT / "results" / folder / "README.md").read_text()


def test_the_fixed_split_of_glyphs_is_chosen_again_as_it_stands(project):
    project.run("experiments.glyph_split", "--out", "split.json")
    assert (project.folder / "split.json").read_text() == FIXED_SPLIT.read_text()
