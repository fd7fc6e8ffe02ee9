"""Task augmentation: one map a train task and episode, decided by seeds alone, and as sharp as plain reading."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from metagen.errors import MetagenError
from metagen.storage.images import from_pil, resized, save_png
from metagen.tasks import Omniglot
from metagen.tasks.episodes import Episodes
from metagen.tasks.omniglot import VAL_ALPHABETS
from metagen.tasks.splits import Split
from metagen.tasks.task_augmentation import DRAWS, mapped, task_maps
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs
from tests.test_episodes import StreamedBlobs, assert_same, data_at, joined

IDENTITY = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
STILL = torch.tensor([[0.5] * 6 + [0.0, 0.0]], dtype=torch.float64)  # draws that change nothing


class SharpBlobs(Blobs):
    """Blobs of which there are originals of more pixels."""

    def originals(self, task, which=None):
        return Blobs(96, tasks=self.tasks, images=self.count).images(task, which)


def strokes(rng: np.random.Generator) -> Image.Image:
    """A 1-bit drawing of 105 pixels as Omniglot has them: a line some three pixels wide, black on white."""
    image = Image.new("1", (105, 105), 1)
    ImageDraw.Draw(image).line([tuple(point) for point in rng.integers(15, 90, (6, 2)).tolist()], 0, 3)
    return image


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("drawings"), np.random.default_rng(0)
    alphabets = ("images_background/Greek", f"images_background/{VAL_ALPHABETS[0]}", "images_evaluation/ULOG")
    for alphabet in alphabets:
        for number in (1, 2, 3, 4):
            folder = root / alphabet / f"character{number:02d}"
            folder.mkdir(parents=True)
            for person in range(6):
                strokes(rng).save(folder / f"{person:02d}.png")
    return str(root)


@pytest.fixture
def episodes():
    return Episodes(SharpBlobs(tasks=20, images=6), 2, 3, seed=1, augment=True)


# resizing and the identity


@pytest.mark.parametrize("size", [28, 50, 64, 105, 128])
@pytest.mark.parametrize("kind", ["strokes", "noise"])
def test_resizing_is_that_of_reading(size, kind):
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (105, 105), np.uint8))
    image = strokes(rng) if kind == "strokes" else noise
    found = resized(from_pil(image, 105, 1), size)
    apart = (found.int() - from_pil(image, size, 1).int()).abs()
    assert found.dtype == torch.uint8
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.15


@pytest.mark.parametrize("options", [{}, {"invert": True}, {"channels": 3}, {"size": 64}, {"size": 128}])
def test_the_map_that_moves_nothing_is_plain_reading(root, options):
    tasks = Omniglot(root, **options)
    for name in tasks.split.train:
        originals = tasks.originals(name)
        assert originals.shape == (6, tasks.channels, 105, 105)
        found = tasks.finished(mapped(originals[None], IDENTITY[None], tasks.size))[0]
        assert (found.int() - tasks.images(name).int()).abs().max() <= 1


@pytest.mark.parametrize("invert", [False, True])
def test_binarised_drawings_are_binarised_after_resizing(root, invert):
    tasks = Omniglot(root, binarise=True, invert=invert)
    for name in tasks.split.train:
        found = tasks.finished(mapped(tasks.originals(name)[None], IDENTITY[None], 28))[0]
        assert (found != tasks.images(name)).float().mean() < 0.001  # where a shade is at the threshold to a level
    episode = Episodes(tasks, 2, 3, augment=True).train(0, 4)
    assert episode.support.unique().tolist() == [0, 1]


def test_task_sets_without_originals_show_their_images():
    tasks = Blobs(tasks=4)
    images = tasks.images("blob-0")
    assert torch.equal(tasks.originals("blob-0", [1, 0]), images[[1, 0]])
    assert torch.equal(mapped(images[None], IDENTITY[None], 28)[0], images)


# maps


def test_draws_in_the_middle_move_nothing():
    torch.testing.assert_close(task_maps(STILL)[0], IDENTITY.double())


@pytest.mark.parametrize("quarter", [0, 1, 2, 3])
@pytest.mark.parametrize("mirror", [False, True])
def test_quarters_and_mirrors_are_exact(quarter, mirror):
    draws = STILL.clone()
    draws[0, -2:] = torch.tensor([quarter / 4 + 0.1, 0.6 * mirror])
    images = torch.randint(0, 256, (1, 2, 3, 9, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    turned = images.rot90(quarter, (-2, -1))
    assert torch.equal(mapped(images, task_maps(draws), 9), turned.flip(-1) if mirror else turned)


def test_every_orientation_comes_up_and_maps_stay_near_it():
    draws = torch.rand(2000, DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps = task_maps(draws)
    sizes = torch.linalg.svdvals(maps[..., :2])
    assert sizes.min() > 0.7
    assert sizes.max() < 1.35
    assert maps[..., 2].abs().max() <= 0.08  # 4 % of the image, which is 2 wide
    found = torch.stack([2 * maps[:, 0, 0].abs().gt(maps[:, 0, 1].abs()), torch.linalg.det(maps[..., :2]).sign()], 1)
    assert found.unique(dim=0, return_counts=True)[1].min() > 400


def test_ink_is_not_cut_and_paper_lies_outside(root):
    tasks = Omniglot(root)
    episode = Episodes(tasks, 2, 3, augment=True).train(0, 4)
    ink = episode.support.flatten(2).sum(-1)
    plain = Episodes(tasks, 2, 3).train(0, 4).support.flatten(2).sum(-1)
    assert ((ink / plain).log().abs() < 0.5).all()  # as much as scales and shears make of it
    assert episode.support[..., 0, 0].max() == 0


# episodes


def test_all_images_of_a_task_are_under_one_map_that_is_its_own(episodes):
    """Where a blob lies in plain images tells where it lies in the mapped ones, by one affine map a task."""
    residuals = []
    for episode, plain in zip(*([e.train(i, 4) for i in range(3)] for e in (episodes, without(episodes))), strict=True):
        found, before = (centres(torch.cat([e.support, e.query], 1)) for e in (episode, plain))
        ones = torch.cat([before, torch.ones_like(before[..., :1])], -1)
        fitted = torch.linalg.lstsq(ones, found).solution  # [T, 3, 2]
        residuals.append(((ones @ fitted - found).abs().max(), (ones @ fitted.roll(1, 0) - found).abs().max()))
    own, others = (torch.stack(each) for each in zip(*residuals, strict=True))
    assert own.max() < 0.05
    assert others.min() > 0.3


def centres(images: torch.Tensor) -> torch.Tensor:
    """The centre of the ink of images [T, n, 1, S, S] as [T, n, 2] in [-1, 1]."""
    axis = torch.linspace(-1, 1, images.shape[-1])
    weights = images[:, :, 0] / images[:, :, 0].sum((-1, -2), keepdim=True)
    return torch.stack([(weights.sum(-2) * axis).sum(-1), (weights.sum(-1) * axis).sum(-1)], -1)


def without(episodes: Episodes) -> Episodes:
    return Episodes(episodes.task_set, episodes.shots, episodes.queries, episodes.seed)


def test_a_task_is_mapped_anew_in_every_episode_and_at_every_seed(episodes):
    other = Episodes(episodes.task_set, 2, 3, seed=2, augment=True)
    seen: dict[str, list[torch.Tensor]] = {}
    for index in range(8):
        for each in (episodes, other):
            episode = each.train(index, 10)  # all of them
            for task, support in zip(episode.tasks, episode.support, strict=True):
                seen.setdefault(task, []).append(centres(support[None])[0].mean(0))
    for where in seen.values():
        assert len({tuple(round(float(x), 4) for x in place) for place in where}) == 16


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_an_augmented_episode_without_changing_it(episodes, world):
    for index in (0, 3):
        assert_same(joined([episodes.train(index, 4, rank, world) for rank in range(world)]), episodes.train(index, 4))


def test_processes_share_augmented_drawings_to_the_last_bit(root):
    drawings = Episodes(Omniglot(root), 2, 3, augment=True)
    assert_same(joined([drawings.train(5, 4, rank, 2) for rank in range(2)]), drawings.train(5, 4))


def test_held_out_tasks_are_never_augmented(episodes):
    assert_same(episodes.of("val", [0, 1]), without(episodes).of("val", [0, 1]))
    assert_same(episodes.of("train", [0, 1]), without(episodes).of("train", [0, 1]))
    assert not torch.equal(episodes.train(0, 4).support, without(episodes).train(0, 4).support)


def test_originals_stay_on_the_device(episodes, monkeypatch):
    asked, originals = [], episodes.task_set.originals

    def watched(task):
        asked.append(task)
        return originals(task)

    monkeypatch.setattr(episodes.task_set, "originals", watched)
    monkeypatch.setattr(episodes.task_set, "images", None)  # nobody needs them
    there = Episodes(episodes.task_set, 2, 3, seed=1, device="meta", augment=True)
    for index in range(40):
        episode = there.train(index, 4)
        assert (episode.support.device.type, episode.query.shape) == ("meta", (4, 3, 1, 28, 28))
    assert sorted(asked) == sorted(episodes.task_set.split.train)  # each once


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_with_the_same_maps_also_those_made_in_workers(monkeypatch, workers):
    whole = list(data_at(monkeypatch, 0, 0, augment=True).train_dataloader())
    rest = data_at(monkeypatch, 7, 7, StreamedBlobs, augment=True, workers=workers).train_dataloader()
    for one, other in zip(whole[7:], rest, strict=True):
        assert one.tasks == other.tasks
        assert torch.equal(one.support, other.support)
        assert torch.equal(one.query, other.query)


# options


def test_turns_are_told_to_be_deprecated_and_go_with_no_augmentation(caplog):
    with caplog.at_level(logging.WARNING, logger="metagen"):
        assert EpisodeData(turns=True).episodes.known[-1][1] == 3
    (record,) = caplog.records
    assert "data.augment takes its place" in record.getMessage()
    assert "\n" not in record.getMessage()
    with pytest.raises(MetagenError, match=r"^data\.turns: data\.augment turns tasks already; leave out"):
        EpisodeData(turns=True, augment=True)


def test_a_folder_is_augmented_from_its_images(tmp_path):
    for task in ("a", "b", "c"):
        for number, image in enumerate(Blobs().images(f"blob-{ord(task) - 97}")[:4]):
            save_png(image, tmp_path / task / f"{number}.png")
    (tmp_path / "split.json").write_text(Split(("a",), ("b",), ("c",)).to_json())
    options = {"channels": 1, "split_file": str(tmp_path / "split.json"), "shots": 1, "queries": 2}
    episode = EpisodeData("folder", str(tmp_path), augment=True, **options).episodes.train(0, 1)
    assert episode.support.shape == (1, 1, 1, 28, 28)
    assert episode.support.max() > 0.5
