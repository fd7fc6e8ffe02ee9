"""The study of the downstream gain: fresh real images help, noise and other classes' images do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import ClassVar

import pytest
import torch
from torch import nn

from metagen.core.seeding import torch_rng
from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation.studies import StudyContext, gain, studies
from metagen.generators import Generator
from metagen.learners import Amortised
from metagen.tasks import TaskSet
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import Split

WAYS, IMAGES, SHOTS, QUERIES = 6, 40, 2, 12


class Dots(TaskSet):
    """Each class is a pattern of 4 x 4 squares; every image shows it under much noise, so that two are not enough."""

    def __init__(self) -> None:
        super().__init__(28, 1)
        names = tuple(f"dots-{i}" for i in range(WAYS + 2))
        self.split = Split(names[:1], names[1:2], names[2:])

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        rng = torch_rng(int(task.split("-")[1]), "dots")
        pattern = (
            (torch.rand(1, 1, 4, 4, generator=rng) > 0.5).float().repeat_interleave(7, -1).repeat_interleave(7, -2)
        )
        noise = torch.rand(IMAGES, 1, 4, 4, generator=rng).repeat_interleave(7, -1).repeat_interleave(7, -2)
        images = (255 * (0.35 * pattern + 0.65 * noise)).to(torch.uint8)
        return images if which is None else images[list(which)]


class Oracle(Generator):
    """Knows all images: finds the class of its support, and gives other images of it, of another class, or noise."""

    players: ClassVar[tuple[str, ...]] = ("oracle",)
    uses_support: ClassVar[bool] = True
    size, channels = 28, 1

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.gives, self.weight = gives, nn.Parameter(torch.zeros(1))
        drawn = Episodes(Dots(), SHOTS + QUERIES, IMAGES - SHOTS - QUERIES).of("test", range(WAYS))
        self.known, self.fresh = drawn.support[:, 0], drawn.query

    def noise(self, n, draws):
        return {"which": draws.uniform(n), "pixels": draws.uniform(n, 1, 28, 28)}

    def context(self, support, mask):
        return (self.known - support[0]).abs().sum((1, 2, 3)).argmin()

    def loss(self, player, images, noise, context):
        return self.weight.sum()

    def sample(self, noise, context):
        if self.gives == "noise":
            return noise["pixels"]
        images = self.fresh.roll(1, 0) if self.gives == "others" else self.fresh
        return images[context][(noise["which"] * images.shape[1]).long()]


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"STEPS": 40, "BATCH": 16, "CLASS_DRAWS": 2, "WIDTHS": (8, 16, 16)}.items():
            patch.setattr(gain, name, value)
        yield


def held_out(gives: str, tasks: int = WAYS, sharded: ShardedTasks | None = None, full: bool = False) -> StudyContext:
    learner = Amortised(Oracle(gives)).requires_grad_(False).eval()
    return StudyContext(
        learner, Episodes(Dots(), SHOTS, QUERIES), "test", range(tasks), 0, sharded or ShardedTasks(), full
    )


@pytest.fixture(scope="module")
def found(_quick):
    return {gives: studies["gain"].run(held_out(gives)) for gives in ("fresh", "others", "noise")}


def test_fresh_real_images_help_and_nothing_else_does(found):
    accuracy = {
        gives: {arm: figure["mean"] for arm, figure in result["accuracy"].items()} for gives, result in found.items()
    }
    for arm in ("real", "real + affine"):
        assert 100 / WAYS + 20 < accuracy["fresh"][arm] < 85  # two images teach something, and not everything
        assert len({each[arm] for each in accuracy.values()}) == 1  # the model has no part in these
    for arm in ("real + generated", "real + affine + generated"):
        assert accuracy["fresh"][arm] > accuracy["fresh"]["real"] + 8
        assert accuracy["noise"][arm] < accuracy["noise"]["real"] + 4
        assert accuracy["others"][arm] < accuracy["others"]["real"] - 30


def test_differences_are_paired_by_draw(found):
    result = found["fresh"]
    assert len(result["differences"]) == 3
    for name, difference in result["differences"].items():
        one, other = (result["accuracy"][arm.strip("()")] for arm in name.split(" - "))
        assert difference["mean"] == pytest.approx(one["mean"] - other["mean"])
        assert (difference["n"], one["n"]) == (2, 2)
        assert difference["low"] <= difference["mean"] <= difference["high"]
    assert (result["ways"], result["limited_by_tasks"], result["shots"]) == (WAYS, True, SHOTS)
    json.dumps(result)


def test_the_interval_is_students():
    """Of 1, 2, 3, 4: mean 2.5, standard error 0.6455, and t = 3.1824 for three degrees of freedom."""
    figure = gain._figure(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    assert (figure["n"], figure["mean"]) == (4, 2.5)
    assert (figure["low"], figure["high"]) == pytest.approx((2.5 - 2.0543, 2.5 + 2.0543), abs=1e-3)


@pytest.fixture
def arms(monkeypatch):
    """What each arm of two draws was to be trained with: weights, images and classes; nothing is trained."""
    seen = []

    def train(network, batches):
        images, classes = map(torch.stack, zip(*batches, strict=True))
        seen.append(({name: w.clone() for name, w in network.state_dict().items()}, images, classes))

    monkeypatch.setattr(gain, "_train", train)
    studies["gain"].run(held_out("fresh"))
    return [dict(zip(gain.ARMS, seen[at : at + 4], strict=True)) for at in (0, 4)]


def test_all_arms_begin_alike_and_see_the_same_classes_in_the_same_order(arms):
    for draw in arms:
        weights, _, classes = draw["real"]
        for other, _, theirs in draw.values():
            assert all(torch.equal(w, other[name]) for name, w in weights.items())
            assert torch.equal(classes, theirs)
    assert not torch.equal(arms[0]["real"][2], arms[1]["real"][2])
    assert not torch.equal(arms[0]["real"][0]["head.weight"], arms[1]["real"][0]["head.weight"])


def test_half_of_each_batch_is_generated_and_no_query_is_learned_from(arms):
    episode = Episodes(Dots(), SHOTS, QUERIES).of("test", range(WAYS))

    def known(images, where):
        return (images.flatten(0, 1)[:, None] == where.flatten(0, 1)).flatten(2).all(-1).any(-1).unflatten(0, (40, -1))

    fresh = Oracle("fresh").fresh
    for draw in arms:
        images = {arm: each[1] for arm, each in draw.items()}
        assert known(images["real"], episode.support).all()
        assert not known(images["real + affine"], episode.support).any()
        for arm, reals in (("real + generated", "real"), ("real + affine + generated", "real + affine")):
            assert torch.equal(images[arm][:, :8], images[reals][:, :8])
            assert known(images[arm][:, 8:], fresh).all()
            assert not known(images[arm], episode.query).any()


def test_every_draw_is_kept_by_itself(arms, tmp_path):
    sharded = ShardedTasks(tmp_path / "unfinished", {}, batch=8)
    result = studies["gain"].run(held_out("fresh", sharded=sharded))
    assert len(list((tmp_path / "unfinished").glob("gain-*.safetensors"))) == 2
    assert sharded.batch == 8
    assert result == studies["gain"].run(held_out("fresh"))


def test_a_full_study_asks_every_image_that_is_no_shot(arms, monkeypatch):
    monkeypatch.setattr(gain, "ALL_CLASS_DRAWS", 3)
    result = studies["gain"].run(held_out("fresh", full=True))
    assert (result["queries"], result["accuracy"]["real"]["n"]) == (IMAGES - SHOTS, 3)


def test_classes_are_as_many_as_are_asked_for_if_there_are(arms, monkeypatch):
    monkeypatch.setattr(gain, "WAYS", 4)
    result = studies["gain"].run(held_out("fresh"))
    assert (result["ways"], result["limited_by_tasks"]) == (4, False)
    with pytest.raises(MetagenError, match="expected 2 tasks or more"):
        studies["gain"].run(held_out("fresh", tasks=1))
