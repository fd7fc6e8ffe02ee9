"""A small copy of this project, for its experiments to run in: what they read is small, what they write lies there."""

from __future__ import annotations

import importlib
import json
import math
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageDraw

from experiments.runs import config_of
from metagen.cli import main
from metagen.core.registry import options_of
from metagen.embeddings import EmbeddingGAN, embedder
from metagen.evaluation import baselines
from metagen.generators import generators
from metagen.tasks.omniglot import VAL_ALPHABETS
from tests.configs import CONFIGS, written

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts"
PROGRAMS = [*(ROOT / "experiments").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
# Of a few alphabets the first characters, by the folder they are in.
ALPHABETS = {
    "images_background": {"Greek": 5, "Latin": 5, VAL_ALPHABETS[0]: 3},
    "images_evaluation": {"Tengwar": 3, "ULOG": 3},
}
PEOPLE = 20
SMALL = {"latent": 4, "code": 3, "hidden": 8}  # of generators


def draw_characters(root: Path) -> None:
    """Characters of three strokes, each drawn by as many people as Omniglot has, no two drawings alike."""
    for folder, alphabets in ALPHABETS.items():
        for alphabet, count in alphabets.items():
            for number in range(1, count + 1):
                character = root / folder / alphabet / f"character{number:02d}"
                character.mkdir(parents=True)
                rng = random.Random(f"{alphabet} {number}")  # noqa: S311
                strokes = [rng.uniform(20, 85) for _ in range(8)]
                for person in range(1, PEOPLE + 1):
                    image = Image.new("1", (105, 105), 1)
                    ImageDraw.Draw(image).line([x + rng.uniform(-6, 6) for x in strokes], fill=0, width=5)
                    image.save(character / f"{number:04d}_{person:02d}.png")


def draw_people(root: Path, people: int, photographs: int) -> None:
    """A folder of photographs a person, each of them noise."""
    for person in range(people):
        (root / f"person-{person:02d}").mkdir(parents=True)
        for number in range(photographs):
            pixels = np.random.default_rng([person, number]).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(root / f"person-{person:02d}" / f"{number}.png")


def write_small(config: Path, place: Path) -> None:
    """Write a config with a network and a run that are as small as they get."""
    options = written(config)
    model = options["model"]
    known = options_of(next(cls for cls in generators.classes if cls.__name__ == model["generator"]["class_path"]))
    given = model["generator"].setdefault("init_args", {})
    given |= {name: size for name, size in SMALL.items() if name in known}
    given |= {"widths": [4] * len(given.get("widths", "ab"))} if "widths" in known else {}
    learner = model["learner"].get("init_args", {})
    learner |= {name: min(2, learner[name]) for name in ("steps", "test_steps") if name in learner}
    options["data"] |= {"tasks": 2, "val_tasks": 2, "episodes": 2}
    options["trainer"] = {"val_check_interval": 2, "accelerator": "cpu", "enable_progress_bar": False}
    options["samples"] = {"tasks": 1, "generated": 1}
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(yaml.safe_dump(options))


class HereAndNow:
    """A pool of processes that is this one."""

    def __init__(self, workers: int, maxtasksperchild: int) -> None: ...

    def __enter__(self) -> HereAndNow:
        return self

    def __exit__(self, *error: object) -> None: ...

    def starmap(self, function, given, chunksize=1):
        return [function(*each) for each in given]

    def apply(self, function, given):
        return function(*given)

    def apply_async(self, function, given):
        found = function(*given)
        return SimpleNamespace(get=lambda: found)


@dataclass
class Project:
    """The copy, which is the current folder.

    Attributes:
        folder: of the project.
        root: of a small Omniglot.
    """

    folder: Path
    root: str
    patch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]

    def module(self, name: str) -> ModuleType:
        """An experiment or a benchmark, which does in this process what it would share by several."""
        module = importlib.import_module(name)
        if hasattr(module, "multiprocessing"):
            alone = SimpleNamespace(get_context=lambda kind: SimpleNamespace(Pool=HereAndNow))
            self.patch.setattr(module, "multiprocessing", alone)
        return module

    def run(self, name: str, *words: object) -> str:
        """Run an experiment or a benchmark; what it printed."""
        self.capsys.readouterr()
        self.module(name).main([str(word) for word in words])
        return self.capsys.readouterr().out

    def metagen(self, *words: object) -> None:
        """Run a verb."""
        assert main([str(word) for word in words]) == 0, self.capsys.readouterr().err

    def fit(self, *names: str) -> None:
        """Train by configs over Omniglot, into runs/NAME/export."""
        for name in names:
            self.metagen("fit", "--config", config_of(name), "--data.root", self.root)

    def read(self, place: str | Path) -> Any:
        """A JSON file, which holds numbers, and each of them finite."""
        found = json.loads((self.folder / place).read_text())
        assert all(math.isfinite(number) for number in numbers(found))
        return found

    def table(self, place: str | Path) -> list[str]:
        """The first cell of every line of a page's tables."""
        lines = (self.folder / place).read_text().splitlines()
        return [line.split("|")[1].strip() for line in lines if line.startswith("|")]

    def is_picture(self, place: str) -> bool:
        """Whether a file holds an image of more than one colour."""
        with Image.open(self.folder / place) as image:
            return len(image.convert("RGB").getcolors(1 << 24) or []) > 1


def accepts(words: Sequence[str], model: Path) -> bool:
    """Whether metagen takes such words, without doing what they say; of a model that stands for every one.

    What names a file that a run would have left, or a number (N), is put in its place.
    """
    stands = {"--model": str(model), "--config": "quickstart", "--steps": "3"}
    known = [
        stands[before] if before == "--model" or (before in stands and re.match(r"runs/|[A-Z]+$", word)) else word
        for before, word in zip(["", *words], words, strict=False)
    ]
    try:
        return main([*known, "--dry-run"]) == 0
    except SystemExit as stop:
        return not stop.code


def numbers(found: Any) -> Iterator[float]:
    """Every number in a JSON file."""
    if isinstance(found, dict | list):
        for each in found.values() if isinstance(found, dict) else found:
            yield from numbers(each)
    elif isinstance(found, int | float):
        yield found


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The contents of every copy: small configs, and beside it a small Omniglot."""
    folder = tmp_path_factory.mktemp("original")
    draw_characters(folder / "omniglot")
    for config in CONFIGS:
        write_small(config, folder / "project" / config.relative_to(ROOT))
    return folder


@pytest.fixture
def project(original, tmp_path, monkeypatch, capsys):
    """A small copy of this project as the current folder."""
    folder, threads = tmp_path / "project", torch.get_num_threads()
    shutil.copytree(original / "project", folder)
    monkeypatch.chdir(folder)
    for grid in ("SCRATCH_GRID", "JOINT_GRID"):
        monkeypatch.setattr(baselines, grid, ((1e-2, 1),))
    monkeypatch.setattr(embedder, "EmbeddingGAN", partial(EmbeddingGAN, steps=3))
    yield Project(folder, str(original / "omniglot"), monkeypatch, capsys)
    torch.set_num_threads(threads)
