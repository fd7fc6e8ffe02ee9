"""Extractors: features of the image alone, files, training on train tasks alone, and who may look through."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

import metagen
from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.evaluator import load_extractors
from metagen.learners import Reptile
from metagen.learners.model_files import load_model, save_model
from metagen.metrics import extractors
from metagen.metrics.extractors import Embedding, Scripted
from metagen.metrics.extractors.extractor_files import load_extractor, save_extractor
from metagen.storage.images import save_pngs
from metagen.tasks import TaskSet
from metagen.tasks.splits import Split, read_split
from metagen.training import extractor_training
from metagen.training.episode_data import EpisodeData
from metagen.training.extractor_training import check_tasks, held_out_accuracy, prototypical_loss, train_extractor
from tests.doubles import Blobs, tiny_vae

SMALL = {"embedding": {"size": 28, "widths": (8, 16, 16), "dimensions": 16, "classes": 4}}  # of every registered one
TINY_WIDTHS = (8, 8, 8)


class Stripes(TaskSet):
    """Each task is one direction and width of stripes, at any phase: hard for a net that was never trained."""

    def __init__(self, images: int = 6) -> None:
        super().__init__(28, 1)
        self.count = images
        names = tuple(f"stripes-{i}" for i in range(32))
        self.split = Split(names[:16], names[16:24], names[24:])

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        number = int(task.split("-")[1])
        rng = torch.Generator().manual_seed(number)
        angle, waves = math.pi * (number * 0.618 % 1), 3 + 4 * (number * 0.755 % 1)
        axis = torch.linspace(0, 1, self.size)
        along = waves * (axis * math.cos(angle) + axis[:, None] * math.sin(angle))
        phase = torch.rand(self.count, 1, 1, generator=rng)
        images = (127 * (1 + (2 * math.pi * (along + phase)).sin())).to(torch.uint8)[:, None]
        return images if which is None else images[list(which)]


class TrainBlobsAlone(Blobs):
    """Blobs whose held-out tasks nobody may look at."""

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        if task not in self.split.train:
            raise AssertionError(f"{task} is held out")
        return super().images(task, which)


def small(name: str, seed: int = 0):
    torch.manual_seed(seed)
    return extractors[name](**SMALL[name]).requires_grad_(False)


def images_for(extractor, count: int, seed: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(count, extractor.channels, extractor.size, extractor.size, generator=rng)


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Whatever writes to the current folder does it here."""
    monkeypatch.chdir(tmp_path)


# features


@pytest.mark.parametrize("name", list(extractors))
def test_features_do_not_depend_on_the_batch_or_the_mode(name):
    extractor = small(name)
    images = images_for(extractor, 530)  # more than are taken at once
    together = extractor.train().of(images)
    assert together.shape[0] == 530
    assert together.std(0).min() > 0
    extractor.eval()
    torch.testing.assert_close(extractor.of(images), together, rtol=0, atol=1e-5)
    torch.testing.assert_close(extractor.of(images[517:518]), together[517:518], rtol=0, atol=1e-5)
    order = torch.randperm(530, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(extractor.of(images[order]), together[order], rtol=0, atol=1e-5)
    assert not torch.allclose(together[:100], together[100:200], atol=1e-3)


@pytest.mark.parametrize("name", list(extractors))
def test_leading_axes_are_kept_and_no_gradient_is(name):
    extractor = small(name).requires_grad_(True)
    images = images_for(extractor, 6)
    found = extractor.of(images.unflatten(0, (2, 3)))
    assert found.shape[:2] == (2, 3)
    assert not found.requires_grad
    torch.testing.assert_close(found.flatten(0, 1), extractor.of(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", list(extractors))
def test_images_are_seen_as_a_file_would_hold_them(name):
    extractor = small(name)
    images = images_for(extractor, 3)
    pixels = (images * 255).round().to(torch.uint8)
    assert torch.equal(extractor.of(images), extractor.of(pixels.float() / 255))
    with torch.no_grad():
        assert not torch.equal(extractor.of(images), extractor.features(images))


@pytest.mark.parametrize("name", list(extractors))
def test_images_of_another_size_are_refused(name):
    extractor = small(name)
    for shape in ((2, 3, 28, 28), (2, 1, 32, 32), (2, 1, 28, 32), (28, 28)):
        with pytest.raises(MetagenError, match=r"takes images of 1 channels and 28 px, got .*train-extractor"):
            extractor.of(torch.rand(shape))


@pytest.mark.parametrize(
    "options",
    [{"widths": (8, 8)}, {"widths": (8, 8, 12)}, {"widths": (8, 8, 0)}, {"dimensions": 1}, {"classes": 1}],
)
def test_an_embedding_refuses_options_out_of_range(options):
    with pytest.raises(MetagenError, match="expected"):
        Embedding(**{**SMALL["embedding"], **options})


def test_an_embeddings_probabilities_are_over_its_classes():
    extractor = small("embedding")
    images = images_for(extractor, 6)
    found = extractor.probabilities(extractor.of(images))
    assert found.shape == (6, 4)
    torch.testing.assert_close(found.sum(-1), torch.ones(6))
    several = extractor.probabilities(extractor.of(images.unflatten(0, (2, 3))).double())
    torch.testing.assert_close(several.flatten(0, 1), found)


@pytest.mark.parametrize("name", list(extractors))
def test_autocast_and_the_type_of_images_change_nothing(name):
    extractor = small(name)
    images = (images_for(extractor, 4) * 255).round() / 255
    expected = extractor.of(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert extractor.features(images).dtype == torch.bfloat16  # it would
        assert torch.equal(extractor.of(images), expected)
    assert torch.equal(extractor.of(images.double()), expected)
    with pytest.raises(MetagenError, match=r"expected floats in \[0, 1\], got torch.uint8"):
        extractor.of((images * 255).to(torch.uint8))


@pytest.mark.parametrize("name", list(extractors))
def test_an_extractor_stays_in_eval_mode_as_part_of_something_in_training(name):
    extractor = small(name)
    torch.nn.Sequential(extractor).train()
    assert not any(part.training for part in extractor.modules())


# a network of one's own


class Means(torch.nn.Module):
    """Mean brightness of rows, and one batch norm, whose mode shows."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(28)
        self.linear = torch.nn.Linear(28, 6)

    def forward(self, images):
        return self.linear(self.norm(images.mean((1, 3))))


def script(module: torch.nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.script(module), path)
    return path


@pytest.fixture
def means(tmp_path):
    torch.manual_seed(0)
    module = Means().train()  # as it may have been saved
    return script(module, tmp_path / "means.pt"), module.eval()


@pytest.mark.filterwarnings("error", "ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_file_is_looked_through(means):
    path, module = means
    look = Scripted(path, 28, 1)
    stated = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (look.name, look.weights_sha256, look.dimensions) == (f"means-{stated[:8]}", stated, 6)
    images = (torch.rand(5, 1, 28, 28) * 255).round() / 255
    with torch.no_grad():
        expected = module(images)
    torch.testing.assert_close(look.of(images), expected)
    torch.nn.Sequential(look).train()
    with torch.autocast("cpu", torch.bfloat16):
        found = look.of(images)
    assert torch.equal(found, look.of(images))
    torch.testing.assert_close(found, expected)
    assert look.probabilities is None
    with pytest.raises(MetagenError, match="takes images of 1 channels and 28 px"):
        look.of(torch.rand(2, 1, 32, 32))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return x", r"expected features \[2, d\] of images \[2, 1, 28, 28\], got \[2, 1, 28, 28\]"),
        ("return x.flatten()[None]", r"expected features \[2, d\] .*, got \[1, 1568\]"),
        ("return (x, x)", "got tuple"),
        ("return x.flatten(1) / 0", "makes features that are not finite"),
        ("return x.flatten(1) @ torch.ones(3, 3)", "fails at images .*: RuntimeError: mat1 and mat2"),
    ],
)
def test_a_network_that_makes_no_features_is_refused(tmp_path, body, said):
    class Odd(torch.nn.Module):
        pass

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = torch.jit.script(Odd())
        module.define(f"def forward(self, x):\n    {body}\n")
        torch.jit.save(module, tmp_path / "odd.pt")
    with pytest.raises(MetagenError, match=f"odd.pt: .*{said}") as info:
        Scripted(tmp_path / "odd.pt", 28, 1)
    assert "\n" not in str(info.value)


def test_a_file_that_is_no_torchscript_is_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("weights")
    for name in ("weights.pt", "text.pt"):
        with pytest.raises(MetagenError, match=f"{name}: not a TorchScript file; write it with"):
            Scripted(tmp_path / name, 28, 1)
    with pytest.raises(MetagenError, match=r"none\.pt: cannot be read"):
        Scripted(tmp_path / "none.pt", 28, 1)


# which of them are looked through


def asked(tasks: TaskSet, extractor: str | None, name: str = "blobs"):
    data = EpisodeData(name)
    data._task_set = tasks
    return load_extractors(EvaluationOptions(extractor=extractor), data)


def test_a_torchscript_file_is_named_with_its_hash(means):
    path, _ = means
    stated = hashlib.sha256(path.read_bytes()).hexdigest()
    ((name, (look, info)),) = asked(Blobs(), str(path)).items()
    assert isinstance(look, Scripted)
    assert name == f"means-{stated[:8]}"
    assert info == {"name": name, "weights_sha256": stated}


def test_a_folder_is_named_as_it_is_called_whatever_its_config_says(tmp_path, monkeypatch):
    stated = save_extractor(tmp_path / "look", small("embedding"), {"name": "inception", "weights_sha256": "0"})
    monkeypatch.chdir(tmp_path / "look")
    for place in ("../look", "."):
        ((name, (_, info)),) = asked(Blobs(), place).items()
        assert (name, info["name"], info["weights_sha256"]) == ("look", "look", stated)


def test_only_inception_is_called_inception(tmp_path):
    save_extractor(tmp_path / "inception", small("embedding"), {})
    with pytest.raises(MetagenError, match="only Inception is called 'inception'"):
        asked(Blobs(), str(tmp_path / "inception"))


# files


@pytest.mark.parametrize("name", list(extractors))
def test_every_extractor_can_be_written_down_and_built_again(name):
    description = extractors.describe(small(name))
    assert description["name"] == name
    again = extractors.build(json.loads(json.dumps(description)))
    assert type(again) is extractors[name]
    assert extractors.describe(again) == description
    assert {n: w.shape for n, w in again.state_dict().items()} == {
        n: w.shape for n, w in small(name).state_dict().items()
    }


@pytest.mark.parametrize("name", list(extractors))
def test_every_extractor_comes_back_bit_for_bit(tmp_path, name):
    extractor, info, split = small(name), {"data": {"task_set": "blobs"}}, Split(("a",), ("b",), ("ü",))
    stated = save_extractor(tmp_path / "look", extractor, info, split)
    again, told, found = load_extractor(tmp_path / "look")
    assert stated == found == hashlib.sha256(weights(tmp_path / "look")).hexdigest()
    assert told == info
    assert read_split(tmp_path / "look/split.json") == split
    assert not again.training
    assert not any(w.requires_grad for w in again.parameters())
    images = images_for(extractor, 4)
    assert torch.equal(again.of(images), extractor.of(images))
    assert not torch.equal(small(name, seed=1).of(images), extractor.of(images))
    card = (tmp_path / "look/README.md").read_text()
    assert stated in card
    assert "--extractor" in card


def test_a_tampered_extractor_is_refused(tmp_path):
    save_extractor(tmp_path / "look", small("embedding"), {})
    file = tmp_path / "look/model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(MetagenError, match=r"model\.safetensors: its SHA-256 is .* damaged"):
        load_extractor(tmp_path / "look")
    file.unlink()
    with pytest.raises(MetagenError, match=r"model\.safetensors: cannot be read"):
        load_extractor(tmp_path / "look")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"extractor": {"name": "inception"}}, "unknown extractor 'inception'"),
        ({"extractor": {"name": "embedding", "depth": 3}}, "unknown option of extractor embedding 'depth'"),
        ({"extractor": {"name": "embedding", "widths": [1, 2, 3]}}, "multiples of 8"),
        ({"extractor": {"name": "embedding", "widths": "wide"}}, "bad options"),
        ({"extractor": {**SMALL["embedding"], "name": "embedding", "classes": 5}}, "head.weight expected"),
        ({"extractor": "embedding"}, "expected the objects extractor, info"),
        ({"info": None}, "expected the objects extractor, info"),
        ({"version": 3}, "version 3"),
        ({"kind": "network"}, "expected kind"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, change, said):
    save_extractor(tmp_path / "look", small("embedding"), {})
    place = tmp_path / "look/config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), **change}))
    with pytest.raises(MetagenError) as info:
        load_extractor(tmp_path / "look")
    assert said in str(info.value)
    assert str(tmp_path / "look") in str(info.value)


def test_models_and_extractors_are_not_taken_for_each_other(tmp_path):
    save_extractor(tmp_path / "look", small("embedding"), {})
    torch.manual_seed(0)
    save_model(tmp_path / "model", Reptile(tiny_vae(), steps=1, rate=0.01), {})
    with pytest.raises(MetagenError, match="expected an extractor, got a model"):
        load_extractor(tmp_path / "model")
    with pytest.raises(MetagenError, match="expected a model, got an extractor"):
        load_model(tmp_path / "look")
    with pytest.raises(MetagenError, match="expected a model or an adapted model, got an extractor"):
        metagen.load(tmp_path / "look")


def test_a_place_that_is_taken_stays_as_it_is(tmp_path):
    save_extractor(tmp_path / "look", small("embedding"), {})
    before = weights(tmp_path / "look")
    with pytest.raises(MetagenError, match="exists and is not empty"):
        save_extractor(tmp_path / "look", small("embedding", seed=1), {})
    assert weights(tmp_path / "look") == before
    save_extractor(tmp_path / "look", small("embedding", seed=1), {}, overwrite=True)
    assert weights(tmp_path / "look") != before


# training


@pytest.mark.parametrize(("tasks", "images", "dimensions"), [(2, 2, 2), (5, 4, 9)])
def test_the_prototypical_loss_is_a_loop_over_images(tasks, images, dimensions):
    rng = torch.Generator().manual_seed(3)
    features = torch.randn(tasks, images, dimensions, dtype=torch.float64, generator=rng)
    each = []
    for own in range(tasks):
        for i in range(1, images):
            closeness = [
                math.exp(-float(((features[own, i] - features[t, 0]) ** 2).sum()) / math.sqrt(dimensions))
                for t in range(tasks)
            ]
            each.append(-math.log(closeness[own] / sum(closeness)))
    assert float(prototypical_loss(features)) == pytest.approx(sum(each) / len(each))


def test_the_prototypical_loss_has_finite_gradients_where_images_are_alike():
    features = torch.ones(3, 4, 5, requires_grad=True)
    prototypical_loss(features).backward()
    assert features.grad.isfinite().all()


def test_held_out_accuracy_is_of_one_exemplar_a_task():
    class Means(Embedding):
        def features(self, images):
            return torch.stack([images.mean((1, 2, 3)), images.mean((1, 2, 3))], -1)

    class Greys(TaskSet):
        """Flat greys: task i is as bright as 20 i, but the last image of each is as bright as the next task."""

        def __init__(self):
            super().__init__(28, 1)
            self.split = Split(("0",), ("1", "2", "3", "4"), ("5", "6"))

        def images(self, task, which=None):
            grey = torch.full((5 + int(task) % 2, 1, 28, 28), 20 * int(task), dtype=torch.uint8)  # 4 of each are judged
            grey[4:] += 20
            return grey if which is None else grey[list(which)]

    found = held_out_accuracy(Means(), Greys(), "val")
    assert (found["ways"], found["shots"], found["images"], found["tasks"]) == (4, 1, 4, 4)
    assert found["mean"] == pytest.approx((0.75 + 0.75 + 0.75 + 1) / 4)  # the last has no next
    assert found["low"] < found["mean"] < found["high"]


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """A folder of stripes with a split file, and the options that name it."""
    root, task_set = tmp_path_factory.mktemp("stripes"), Stripes()
    for i in range(32):
        save_pngs(task_set.images(f"stripes-{i}"), root / "tasks" / f"stripes-{i}")
    (root / "split.json").write_text(task_set.split.to_json())
    where = ["--data.root", str(root / "tasks"), "--data.split_file", str(root / "split.json")]
    return ["train-extractor", "--data.task_set", "folder", *where]


def test_training_learns_to_tell_held_out_tasks_apart(stripes, capsys):
    options = ["--steps", "40", "--rate", "5e-3", "--widths", "[8, 16, 16]", "--dimensions", "16"]
    assert main([*stripes, *options, "--out", "look"]) == 0
    out = capsys.readouterr().out
    extractor, info, stated = load_extractor(Path("look"))
    torch.manual_seed(0)
    untrained = Embedding(28, 1, (8, 16, 16), 16, 16)
    for split in ("val", "test"):
        told, before = info["accuracy"][split], held_out_accuracy(untrained, Stripes(), split)
        assert told == held_out_accuracy(extractor, Stripes(), split)
        assert (told["ways"], told["tasks"], told["images"]) == (8, 8, 5)
        assert told["mean"] > 0.8  # chance is 1 / 8
        assert told["mean"] > before["mean"] + 0.15
        assert f"{split}: {100 * told['mean']:.1f} % right, 8-way 1-shot, 8 tasks" in out
    assert "wrote look\nnext: metagen evaluate --model MODEL/ " in out
    assert out.endswith(" --extractor look --out evaluation/\n")
    assert sorted(p.name for p in Path("look").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "seen.json",
        "split.json",
    ]
    assert read_split(Path("look/split.json")) == Stripes().split
    assert info["data"] == {"task_set": "folder", "size": 28, "channels": 1, "invert": False}  # no path of this machine
    training = {key: info["training"][key] for key in ("steps", "rate", "seed")}
    assert training == {"steps": 40, "rate": 5e-3, "seed": 0}
    assert stated == hashlib.sha256(weights(Path("look"))).hexdigest()
    assert extractors.describe(extractor)["widths"] == (8, 16, 16)
    assert extractors.describe(extractor)["classes"] == 16


def test_the_same_seed_gives_the_same_weights(blobs):
    words = ["train-extractor", "--data.task_set", "folder", "--data.root", str(blobs / "tasks"), "--steps", "3"]
    words += ["--data.split_file", str(blobs / "split.json"), "--widths", "[8, 8, 8]", "--dimensions", "4"]
    for out, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        torch.manual_seed(len(out))
        torch.rand(ord(out))  # whatever was drawn before
        assert main([*words, "--seed", seed, "--out", out]) == 0
    assert weights(Path("a")) == weights(Path("b"))
    assert weights(Path("a")) != weights(Path("c"))


def test_training_gives_a_network_that_stays_as_it_is():
    extractor = train_extractor(Blobs(tasks=8, images=3), 2, 1e-3, TINY_WIDTHS, 4, 0)
    assert not extractor.training
    assert not any(w.requires_grad for w in extractor.parameters())
    assert extractor.classes == 4


def test_training_looks_at_train_tasks_alone():
    untouched, open_to_all = TrainBlobsAlone(tasks=8, images=3), Blobs(tasks=8, images=3)
    found, expected = (train_extractor(t, 3, 1e-2, TINY_WIDTHS, 4, 0) for t in (untouched, open_to_all))
    torch.manual_seed(0)
    untrained = Embedding(28, 1, TINY_WIDTHS, 4, 4).state_dict()
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, expected.state_dict()[name])
    assert not torch.equal(untrained["trunk.0.weight"], found.state_dict()["trunk.0.weight"])


@pytest.mark.parametrize(("tasks", "images"), [(2, 3), (8, 1)])
def test_too_few_train_tasks_or_images_are_refused(tasks, images):
    with pytest.raises(MetagenError, match="expected 2 or more train tasks with 2 or more images"):
        check_tasks(Blobs(tasks=tasks, images=images))


# the verbs


def refused(capsys, words, *said):
    """The verb ends with 2 and one line on stderr."""
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert err.startswith("metagen: error: ")
    assert err.count("\n") == 1
    for each in said:
        assert each in err


def test_a_place_that_is_taken_is_refused_before_training(blobs, capsys, monkeypatch):
    from metagen.training import extractor_training

    trained = []
    monkeypatch.setattr(extractor_training, "train_extractor", lambda *args: trained.append(args))
    Path("taken").mkdir()
    Path("taken/precious").touch()
    words = ["train-extractor", "--data.task_set", "folder", "--data.root", blobs / "tasks", "--out", "taken"]
    refused(capsys, words, "taken: exists and is not empty")
    assert not trained
    assert [p.name for p in Path("taken").iterdir()] == ["precious"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of tasks of 8 images, an untrained model "export" of it, and the extractors "fair" and "unfair"."""
    root, task_set = tmp_path_factory.mktemp("judged"), Blobs(tasks=16, images=8)
    for i in range(16):
        save_pngs(task_set.images(f"blob-{i}"), root / "tasks" / f"blob-{i}")
    (root / "split.json").write_text(task_set.split.to_json())
    torch.manual_seed(0)
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01, test_steps=1)
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 2, "queries": 6}
    save_model(root / "export", learner, {"data": data}, task_set.split)
    info, split = {"data": {"task_set": "folder"}}, task_set.split
    save_extractor(root / "fair", small("embedding"), info, split)
    unfair = Split((*split.train, split.test[1], split.test[0]), split.val, split.test[2:])
    save_extractor(root / "unfair", small("embedding"), info, unfair)
    return root


def judging(place: Path, extractor: object = None) -> list:
    where = ["--data.root", place / "tasks", "--data.split_file", place / "split.json"]
    words = ["evaluate", "--model", place / "export", "--out", "result", "--curve", "[0]", *where]
    return [*words, "--extractor", extractor] if extractor else words


def test_an_extractor_trained_on_judged_tasks_is_refused(place, capsys):
    first = Blobs(tasks=16).split.test[0]
    refused(
        capsys,
        judging(place, place / "unfair"),
        "unfair: was trained or chosen on 2 of these test tasks",
        f"'{first}' first",
    )
    assert not Path("result").exists()


def test_an_extractor_of_nobody_knows_which_tasks_is_refused(place, capsys):
    shutil.copytree(place / "fair", "look")
    Path("look/split.json").unlink()
    refused(capsys, judging(place, "./look"), "split.json")
    assert not Path("result").exists()


def test_an_extractor_of_another_size_or_kind_is_refused(place, capsys):
    save_extractor(Path("small"), Embedding(32, 1, TINY_WIDTHS, 4, 2), {})
    refused(capsys, judging(place, "./small"), "takes images of 1 channels and 32 px")
    refused(capsys, judging(place, place / "export"), "expected an extractor, got a model")
    assert not Path("result").exists()


def test_a_task_set_that_no_extractor_travels_for_says_so(place, capsys):
    refused(
        capsys,
        judging(place),
        "no extractor of folder is bundled with metagen",
        "train-extractor",
        "do without: --extractor none",
    )
    refused(capsys, judging(place, "no-such-one"), "no-such-one: neither a folder nor one of the extractors")
    refused(capsys, judging(place, place / "absent"), "absent: expected an extractor, got no config.json")
    assert not Path("result").exists()


def test_a_fair_extractor_is_looked_through_and_named_in_the_result(place):
    assert main([str(word) for word in judging(place, place / "fair")]) == 0
    result = json.loads(Path("result/result.json").read_text())
    (seen,) = result["extractors"]
    assert seen["name"] == "fair"
    assert seen["weights_sha256"] == hashlib.sha256(weights(place / "fair")).hexdigest()
    adapted = next(row for row in result["rows"] if row["row"] == "adapted")
    assert {"fd[fair]", "recognisability[fair]", "copy_ratio[fair]"} < set(adapted["figures"])


def test_an_extractor_of_another_task_set_may_have_seen_any_names(place):
    shutil.copytree(place / "unfair", "look")
    config = json.loads(Path("look/config.json").read_text())
    config["info"] = {"data": {"task_set": "omniglot"}}
    Path("look/config.json").write_text(json.dumps(config))
    assert main([str(word) for word in judging(place, "./look")]) == 0


def test_without_an_extractor_the_query_loss_alone_is_measured(place):
    assert main([str(word) for word in judging(place, "none")]) == 0
    result = json.loads(Path("result/result.json").read_text())
    assert result["extractors"] == []
    assert {metric for row in result["rows"] for metric in row["figures"]} == {"query_loss"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--steps", "0"), "expected steps >= 1 and rate > 0, got 0"),
        (("--rate", "-1"), "expected steps >= 1 and rate > 0"),
        (("--widths", "[7,8,8]"), "widths: expected 3 or more multiples of 8"),
    ],
)
def test_options_out_of_range_are_refused_and_nothing_is_written(tmp_path, blobs, capsys, options, said):
    where = ["--data.task_set", "folder", "--data.root", str(blobs / "tasks")]
    where += ["--data.split_file", str(blobs / "split.json")]
    assert main(["train-extractor", *where, "--out", str(tmp_path / "look"), *options]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "look").exists()


def test_images_that_are_not_finite_are_refused():
    with pytest.raises(MetagenError, match="not finite"):
        Embedding().of(torch.full((2, 1, 28, 28), torch.nan))


def test_tasks_that_cannot_judge_are_refused_before_training():
    class Alone(Blobs):
        def images(self, task, which=None):
            return super().images(task, which)[: 1 if task in self.split.val else None]

    with pytest.raises(MetagenError, match="2 or more val tasks with 2 or more images"):
        check_tasks(Alone())
    check_tasks(Blobs())


def test_turned_tasks_are_tasks_of_their_own_and_are_forgotten_at_the_end(monkeypatch):
    blobs = Blobs(tasks=8, images=3)
    seen: dict[int, torch.Tensor] = {}
    upright = [blobs.images(task) for task in blobs.split.train]

    def step(self, batch, index):
        for images, number in zip(*batch, strict=True):
            seen.setdefault(int(number), images)
        return self.extractor.head(self.extractor.features(batch[0].flatten(0, 1))).sum()

    monkeypatch.setattr(extractor_training, "JITTER", 0.0)  # no affine map
    monkeypatch.setattr(extractor_training.ExtractorTraining, "training_step", step)
    extractor = train_extractor(blobs, 30, 1e-3, TINY_WIDTHS, 4, 0, turned=True)
    assert set(seen) == set(range(4 * len(upright)))
    for number, images in seen.items():
        expected = upright[number % len(upright)].rot90(number // len(upright), (-2, -1)).float() / 255
        distance = (images[:, None] - expected[None]).abs().amax((-1, -2, -3))
        assert (distance.amin(1) < 1e-4).all()
    assert extractor.classes == len(upright)
    assert extractor.probabilities(extractor.of(upright[0] / 255)).shape == (3, len(upright))
