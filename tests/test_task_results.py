"""What is measured of held-out tasks has fields in memory, and names that cannot collide where it is kept."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from metagen.distributed.sharding import ShardedTasks
from metagen.evaluation import baselines
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.evaluation.task_results import TaskResults, from_tensors, to_tensors
from metagen.learners import Reptile
from metagen.metrics import Extractor
from metagen.tasks.episodes import Episodes
from tests.doubles import Blobs, tiny_vae

NAMES = ["loss", "losses", "seconds", "diverged", "curve", "features", "checksums", "images", "tasks"]


class Half(Extractor):
    """Sees images at a quarter of their size: pixels as features."""

    size, channels = 28, 1

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


def test_tensors_become_the_results_that_they_were():
    whole = TaskResults(
        torch.arange(3),
        losses={"adapted": torch.rand(3), "another task's support": torch.rand(3)},
        seconds={"adapted": torch.rand(3)},
        diverged={"adapted": torch.tensor([True, False, False])},
        curve={0: torch.rand(3), 10: torch.rand(3)},
        features={name: {"human": torch.rand(3, 2, 4), "a/b": torch.rand(3, 2, 4)} for name in NAMES},
    )
    tensors = to_tensors(whole)
    assert len(tensors) == 1 + 2 + 1 + 1 + 2 + 2 * len(NAMES)
    again = from_tensors(dict(sorted(tensors.items())))
    assert {field.name: [*getattr(again, field.name)] for field in fields(whole)[1:]} == {
        field.name: sorted(getattr(whole, field.name)) for field in fields(whole)[1:]
    }
    assert to_tensors(again).keys() == tensors.keys()
    assert all(torch.equal(values, tensors[name]) for name, values in to_tensors(again).items())


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_an_extractor_changes_no_figure(name, monkeypatch, tmp_path):
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-2, 1),))
    torch.manual_seed(0)
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.02).requires_grad_(False)
    options, episodes = EvaluationOptions(limit=3, curve=(0, 1), baselines=True), Episodes(Blobs(), 2, 8)

    def figures(extractor):
        sharded = ShardedTasks(tmp_path / extractor, {}, batch=2)
        scores, values = measure(learner, episodes, options, {extractor: Half()}, sharded=sharded)
        rows = [{**row, "seconds": None} for row in scores["rows"]]
        bare = str([rows, scores["differences"], scores["curve"]]).replace(f"[{extractor}]", "")
        return bare, {key.replace(f"[{extractor}]", ""): value.tolist() for key, value in values.items()}

    assert figures(name) == figures("plain")
