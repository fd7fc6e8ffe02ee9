"""A scorecard page: every figure of the result files in its place, models that were measured otherwise refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from experiments.scorecard import PUBLISHED, main

MEANS = {
    "fd": {"human": 0.74, "copy": 9.0, "affine x1": 4.05, "affine x1.5": 5.0, "reconstruction": 1.5, "adapted": 3.25},
    "recognisability": {
        "human": 95.0,
        "copy": 100.0,
        "affine x1": 99.0,
        "affine x1.5": 97.0,
        "reconstruction": 94.0,
        "adapted": 96.5,
    },
    "diversity_relative": {
        "human": 100.0,
        "copy": 0.0,
        "affine x1": 55.0,
        "affine x1.5": 75.0,
        "reconstruction": 99.0,
        "adapted": 103.0,
    },
    "diversity": {
        "human": 0.6,
        "copy": 0.0,
        "affine x1": 0.33,
        "affine x1.5": 0.45,
        "reconstruction": 0.59,
        "adapted": 0.62,
    },
    "near_copies": {
        "human": 5.0,
        "copy": 100.0,
        "affine x1": 60.0,
        "affine x1.5": 30.0,
        "reconstruction": 6.0,
        "adapted": 8.0,
    },
    "copy_ratio": {
        "human": 1.0,
        "copy": 0.0,
        "affine x1": 0.6,
        "affine x1.5": 0.8,
        "reconstruction": 1.01,
        "adapted": 1.02,
    },
}


def told(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.5, "high": mean + 0.5, "tasks": 473}


def row(name: str, shift: float = 0.0) -> dict[str, object]:
    figures = {f"{figure}[x]": told(means[name] + shift) for figure, means in MEANS.items() if name in means}
    figures |= {"query_loss": told(175.5)} if name == "adapted" else {}
    return {"row": name, "steps": 0 if name == "adapted" else None, "diverged": None, "figures": figures}


def written(place: Path, name: str, shots: int, shift: float = 0.0, **changes: object) -> str:
    names = ("human", "copy", "affine x1", "affine x1.5", *(["reconstruction"] if name == "ours" else []), "adapted")
    less = {"row": "adapted - affine x1", "figures": {"fd[x]": {"mean": -0.8, "low": -1.25, "high": -0.35}}}
    model = {"weights_sha256": f"{name}{'0' * 12}", "sampling": {"chosen": {"guidance": 1.0, "contrast": 1.5}}}
    result = {
        "model": model,
        "data": {"task_set": "omniglot"},
        "extractors": [{"name": "x", "weights_sha256": "e"}],
        "split": "test",
        "split_sha256": "5" * 64,
        "tasks": 473,
        "task_names": [],
        "images_crc32": 1,
        "shots": shots,
        "queries": 15,
        "seed": 0,
        "made": 3311,
        "environment": {"hardware": "a machine"},
        "rows": [row(each, shift if each == "adapted" else 0.0) for each in names],
        "differences": [less],
        **changes,
    }
    path = place / f"{name}-{shots}.json"
    path.write_text(json.dumps(result))
    return str(path)


def write(ours: list[str], beside: list[str], out: Path) -> None:
    main([*ours, "--out", str(out), *(["--beside", *beside] if beside else [])])


def test_the_page_has_every_figure_by_shots_and_a_plane_beside_it(tmp_path):
    ours = [written(tmp_path, "ours", shots) for shots in (10, 1, 5)]
    theirs = [written(tmp_path, "redraw", shots, shift=7.0) for shots in (1, 5)]
    write(ours, theirs, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## 1 shot", "## 5 shots", "## 10 shots", "## The plane"
    ]  # fmt: skip
    assert "Sampled with guidance 1, contrast 1.5." in text.replace("\n", " ")
    tables = [
        [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("|")]
        for part in text.split("## ")[1:4]
    ]
    names = ["people", "reconstruction", "affine x1", "affine x1.5", "copy"]
    last = ["**omniglot**", "omniglot - affine x1"]
    for table, beside in zip(tables, (["omniglot-redraw"], ["omniglot-redraw"], []), strict=True):
        assert [cells[0] for cells in table[2:]] == [*names, *beside, *last]
    by_name = {cells[0]: cells[2:] for cells in tables[0]}
    assert by_name["**omniglot**"] == [
        "3.25 [2.75, 3.75]", "96.5 [96.0, 97.0]", "103.0 [102.5, 103.5]", "0.620 [0.120, 1.120]",
        "8.0 [7.5, 8.5]", "1.02 [0.52, 1.52]", "175.50 [175.00, 176.00]",
    ]  # fmt: skip
    assert by_name["omniglot-redraw"][0] == "10.25 [9.75, 10.75]"
    assert by_name["reconstruction"][0] == "1.50 [1.00, 2.00]"
    assert by_name["omniglot - affine x1"][0] == "-0.80 [-1.25, -0.35]"
    with Image.open(tmp_path / "plane.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 20


def test_published_models_are_placed_by_their_own_people():
    assert PUBLISHED["CFGDM"][0] == pytest.approx(0.936, abs=1e-3)
    assert PUBLISHED["VAE-NS"][0] == pytest.approx(1.357, abs=1e-3)


def test_what_was_measured_otherwise_is_refused(tmp_path):
    ours, other = written(tmp_path, "ours", 1), written(tmp_path, "redraw", 1, seed=1)
    with pytest.raises(SystemExit, match="1 shot: the results differ in seed"):
        write([ours], [other], tmp_path)
    with pytest.raises(SystemExit, match="are of several models"):
        write([ours, written(tmp_path, "redraw", 5)], [], tmp_path)
    with pytest.raises(SystemExit, match="one result for each number of shots"):
        write([ours, ours], [], tmp_path)
    assert not (tmp_path / "README.md").exists()
