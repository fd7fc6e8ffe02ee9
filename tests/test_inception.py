"""Inception: the published weights or none, images as the published figures saw them, and agreement with others."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import nn

from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.evaluator import load_extractors
from metagen.learners import Joint
from metagen.metrics import frechet_distance, inception_score, kernel_distance
from metagen.metrics.extractors import Inception, inception
from metagen.model import Model
from metagen.report.result import read_result
from tests.doubles import tiny_vae

published: Any = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")


def photos(count: int, channels: int = 3, size: int = 32, seed: int = 0) -> torch.Tensor:
    """Smooth images, each of its own brightness."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=rng)
    return nn.functional.interpolate(coarse, size=(size, size), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="session")
def random_inception(tmp_path_factory):
    """A weights file for the network of FID, of random weights: nothing that it measures is FID."""
    path = tmp_path_factory.mktemp("weights") / "random_inception.pth"
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(published.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        network = published.FeatureExtractorInceptionV3("random", ["2048"], nothing)
    rng = torch.Generator().manual_seed(0)
    for name, weight in network.state_dict().items():
        if weight.ndim == 4:  # so that features have the size of images, 48 layers later
            weight.normal_(0, math.sqrt(2 / weight[0].numel()), generator=rng)
        elif name.startswith("fc"):
            weight.normal_(0, 0.05, generator=rng)
        elif weight.is_floating_point():
            low, high = (-0.1, 0.1) if name.endswith(("mean", "bias")) else (0.8, 1.2)
            weight.uniform_(low, high, generator=rng)
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def hashed(random_inception):
    return hashlib.sha256(random_inception.read_bytes()).hexdigest()


@pytest.fixture
def trusted(random_inception, hashed, monkeypatch):
    """The same file, taken for the published one."""
    monkeypatch.setattr(inception, "SHA256", hashed)
    return random_inception


@pytest.fixture(scope="module")
def look(random_inception, hashed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "SHA256", hashed)
        return Inception(str(random_inception))


@pytest.fixture(scope="module")
def reference(random_inception):
    """torch-fidelity's own, from the same file."""
    layers = ["2048", "logits_unbiased"]
    return published.FeatureExtractorInceptionV3("reference", layers, str(random_inception))


def bytes_of(images):
    return (images * 255).round().to(torch.uint8)


# what it sees


def test_features_and_probabilities_are_those_of_torch_fidelity(look, reference):
    images = photos(2, size=64)
    features, logits = reference(bytes_of(images))
    assert features.std(0).mean() > 1e-3  # the random network tells the images apart
    found = look.of(images)
    assert found.shape == (2, look.dimensions) == (2, 2048)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, features, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(look.probabilities(found), logits.double().softmax(-1), rtol=1e-5, atol=0)


def test_images_are_enlarged_as_tensorflow_1_did(look):
    seen = []
    hook = look.network.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = photos(1, size=29)
    look.of(images)
    hook.remove()
    places = [i * 29 / 299 for i in range(299)]  # of corners, not of centres
    pull = torch.zeros(299, 29, dtype=torch.float64)
    for i, place in enumerate(places):
        low = int(place)
        pull[i, low] += 1 - (place - low)
        pull[i, min(low + 1, 28)] += place - low
    expected = (pull @ bytes_of(images).double() @ pull.T - 128) / 128
    torch.testing.assert_close(seen[0].double(), expected, rtol=0, atol=1e-5)
    smooth = nn.functional.interpolate(images * 255, size=(299, 299), mode="bilinear", antialias=True)
    assert (seen[0] * 128 + 128 - smooth).abs().mean() > 1


def test_grey_is_the_same_red_green_and_blue(look):
    grey = photos(1, channels=1, size=28)
    torch.testing.assert_close(look.of(grey), look.of(grey.expand(-1, 3, -1, -1)), rtol=0, atol=0)


def test_images_are_rounded_to_bytes(look):
    images = photos(1)
    found = look.of(images)
    assert torch.equal(found, look.of(bytes_of(images).float() / 255))
    assert not torch.equal(found, look.of((images * 255).floor() / 255))


def test_images_outside_the_range_are_refused(look):
    with pytest.raises(MetagenError):
        look.of(photos(1) * 1.4 - 0.2)


def test_leading_axes_are_kept_and_no_image_changes_another(look):
    images = photos(2, size=40)
    found = look.of(images.unflatten(0, (2, 1)))
    assert found.shape == (2, 1, 2048)
    torch.testing.assert_close(found[1], look.of(images[1:]), rtol=1e-4, atol=1e-5)


def test_autocast_and_training_change_nothing(look):
    images = photos(1)
    expected = look.of(images)
    nn.Sequential(look).train()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(look.of(images), expected)


@pytest.mark.parametrize("shape", [(2, 2, 32, 32), (3, 32, 32), (2, 3, 1, 32)])
def test_what_is_no_image_is_refused(look, shape):
    with pytest.raises(MetagenError, match=r"takes images \[n, 1 or 3, H, W\]"):
        look.of(torch.rand(shape))


# which weights


def test_weights_that_are_not_the_published_ones_are_refused(random_inception, hashed):
    assert inception.SHA256.startswith(published.URL_INCEPTION_V3[-12:-4])
    with pytest.raises(MetagenError, match="nothing is called FID") as info:
        Inception(str(random_inception))
    for said in (str(random_inception), inception.SHA256, hashed):
        assert said in str(info.value)
    assert "\n" not in str(info.value)


def test_a_truncated_file_is_refused(trusted, tmp_path):
    (tmp_path / "half.pth").write_bytes(trusted.read_bytes()[: 10**6])
    with pytest.raises(MetagenError, match=r"half\.pth: expected .* got 1000000 bytes"):
        Inception(str(tmp_path / "half.pth"))


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for place in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(
            MetagenError, match=r"cannot be read .* name the published weights-inception-2015-12-05-6726825d\.pth"
        ):
            Inception(str(place))


class Code:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("hacked"),)


def test_code_in_a_file_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Code()}, "code.pth")
    with pytest.raises(MetagenError, match="expected the published"):
        Inception("code.pth")
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(Path("code.pth").read_bytes()).hexdigest())
    with pytest.raises(pickle.UnpicklingError):
        Inception("code.pth")
    assert not Path("hacked").exists()
    torch.load("code.pth", weights_only=False)
    assert Path("hacked").exists()  # so it would have


def test_without_torch_fidelity_the_error_says_what_to_install(trusted, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(MetagenError, match=r"pip install 'metagen\[metrics\]'"):
        Inception(str(trusted))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "extractors"


def test_weights_are_fetched_once_and_kept(trusted, cache, monkeypatch, look):
    url = trusted.as_uri()
    monkeypatch.setattr(published, "URL_INCEPTION_V3", url)
    found = Inception("download")
    assert [place.name for place in cache.iterdir()] == ["random_inception.pth"]
    images = photos(1)
    assert torch.equal(found.of(images), look.of(images))
    monkeypatch.setattr(published, "URL_INCEPTION_V3", url.replace("weights", "gone"))
    Inception("download")
    (cache / "random_inception.pth").write_bytes(b"half")
    with pytest.raises(MetagenError, match=r"random_inception\.pth: expected .* got 4 bytes .* out of the way"):
        Inception("download")


@pytest.mark.parametrize(("content", "said"), [(b"a login page", "got 12 bytes"), (None, "cannot be fetched")])
def test_what_cannot_be_fetched_leaves_nothing(cache, tmp_path, monkeypatch, content, said):
    if content:
        (tmp_path / "answer.pth").write_bytes(content)
    monkeypatch.setattr(published, "URL_INCEPTION_V3", (tmp_path / "answer.pth").as_uri())
    with pytest.raises(MetagenError, match=f"answer.pth: .*{said}.*fetch it elsewhere") as info:
        Inception("download")
    assert "\n" not in str(info.value)
    assert not cache.exists()


def test_a_connection_that_breaks_off_is_one_line(cache, monkeypatch):
    class Half(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"half")

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Half) as server:
        Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setattr(published, "URL_INCEPTION_V3", f"http://127.0.0.1:{server.server_port}/inception.pth")
        with pytest.raises(MetagenError, match=r"cannot be fetched \(IncompleteRead.*\); fetch it elsewhere"):
            Inception("download")
    assert not cache.exists()


def test_inception_alone_is_looked_through_under_its_name(trusted, hashed):
    looks = load_extractors(EvaluationOptions(extractor="none", inception=str(trusted)), None)
    assert {name: info for name, (_, info) in looks.items()} == {
        "inception": {"name": "inception", "weights_sha256": hashed}
    }
    assert isinstance(looks["inception"][0], Inception)
    assert load_extractors(EvaluationOptions(extractor="none"), None) == {}


def test_the_command_evaluates_through_a_file_of_weights(trusted, hashed, tmp_path):
    Model(Joint(tiny_vae(size=28), test_steps=1), {}).save(tmp_path / "model")
    words = ["--model", tmp_path / "model", "--out", tmp_path / "out", "--extractor", "none", "--inception", trusted]
    words += ["--metrics", '["fd", "is"]', "--curve", "[]", "--limit", 3]
    data = {"task_set": "glyphs", "size": 28, "channels": 1, "shots": 1, "queries": 4}
    words += [f"--data.{name}={value}" for name, value in data.items()]
    assert main(["evaluate", *map(str, words)]) == 0
    found = read_result(tmp_path / "out" / "result.json")
    assert [(each["name"], each["weights_sha256"]) for each in found["extractors"]] == [("inception", hashed)]
    figures = {row["row"]: row["figures"] for row in found["rows"]}
    assert {"fid", "is"} <= {name.partition("[")[0] for name in figures["adapted"]}
    adapted, human = (next(f for n, f in figures[row].items() if n.startswith("fid")) for row in ("adapted", "human"))
    assert human["mean"] < adapted["mean"]


# agreement with torchmetrics, from images and the same file


@pytest.fixture(scope="module")
def sides(look):
    """Real images, generated ones, and the features of both."""
    real, generated = photos(3, seed=1), photos(3, seed=2) * torch.tensor([0.1, 0.5, 1])[:, None, None, None]
    return real, generated, look.of(real), look.of(generated)


@pytest.fixture(scope="module")
def theirs(random_inception):
    """The Inception of torchmetrics: with all features and with 64, resizing as published."""
    from torchmetrics.image.fid import NoTrainInceptionV3

    class First(NoTrainInceptionV3):
        """The first 64 of the features: torchmetrics takes long over 2048."""

        num_features = 64

        def forward(self, images):
            return super().forward(images)[:, :64]

    full = NoTrainInceptionV3("theirs", ["2048"], str(random_inception), antialias=False)
    first = First("theirs", ["2048"], str(random_inception), antialias=False)
    return full, first


def both_sides(metric, real, generated):
    metric.update(bytes_of(real), real=True)
    metric.update(bytes_of(generated), real=False)
    return metric.compute()


def test_fid_is_that_of_torchmetrics(theirs, sides):
    from torchmetrics.image.fid import FrechetInceptionDistance

    expected = both_sides(FrechetInceptionDistance(theirs[1]), *sides[:2])
    found = frechet_distance(*(features[:, :64] for features in sides[2:]))
    assert float(found) == pytest.approx(float(expected), rel=1e-4)  # theirs takes roots of what is nearly 0


@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
def test_kid_is_that_of_torchmetrics(theirs, sides):
    from torchmetrics.image.kid import KernelInceptionDistance

    metric = KernelInceptionDistance(theirs[0], subsets=1, subset_size=3)  # all of them: nothing is left to draw
    found = kernel_distance(*sides[2:])
    assert float(found) == pytest.approx(float(both_sides(metric, *sides[:2])[0]), abs=2e-6)  # theirs is float32
    assert abs(found) > 1e-3


@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
def test_the_inception_score_is_that_of_torchmetrics(theirs, sides, look, monkeypatch):
    from torchmetrics.image.inception import InceptionScore

    monkeypatch.setattr(theirs[0], "features_list", ["logits_unbiased"])
    metric = InceptionScore(theirs[0], splits=1)
    metric.update(bytes_of(sides[1]))
    found = inception_score(look.probabilities(sides[3]))
    assert float(found) == pytest.approx(float(metric.compute()[0]), rel=1e-5)
    assert found > 1.001
