"""LPIPS: agreement with torchmetrics, the published weights or none, and what is kept of very long features."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn
from torchmetrics.functional.image import lpips as published

from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation import baselines
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.evaluator import load_extractors
from metagen.evaluation.scorecard import measure
from metagen.learners import Reptile
from metagen.metrics import Extractor, RealFeatures, metrics, select_figures
from metagen.metrics.extractors import LPIPS, lpips
from metagen.metrics.extractors.lpips import within_support
from metagen.metrics.naming import OF_LPIPS
from metagen.tasks.episodes import Episodes
from tests.doubles import Blobs, tiny_vae

CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
TASKS, SHOTS = 3, 2


def photos(*shape: int, channels: int = 3, size: int = 64, seed: int = 0) -> torch.Tensor:
    """Smooth images of bytes, each of its own brightness."""
    coarse = torch.rand(math.prod(shape), channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    images = nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)
    return ((images * 255).round() / 255).unflatten(0, shape)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="session")
def random_alexnet(tmp_path_factory):
    """A weights file as torchvision has it, of random weights: nothing that it measures is LPIPS."""
    path = tmp_path_factory.mktemp("weights") / "random_alexnet.pth"
    weights = {"classifier.1.bias": torch.zeros(2)}
    for place, (wide, before, side) in CONVOLUTIONS.items():
        weight = normal(wide, before, side, side, seed=place) * math.sqrt(2 / (before * side**2))
        weights[f"features.{place}.weight"] = weight.float()
        weights[f"features.{place}.bias"] = 0.1 * normal(wide, seed=100 + place).float()
    torch.save(weights, path)
    return path


@pytest.fixture(scope="module")
def hashed(random_alexnet):
    return hashlib.sha256(random_alexnet.read_bytes()).hexdigest()


@pytest.fixture
def trusted(random_alexnet, hashed, monkeypatch):
    """The same file, taken for the published one."""
    monkeypatch.setattr(lpips, "SHA256", hashed)
    return random_alexnet


@pytest.fixture(scope="module")
def look(random_alexnet, hashed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lpips, "SHA256", hashed)
        return LPIPS(str(random_alexnet))


@pytest.fixture(scope="module")
def theirs(random_alexnet):
    """LPIPS of torchmetrics with its own linear weights, over the same random network."""
    metric = published._LPIPS(net="alex", pnet_rand=True)
    weights = torch.load(random_alexnet, weights_only=True)
    slices = metric.net.state_dict()  # "slice2.3.weight" is torchvision's "features.3.weight"
    metric.net.load_state_dict({name: weights[f"features.{name.split('.', 1)[1]}"] for name in slices})
    return metric


# what it is


@pytest.mark.parametrize(("size", "length"), [(64, 31_872), (96, None), (128, 148_608)])
def test_the_squared_distance_of_features_is_the_lpips_of_torchmetrics(look, theirs, size, length):
    one, other = photos(3, size=size), photos(3, size=size, seed=1)
    found = look.of(one)
    assert length in (None, found.shape[1])
    expected = theirs(one, other, normalize=True).flatten()
    assert expected.min() > 0.01
    torch.testing.assert_close((found - look.of(other)).square().sum(1), expected, rtol=1e-5, atol=1e-7)


def test_small_grey_images_are_enlarged_bilinearly_and_repeated(look, theirs):
    one, other = (photos(2, channels=1, size=28, seed=seed) for seed in (2, 3))
    places = [min(max((i + 0.5) * 28 / 64 - 0.5, 0), 27) for i in range(64)]
    pull = torch.tensor([[max(0, 1 - abs(place - j)) for j in range(28)] for place in places])
    large = [(pull @ images @ pull.T).expand(-1, 3, -1, -1) for images in (one, other)]
    expected = theirs(*large, normalize=True).flatten()
    found = (look.of(one) - look.of(other)).square().sum(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    assert expected.min() > 0.01


def test_only_images_are_taken_whatever_the_batch(look):
    images = photos(2, 2, channels=1, size=20)
    torch.testing.assert_close(look.of(images)[1], look.of(images[1]), rtol=1e-4, atol=1e-6)
    for shape in [(2, 2, 32, 32), (3, 32, 32), (2, 3, 1, 32)]:
        with pytest.raises(MetagenError, match=r"lpips: takes images \[n, 1 or 3, H, W\]"):
            look.of(torch.rand(shape))


# which weights


def test_weights_that_are_not_the_published_ones_are_refused(random_alexnet, hashed):
    assert Path(lpips.URL).stem.endswith(lpips.SHA256[:8])
    with pytest.raises(MetagenError, match="nothing is called LPIPS") as info:
        LPIPS(str(random_alexnet))
    for said in (str(random_alexnet), lpips.SHA256, hashed):
        assert said in str(info.value)
    assert "\n" not in str(info.value)


def test_channel_weights_of_another_torchmetrics_are_refused(trusted, monkeypatch):
    monkeypatch.setattr(lpips, "CHANNELS", "functional/image/lpips_models/vgg.pth")
    with pytest.raises(MetagenError, match=r"vgg\.pth: expected the published .* another version of torchmetrics"):
        LPIPS(str(trusted))


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(MetagenError, match=r"cannot be read .* name the published alexnet-owt-7be5be79\.pth"):
            LPIPS(str(place))


class Code:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("hacked"),)


def test_code_in_a_file_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"features.0.weight": Code()}, "code.pth")
    monkeypatch.setattr(lpips, "SHA256", hashlib.sha256(Path("code.pth").read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError):
        LPIPS("code.pth")
    assert not Path("hacked").exists()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "extractors"


def test_weights_are_fetched_once_and_kept(trusted, cache, monkeypatch, look):
    monkeypatch.setattr(lpips, "URL", trusted.as_uri())
    found = LPIPS("download")
    assert [place.name for place in cache.iterdir()] == ["random_alexnet.pth"]
    assert torch.equal(found.of(photos(1)), look.of(photos(1)))
    monkeypatch.setattr(lpips, "URL", f"file:///gone/{trusted.name}")
    LPIPS("download")


@pytest.mark.parametrize(("content", "said"), [(b"a login page", "published weights"), (None, "No such file")])
def test_what_cannot_be_fetched_leaves_nothing(cache, tmp_path, monkeypatch, content, said):
    if content:
        (tmp_path / "answer.pth").write_bytes(content)
    monkeypatch.setattr(lpips, "URL", (tmp_path / "answer.pth").as_uri())
    with pytest.raises(MetagenError, match=rf"answer\.pth: .*{said}.* fetch it elsewhere") as info:
        LPIPS("download")
    assert "\n" not in str(info.value)
    assert not cache.exists()


# what is kept of it


@pytest.mark.parametrize(("n", "k", "length"), [(6, 3, 500), (2, 5, 500), (6, 3, 4), (6, 9, 5), (3, 1, 3)])
def test_fewer_numbers_keep_all_distances_within_a_row_and_from_the_support(n, k, length):
    support = normal(k, length, seed=1)
    short = within_support(support, support, n)
    assert short.shape == (k, k + n)
    for seed in (2, 3):
        features = normal(n, length, seed=seed)
        found = within_support(features, support, n)
        assert found.shape == (n, k + n)
        for kept, full in (((found, found), (features, features)), ((found, short), (features, support))):
            torch.testing.assert_close(torch.cdist(*kept), torch.cdist(*full), rtol=1e-10, atol=1e-10)


def test_fewer_numbers_keep_all_distances_of_images_that_are_the_same():
    exact = "donot_use_mm_for_euclid_dist"
    first, second = normal(2, 300, seed=4)
    support = torch.stack([first, first, second])
    features = torch.stack([first, second, normal(300, seed=5), first + second, torch.zeros(300), second])
    found, short = (within_support(each, support, 6) for each in (features, support))
    for kept, full in (((found, found), (features, features)), ((found, short), (features, support))):
        distances = torch.cdist(*full, compute_mode=exact)
        assert (distances == 0).sum() >= 3
        torch.testing.assert_close(torch.cdist(*kept, compute_mode=exact), distances, rtol=1e-10, atol=1e-12)


def plain(look: Extractor, images: torch.Tensor, support: torch.Tensor) -> tuple[list[float], list[float]]:
    """Of each task, the mean LPIPS of pairs, and of those in a cluster averaged over clusters, by loops."""
    pairs, clusters = [], []
    for each, shown in zip(look.of(images).double(), look.of(support).double(), strict=True):
        nearest = [min(range(len(shown)), key=lambda s: float((x - shown[s]).square().sum())) for x in each]
        far = {
            (i, j): float((each[i] - each[j]).square().sum()) for i, j in itertools.combinations(range(len(each)), 2)
        }
        pairs.append(sum(far.values()) / len(far))
        within = [[d for (i, j), d in far.items() if nearest[i] == nearest[j] == s] for s in range(len(shown))]
        means = [sum(cluster) / len(cluster) for cluster in within if cluster]
        clusters.append(sum(means) / len(means) if means else 0.0)
    return pairs, clusters


def test_columns_of_what_is_kept_are_loops_over_whole_features(look):
    support, images = photos(TASKS, SHOTS, size=40), photos(TASKS, 5, size=40, seed=1)
    images[:, 1] = images[:, 0]
    kept = look.of_tasks(images, support, 5)
    assert kept.shape == (TASKS, 5, SHOTS + 5)
    seen = RealFeatures(look.of_tasks(support, support, 5), kept, kept)
    for name, expected in zip(OF_LPIPS, plain(look, images, support), strict=True):
        assert min(expected) > 0.01
        assert metrics[name].values(kept, seen).tolist() == pytest.approx(expected, rel=1e-5)


# by name


def test_lpips_is_looked_through_for_its_own_columns_alone():
    looks = ["half", "inception", "lpips"]
    unasked = select_figures(None, metrics, looks)
    assert [name for name, (_, look) in unasked.items() if look == "lpips"] == ["lpips", "lpips_cluster"]
    assert not [name for name, (column, look) in unasked.items() if column in OF_LPIPS and look != "lpips"]
    assert set(unasked) == {*select_figures(None, metrics, ["half", "inception"]), *OF_LPIPS}
    assert select_figures(["lpips_cluster"], metrics, looks) == {"lpips_cluster": ("lpips_cluster", "lpips")}
    assert set(select_figures(["fd"], metrics, looks)) == {"fd[half]", "fid"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [("lpips", "--lpips"), ("lpips_cluster", "--lpips"), ("lpips[half]", "--lpips"), ("fd[lpips]", "--extractor")],
)
def test_without_its_weights_no_figure_is_called_lpips(name, hint):
    with pytest.raises(MetagenError, match=f"needs an extractor that is not at hand; .* with {hint}"):
        select_figures([name], metrics, ["half"])


def test_a_column_that_nothing_at_hand_is_for_is_refused():
    with pytest.raises(MetagenError, match="'fd' needs an extractor that is not at hand; name it with --extractor"):
        select_figures(["fd"], metrics, ["lpips"])


def test_it_is_looked_through_under_its_name_and_what_it_does_to_images_is_told(trusted, hashed):
    looks = load_extractors(EvaluationOptions(extractor="none", lpips=str(trusted)), None)
    told = {"name": "lpips", "weights_sha256": hashed, "backbone": "alex", "images": "bilinear to 64 px where smaller"}
    assert {name: info for name, (_, info) in looks.items()} == {"lpips": told}
    assert isinstance(looks["lpips"][0], LPIPS)


# in the protocol


class Pixels(Extractor):
    """Sees images at a quarter of their size, and keeps of that what LPIPS does."""

    size, channels = 28, 1
    of_tasks = LPIPS.of_tasks

    def features(self, images):
        return nn.functional.avg_pool2d(images, 4).flatten(1)


def test_a_scorecard_has_lpips_of_every_row(monkeypatch):
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-2, 1),))
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.02, test_steps=1).requires_grad_(False)
    episodes = Episodes(Blobs(tasks=80, images=13), 5, 8)  # more shots than images a row
    found = measure(learner, episodes, EvaluationOptions(limit=4, curve=(), baselines=True), {"lpips": Pixels()})
    rows = {row["row"]: row["figures"] for row in found.result["rows"]}
    for figures in (rows["human"], rows["copy"], rows["adapted"]):
        assert {*figures} - {"query_loss"} == {*OF_LPIPS}
    episode = episodes.of("test", episodes.held_out_numbers("test", 4))
    for row, images in (("human", episode.query[:, 4:]), ("copy", episode.support[:, :4])):
        for name, expected in zip(OF_LPIPS, plain(Pixels(), images, episode.support), strict=True):
            assert found.values[f"{row}/{name}"].tolist() == pytest.approx(expected, rel=1e-5, abs=1e-12)
    assert rows["human"]["lpips"]["mean"] > 0.01
    assert rows["copy"]["lpips_cluster"]["mean"] == pytest.approx(0, abs=1e-12)


def test_evaluate_measures_lpips_through_the_weights_it_is_given(exported, tiny, trusted, tmp_path):
    data = [word for pair in zip(tiny[::2], tiny[1::2], strict=True) if pair[0].startswith("--data.") for word in pair]
    out = tmp_path / "result"
    words = ["evaluate", "--model", str(exported), "--out", str(out), "--curve", "[0]", *data[:6]]
    words += ["--data.shots", "2", "--data.queries", "4", "--extractor", "none", "--lpips", str(trusted)]
    assert main(words) == 0
    result = json.loads((out / "result.json").read_text())
    assert [extractor["name"] for extractor in result["extractors"]] == ["lpips"]
    assert {*result["rows"][0]["figures"]} == {*OF_LPIPS}
    assert result["rows"][0]["figures"]["lpips"]["mean"] > 0
