"""A generator, learner, metric and task set are added by a file, a line and a config each: see CONTRIBUTING.md."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FILES = {
    "generators/sketch.py": '''
"""One picture with strokes along a latent direction."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from metagen.core.philox import Draws
from metagen.generators.base import Context, Generator, Noise


class Sketch(Generator):
    """Logits of one picture, moved along a direction by a latent."""

    players: ClassVar[tuple[str, ...]] = ("sketch",)

    def __init__(self, size: int = 28, channels: int = 1, reach: float = 0.1) -> None:
        super().__init__()
        self.size, self.channels, self.reach = size, channels, reach
        self.picture = nn.Parameter(torch.zeros(channels, size, size))
        self.stroke = nn.Parameter(torch.randn(channels, size, size))

    def noise(self, n: int, draws: Draws) -> Noise:
        """Normal latents [..., n]."""
        return {"latent": draws.normal(n)}

    def loss(self, player: str, images: torch.Tensor, noise: Noise, context: Context) -> torch.Tensor:
        """Cross entropy, nats per image."""
        loss = F.binary_cross_entropy_with_logits(self._logits(noise), images, reduction="none")
        return loss.sum((-3, -2, -1)).mean()

    def sample(self, noise: Noise, context: Context) -> torch.Tensor:
        """The pictures [n, C, H, W] themselves."""
        return self._logits(noise).sigmoid()

    def _logits(self, noise: Noise) -> torch.Tensor:
        return self.picture + self.reach * noise["latent"][:, None, None, None] * self.stroke
''',
    "learners/gradient/steady.py": '''
"""First-order MAML under another name."""

from metagen.adaptation import FirstOrder
from metagen.learners.fixed_rate import FixedRate


class Steady(FixedRate):
    """The query gradient where adaptation ends."""

    meta_gradient = FirstOrder()
''',
    "metrics/offset.py": '''
"""The distance of mean features from those of real images."""

import torch

from metagen.metrics.base import RealFeatures, TaskColumn


class Offset(TaskColumn):
    """|mean of samples - mean of reference| of each task."""

    best = "low"

    def values(self, samples: torch.Tensor, real: RealFeatures) -> torch.Tensor:
        """[T]."""
        return (samples.mean(-2) - real.reference.mean(-2)).norm(dim=-1).double()
''',
    "tasks/bars.py": '''
"""Bars at places of their own."""

from collections.abc import Sequence

import torch

from metagen.tasks.base import TaskSet
from metagen.tasks.splits import Split


class Bars(TaskSet):
    """Task i has a bar in row i, longer in each image."""

    def __init__(self, size: int = 28, channels: int = 1, invert: bool = False, images_each: int = 12) -> None:
        super().__init__(size, channels, invert)
        self.images_each = images_each
        names = tuple(f"bar-{row}" for row in range(24))
        self.split = Split(names[:12], names[12:18], names[18:])

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        """See `TaskSet`."""
        images = torch.zeros(self.images_each, self.channels, self.size, self.size, dtype=torch.uint8)
        for number, image in enumerate(images):
            image[:, int(task.removeprefix("bar-")), 2 : 10 + number] = 255
        images = images if which is None else images[list(which)]
        return 255 - images if self.invert else images
''',
}

# The lines of registration: in each file, a line of it and what goes before that line.
LINES = {
    "generators/__init__.py": (
        ("generators: Registry[Generator]", "from metagen.generators.sketch import Sketch\n"),
        ("    vae=VAE,", "    sketch=Sketch,\n"),
    ),
    "learners/__init__.py": (
        ("learners: Registry[Learner]", "from metagen.learners.gradient.steady import Steady\n"),
        ("    transfer=Transfer,", "    steady=Steady,\n"),
    ),
    "metrics/__init__.py": (
        ("metrics: dict[str, Column]", "from metagen.metrics.offset import Offset\n"),
        ('    "mifid":', '    "offset": Offset(),\n'),
    ),
    "tasks/__init__.py": (("task_sets: Registry[TaskSet]", "from metagen.tasks.bars import Bars\n"),),
}

CONFIG = """
run_dir: run
data: {task_set: bars, shots: 2, queries: 4, tasks: 4, val_tasks: 4, episodes: 4}
model:
  generator: {class_path: Sketch, init_args: {reach: 0.2}}
  learner: {class_path: Steady, init_args: {steps: 2, rate: 0.1}}
trainer: {accelerator: cpu, enable_progress_bar: false, val_check_interval: 2}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A copy of the package with one of each added, and a config beside it."""
    root = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "metagen", root / "metagen", ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ("configs", "assets"):
        (root / kind).symlink_to(ROOT / kind)
    for name, text in FILES.items():
        (root / "metagen" / name).write_text(text.lstrip())
    for name, lines in LINES.items():
        path = root / "metagen" / name
        text = path.read_text()
        for line, new in lines:
            assert text.count(line) == 1, line
            text = text.replace(line, new + line)
        path.write_text(text)
    path = root / "metagen/tasks/__init__.py"  # whose registry is one line
    path.write_text(path.read_text().replace('"task set", ', '"task set", bars=Bars, '))
    (root / "mine.yaml").write_text(CONFIG)
    return root


def run(place: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "metagen.cli", *words], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_was_added_trains_adapts_samples_and_is_measured(place):
    run(place, "fit", "--config", "mine.yaml")
    config = json.loads((place / "run/export/config.json").read_text())
    assert config["generator"] == {"name": "sketch", "size": 28, "channels": 1, "reach": 0.2}
    assert config["learner"]["name"] == "steady"
    assert config["info"]["data"]["task_set"] == "bars"
    words = ("--extractor", "glyphs-report", "--metrics", "[fd,offset]", "--data.queries", "8", "--curve", "[0,1]")
    table = run(place, "evaluate", "--model", "run/export", "--out", "judged", "--baselines", "false", *words)
    assert "offset" in table
    rows = {row["row"]: row for row in json.loads((place / "judged/result.json").read_text())["rows"]}
    assert rows["adapted"]["figures"]["offset[glyphs-report]"]["mean"] > 0
    assert rows["adapted"]["figures"]["query_loss"]["mean"] < rows["unadapted"]["figures"]["query_loss"]["mean"]


def test_each_takes_at_most_three_files(place):
    for name in FILES:
        kind = name.split("/")[0]
        assert len([name, *(line for line in LINES if line.startswith(kind)), "mine.yaml"]) <= 3


def test_its_names_are_offered_where_one_is_mistyped(place):
    environment = {**os.environ, "PYTHONPATH": str(place)}
    words = [sys.executable, "-m", "metagen.cli", "fit", "--config", "mine.yaml", "--model.learner", "Stedy"]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean Steady?" in done.stderr
