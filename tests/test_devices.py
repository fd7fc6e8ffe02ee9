"""What runs anywhere gives the same anywhere: on the device of `pytest --device` and in mixed precision."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch.utils._pytree import tree_leaves

import metagen
from metagen.adaptation import task_batch
from metagen.cli import main
from metagen.core.warps import read_at
from metagen.evaluation import baselines
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.learners import MAML, Amortised, learners
from metagen.metrics import frechet_distance, inception_score, kernel_distance, precision_recall
from metagen.metrics.extractors import Embedding
from metagen.metrics.torchmetric import FrechetDistance
from metagen.model import Model
from metagen.tasks.episodes import Episodes
from tests.doubles import VARIANTS, Blobs, pairs, tiny_generator, tiny_learner, tiny_vae

CODES = ("tokenizer", "token_vae")  # what is rounded to a code may be the next one on another device
EACH = {learner: (learner, generator) for learner, generator in reversed(pairs())}.values()  # its first generator
MIXED = sorted({*EACH, *(pair for pair in pairs() if pair[0] in ("maml", "joint", "amortised"))})
MIXED_PRECISION = ("--trainer.precision", "bf16-mixed")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def as_on_cuda():
    """Make autocast on the CPU reach the convolutions within `torch.func`, as it does on CUDA, and nothing else."""
    key = torch._C.DispatchKey.AutocastCPU

    def convolution(*args):
        lowered = [a.to(torch.bfloat16) if getattr(a, "dtype", None) is torch.float32 else a for a in args]
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(key)):
            return torch.ops.aten.convolution(*lowered)

    with torch.library._scoped_library("aten", "IMPL") as library:
        library.impl("convolution", convolution, "AutocastCPU")
        yield


def images(*shape, seed=1):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def meta_gradient(learner, device="cpu", execution="vmap"):
    """One meta-gradient on three tasks, flat and on the CPU."""
    learner, generator = learner.to(device).train(), learner.generator
    given = images(2, 7, generator.channels, generator.size, generator.size).to(next(learner.parameters()))
    batch = task_batch(learner, given[:, :3], given[:, 3:], (1, "train", 0), range(2))
    meta = {name: w.detach() for name, w in learner.meta_parameters().items()}
    return learner.meta_gradient(learner, meta, batch, execution).gradients


def flat(gradients):
    return torch.cat([gradients[name].double().cpu().flatten() for name in sorted(gradients)])


# another device


@pytest.mark.parametrize("name", learners)
def test_a_meta_gradient_is_that_of_a_cpu(name, device):
    learner = tiny_learner(name, double=True, steps=2, rate=0.01)
    expected = flat(meta_gradient(learner))
    torch.testing.assert_close(flat(meta_gradient(learner, device)), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_adapted_model_samples_where_it_lies_what_a_cpu_samples(name, device):
    model = Model(MAML(tiny_generator(name), steps=2, rate=0.01), {})
    support = images(3, model.learner.generator.channels, 8, 8)
    expected = model.adapt(support).sample(4, seed=1)
    model.learner.to(device)
    found = model.adapt(support).sample(4, seed=1)
    assert found.device.type == device.type
    assert found.shape == expected.shape
    if name not in CODES:
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-3)


def test_a_model_goes_to_a_device_and_back(tmp_path, device):
    model = Model(Amortised(tiny_generator("redraw")), {})
    model.save(tmp_path / "base")
    there = metagen.load(tmp_path / "base", device=str(device))
    there.adapt(images(3, 1, 8, 8)).save(tmp_path / "mine")
    back = metagen.load(tmp_path / "mine")
    assert back.model.device.type == "cpu"
    torch.testing.assert_close(back.sample(3), model.adapt(images(3, 1, 8, 8)).sample(3), rtol=0, atol=1e-4)
    log_prob = metagen.load(tmp_path / "mine", device=str(device)).log_prob(images(2, 1, 8, 8).round(), 20)
    torch.testing.assert_close(log_prob.cpu(), back.log_prob(images(2, 1, 8, 8).round(), 20), rtol=1e-3, atol=1e-2)


def test_reading_between_pixels_is_that_of_grid_sample_there(device):
    pictures = F.pad(images(4, 3, 26, 26), (1, 1, 1, 1)).to(device)
    places = (3 * images(4, 28, 28, 2, seed=2) - 1.5).to(device)
    theirs = F.grid_sample(pictures, places, mode="bicubic", padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(read_at(pictures, places), theirs, rtol=0, atol=2e-6)


def test_metrics_are_those_of_a_cpu(device):
    a, b = images(40, 6).double(), images(30, 6, seed=2).double() ** 2
    for metric in (frechet_distance, kernel_distance, precision_recall):
        found, expected = (tree_leaves(metric(a.to(at), b.to(at))) for at in (device, "cpu"))
        torch.testing.assert_close([x.cpu() for x in found], expected, rtol=1e-7, atol=1e-9)
    there, here = (inception_score(a.softmax(1).to(at)) for at in (device, "cpu"))
    torch.testing.assert_close(there.cpu(), here)


def test_the_metric_of_a_training_loop_is_that_of_a_cpu(device):
    def value(at):
        torch.manual_seed(0)
        metric = FrechetDistance(Embedding(8, 1, (8, 8, 8), 4, 5).requires_grad_(False)).to(at)
        metric.update(images(9, 1, 8, 8).to(at), real=True)
        metric.update(images(9, 1, 8, 8, seed=2).to(at) ** 2, real=False)
        return metric.compute().cpu()

    torch.testing.assert_close(value(device), value("cpu"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["vae", "redraw"])
def test_a_scorecard_is_that_of_a_cpu(device, kind, monkeypatch):
    """With the row *scratch*, which is fine-tuned where the learner lies."""
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-3, 1), (1e-3, 2)))
    learner = MAML(tiny_generator(kind, size=28), steps=1, rate=1e-3).double().requires_grad_(False).eval()

    def rows(at):
        result = measure(
            learner.to(at), Episodes(Blobs(), 2, 3), EvaluationOptions("val", 4, curve=(0, 1), baselines=True)
        ).result
        return {row["row"]: row["figures"]["query_loss"]["mean"] for row in result["rows"]}

    found, expected = rows(device), rows("cpu")
    assert "scratch" in expected
    assert found == pytest.approx(expected, rel=1e-6)
    assert all(math.isfinite(mean) for mean in found.values())


# mixed precision


@pytest.mark.parametrize(("learner", "generator"), MIXED)
def test_a_meta_gradient_in_mixed_precision_points_where_it_should(learner, generator, device, as_on_cuda):
    made = tiny_learner(learner, generator, steps=2, rate=0.01)
    exact = flat(meta_gradient(made, device))
    with torch.autocast(device.type, torch.bfloat16):
        gradients = meta_gradient(made, device)
    assert {g.dtype for g in gradients.values()} == {torch.float32}
    assert F.cosine_similarity(exact, flat(gradients), 0) > 0.98


@pytest.mark.parametrize("execution", ["vmap", "loop"])
def test_convolutions_are_in_the_lower_precision_task_by_task_too(execution, device, as_on_cuda):
    made = MAML(tiny_vae(), steps=1, rate=0.01)
    exact = flat(meta_gradient(made, device, execution))
    with torch.autocast(device.type, torch.bfloat16):
        mixed = flat(meta_gradient(made, device, execution))
    assert F.cosine_similarity(exact, mixed, 0) > 0.98
    assert not torch.allclose(exact, mixed, rtol=1e-4, atol=0)


def test_double_precision_is_left_alone_by_autocast(device, as_on_cuda):
    made = MAML(tiny_vae().double(), steps=1, rate=0.01)
    exact = flat(meta_gradient(made, device))
    with torch.autocast(device.type, torch.bfloat16):
        under_autocast = flat(meta_gradient(made, device))
    room = 1e-12 * float(exact.abs().max())  # cuDNN's convolutions add in any order
    torch.testing.assert_close(under_autocast, exact, rtol=1e-9, atol=room)


# the verbs


REDRAW = ("--model.generator", "Redraw", "--model.generator.widths", "[2, 4]", "--model.learner", "Amortised")


@pytest.mark.parametrize(
    "options", [(), MIXED_PRECISION, (*REDRAW, *MIXED_PRECISION)], ids=["vae", "vae-mixed", "redraw-mixed"]
)
def test_fit_evaluate_and_adapt_run_there(fit, blobs, tmp_path, device, accelerator, as_on_cuda, monkeypatch, options):
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-3, 1), (1e-3, 2)))
    there, export, card = ("--trainer.accelerator", accelerator), tmp_path / "run" / "export", tmp_path / "card"
    assert fit(tmp_path / "run", *options, *there, "--data.episodes", "3") == 0
    weights = load_file(export / "model.safetensors").values()
    assert all(w.dtype == torch.float32 and w.isfinite().all() for w in weights)
    data = ("--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json"), "--data.queries", "4")
    words = ("--extractor", "none", "--limit", "3", "--curve", "[]", "--baselines", "--out", str(card))
    assert main(["evaluate", "--model", str(export), *data, *there, *words]) == 0
    assert json.loads((card / "result.json").read_text())["rows"]
    adapted = metagen.load(export, device=str(device)).adapt(images(2, 1, 28, 28))
    assert adapted.sample(3).isfinite().all()
