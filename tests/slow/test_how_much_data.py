"""experiments/how_much_data.py from end to end, over tiny folders."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.projects import ROOT

WORDS = ("--tasks", "5", "6", "--images", "5", "--limit", "6", "--", "--data.episodes", "2")


def run(folder):
    places = ("--out", folder / "out", "--runs", folder / "runs")
    command = [sys.executable, ROOT / "experiments/how_much_data.py", *places, *WORDS]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)


def test_each_folder_has_its_row_and_nothing_is_made_twice(tmp_path):
    run(tmp_path)
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert [(row["tasks"], row["images"]) for row in result["runs"]] == [(5, 5), (6, 5)]
    page = (tmp_path / "out/README.md").read_text()
    assert [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")][2:5] == [
        "*omniglot*, no folder",
        "5",
        "6",
    ]
    assert (tmp_path / "out/plot.png").stat().st_size > 1000
    images = {size: len([*(tmp_path / "runs/data" / size).rglob("*.png")]) for size in ("5x5", "6x5")}
    assert images == {"5x5": 25, "6x5": 30}
    made = (tmp_path / "runs/5x5/export/model.safetensors").stat().st_mtime_ns
    run(tmp_path)
    assert (tmp_path / "runs/5x5/export/model.safetensors").stat().st_mtime_ns == made
    assert (tmp_path / "out/README.md").read_text() == page
