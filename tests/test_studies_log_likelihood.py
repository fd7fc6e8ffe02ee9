"""The study of the conditional log-likelihood: closed forms, nested supports, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F

from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation.studies import StudyContext, studies
from metagen.evaluation.studies import log_likelihood as study
from metagen.generators import Generator
from metagen.learners import MAML, Amortised, Joint, Learner
from metagen.tasks import Omniglot, TaskSet
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import Split
from tests.doubles import Blobs, tiny_generator, tiny_vae
from tests.test_omniglot import make


class Ink(Blobs):
    """Blobs of 0 and 1 alone; the test tasks are 6."""

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        return (super().images(task, which) > 100).to(torch.uint8) * 255


def held_out(
    learner: Learner, task_set: TaskSet, batch: int = 8, full: bool = False, split: str = "test"
) -> StudyContext:
    episodes = Episodes(task_set, 1, 1)
    numbers = episodes.held_out_numbers(split)
    return StudyContext(
        learner.requires_grad_(False).eval(), episodes, split, numbers, 0, ShardedTasks(batch=batch), full
    )


def means(result: dict) -> list[float]:
    return [row["mean"] for row in result["rows"]]


def silent(generator: Generator, *parts: str) -> None:
    for name, weight in generator.named_parameters():
        if name.startswith(parts):
            torch.nn.init.zeros_(weight)


@pytest.fixture
def few_samples(monkeypatch):
    monkeypatch.setattr(study, "SAMPLES", 20)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return tiny_vae(size=28)


def test_every_k_is_exact_where_one_weight_decides(few_samples, vae):
    """All pixels have one logit b, which one step of gradient descent on the first k images moves."""
    silent(vae, "decoder", "encoder.head")
    torch.nn.init.constant_(vae.decoder.convs[5].bias, -1.0)
    rate = 3e-3
    learner = MAML(vae, steps=1, rate=rate, adapted_params=("decoder.convs.5.bias",))
    result = studies["log_likelihood"].run(held_out(learner, Ink(images=11)))
    assert [row["shots"] for row in result["rows"]] == [0, 1, 2, 3, 4, 9]
    drawn = Episodes(Ink(images=11), 9, 2).of("test", range(6))
    support, query = (images.double().sum((-3, -2, -1)) for images in (drawn.support, drawn.query))  # ink, of 784
    start = torch.tensor(-1.0, dtype=torch.float64)
    for row in result["rows"]:
        k = row["shots"]
        moved = start - rate * (784 * start.sigmoid() - support[:, :k].mean(1)) if k else start.expand(6)
        exact = query * F.logsigmoid(moved)[:, None] + (784 - query) * F.logsigmoid(-moved)[:, None]
        assert row["mean"] == pytest.approx(exact.mean().item(), rel=1e-5)
        assert row["n"] == 6
        assert row["low"] < row["mean"] < row["high"]
    assert len(set(means(result))) == 6
    json.dumps(result)


def test_more_samples_come_to_the_truth_from_below(monkeypatch, vae):
    """The decoder ignores its latent, so the truth is known; the posterior does not know that."""
    silent(vae, "decoder")
    torch.nn.init.constant_(vae.decoder.convs[5].bias, -2.0)
    torch.nn.init.zeros_(vae.encoder.head.weight)
    vae.encoder.head.bias.data = torch.tensor([1.0, -1.0, 0.0, 0.0])  # KL 1: what one sample misses on average
    queries = Episodes(Ink(images=3), 1, 2).of("test", range(6)).query
    logits = torch.full_like(queries, -2.0)
    truth = -F.binary_cross_entropy_with_logits(logits, queries, reduction="none").sum((-3, -2, -1)).mean().item()
    gaps = []
    for samples in (1, 10, 200):
        monkeypatch.setattr(study, "SAMPLES", samples)
        gaps.append(truth - means(studies["log_likelihood"].run(held_out(Joint(vae), Ink(images=3))))[0])
    assert gaps[0] == pytest.approx(1, abs=0.6)
    assert gaps[0] > gaps[1] > gaps[2] > -0.1
    assert gaps[2] < 0.1


def test_without_shots_nothing_is_adapted_and_the_noise_is_the_same_for_every_k(few_samples, vae):
    adapting = studies["log_likelihood"].run(held_out(Joint(vae, rate=0.01, test_steps=2), Ink()))
    still = studies["log_likelihood"].run(held_out(Joint(vae, test_steps=0), Ink()))
    assert means(adapting)[0] == means(still)[0]
    assert len(set(means(still))) == 1
    assert len(set(means(adapting))) == len(adapting["rows"])
    for row in adapting["rows"]:
        assert row["gain"]["mean"] == pytest.approx(row["mean"] - means(adapting)[0], abs=1e-4)


def test_batches_of_one_and_of_four_come_to_the_same(few_samples, vae):
    one, four = (
        studies["log_likelihood"].run(held_out(Joint(vae, rate=0.01, test_steps=2), Ink(), batch)) for batch in (1, 4)
    )
    assert means(one) == pytest.approx(means(four), rel=1e-5)


def test_what_is_measured_goes_by_what_there_is(few_samples, monkeypatch, vae):
    monkeypatch.setattr(study, "TASKS", 4)
    quick, full = (
        studies["log_likelihood"].run(held_out(Joint(vae, test_steps=0), Ink(images=8), full=full))
        for full in (False, True)
    )
    for result, tasks, images in ((quick, 4, 2), (full, 6, 4)):
        assert [row["shots"] for row in result["rows"]] == [0, 1, 2, 3, 4]
        assert (result["images"], {row["n"] for row in result["rows"]}) == (images, {tasks})
    with pytest.raises(MetagenError, match="expected 3 images a task or more, got 2"):
        studies["log_likelihood"].run(held_out(Joint(vae), Ink(images=2)))


def test_published_values_stand_beside_their_own_tasks_alone(few_samples, tmp_path, vae):
    root, learner = make(tmp_path / "omniglot"), Joint(vae, test_steps=0)

    def published(split: str, **options) -> list[float | None]:
        result = studies["log_likelihood"].run(held_out(learner, Omniglot(root, binarise=True, **options), split=split))
        assert (result["source"] is None) == (result["rows"][0]["published"] is None)
        return [row["published"] for row in result["rows"]]

    assert published("test") == [-90.9, -82.8]
    assert published("val") == [None, None]
    other = tmp_path / "split.json"
    other.write_text(Split(("Latin/character01",), ("Greek/character01",), ("Greek/character02",)).to_json())
    assert published("test", split_file=str(other)) == [None, None]


class Untouchable(ShardedTasks):
    def over(self, *args):
        raise AssertionError("work was begun")


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (Amortised(tiny_generator("redraw", size=28)), "expected a model with a VAE, got Redraw"),
        (Joint(tiny_vae(size=28, likelihood="gaussian")), "expected a VAE with a bernoulli likelihood, got 'gaussian'"),
    ],
)
def test_a_model_without_a_likelihood_is_refused_before_any_work(learner, said):
    episodes = Episodes(Ink(), 1, 1)
    with pytest.raises(MetagenError, match=said):
        studies["log_likelihood"].run(StudyContext(learner, episodes, "test", [0], 0, Untouchable(), False))


def test_grey_images_are_refused(vae):
    with pytest.raises(MetagenError, match="grey ones in task 'blob-18'; binarise"):
        studies["log_likelihood"].run(held_out(Joint(vae), Blobs()))
