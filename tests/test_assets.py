"""What is bundled with metagen: every trained model and extractor loads by its name and is what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import metagen
from metagen.cli import main
from metagen.learners import Reptile
from metagen.metrics.extractors.extractor_files import load_extractor
from metagen.model import Model
from metagen.storage.bundled import bundled, resource
from metagen.tasks import Glyphs
from metagen.tasks.omniglot import whole_split
from metagen.tasks.splits import read_split
from tests.doubles import tiny_vae

DOMAINS = ("glyphs", "omniglot")
EXTRACTORS = [f"{domain}-{role}" for domain in DOMAINS for role in ("select", "report")]
MODELS = sorted(place.name for place in resource("assets", "models").iterdir())
OMNIGLOT = [name for name in MODELS if name.partition("-")[0] == "omniglot"]


def size(folder: Path, name: str = "*") -> int:
    return sum(file.stat().st_size for file in folder.rglob(name))


def test_what_travels_is_small():
    assets, configs = resource("assets", "README.md").parent, resource("configs", "quickstart.yaml").parent
    assert all(size(bundled("models", name)) <= 6_000_000 for name in MODELS)
    assert size(assets) <= 30_000_000
    assert size(Path(metagen.__file__).parent, "*.py") + size(configs) + size(assets) <= 35_000_000  # the whole wheel


def test_models_are_listed_with_what_they_are(capsys):
    assert main(["models"]) == 0
    heading, *lines, proposal = capsys.readouterr().out.splitlines()
    assert proposal == f"next: metagen adapt --model {MODELS[0]} --support five_images/ --out my_thing/"
    assert heading.split() == ["name", "pixels", "trained", "on", "score"]
    assert [line.split()[0] for line in lines] == MODELS
    for line, name in zip(lines, MODELS, strict=True):
        model = metagen.load(name)
        assert isinstance(model, Model)
        told = line.split(maxsplit=3)
        assert told[1:] == [str(model.learner.generator.size), model.info["data"]["task_set"], model.info["score"]]


@pytest.mark.parametrize("there", [None, "tiny"], ids=["nothing there", "another there"])
def test_an_adapted_model_finds_its_base_under_its_new_name(tmp_path, caplog, there):
    """It was saved over the model that was called omniglot then, and names it by its path and hash."""
    model = metagen.load("omniglot-redraw")
    assert isinstance(model, Model)
    assert model.weights_hash == "6831667093fc3d596b7d72a0fe799d38b6b728829b3e07627077c867ccc5f87c"  # as it was then
    mine = model.adapt(torch.rand(2, 1, 28, 28))
    mine.save(tmp_path / "mine")
    file = tmp_path / "mine/config.json"
    config = json.loads(file.read_text())
    config["base"]["path"] = "../omniglot"
    file.write_text(json.dumps(config))
    if there:
        Model(Reptile(tiny_vae()), {}).save(tmp_path / "omniglot")
    again = metagen.load(tmp_path / "mine")
    assert torch.equal(again.sample(2), mine.sample(2))
    (told,) = [record.getMessage() for record in caplog.records if record.name == "metagen.learners.model_files"]
    assert told.endswith(f"not at {tmp_path / 'omniglot'} any more; took omniglot-redraw")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_by_its_name_adapts_and_samples(name):
    model = metagen.load(name)
    assert isinstance(model, Model)
    generator = model.learner.generator
    support = torch.rand(2, generator.channels, generator.size, generator.size)
    images = model.adapt(support).sample(3, seed=1)
    assert images.shape == (3, *support.shape[1:])
    assert ((images >= 0) & (images <= 1)).all()
    assert model.split is not None


@pytest.mark.parametrize("name", OMNIGLOT)
def test_an_omniglot_model_was_trained_on_the_canonical_split(name):
    model, whole = metagen.load(name), whole_split("canonical")
    assert isinstance(model, Model)
    assert model.split is not None
    assert set(model.split.train) == set(whole.train)
    assert not set(model.split.train) & {*whole.val, *whole.test}
    assert not set(model.split.val) & set(whole.test)


@pytest.mark.parametrize("name", OMNIGLOT)
def test_an_omniglot_model_draws_what_it_is_shown_and_not_something_else(name):
    """A ring and a cross: through the extractor, each sample is nearer to its own support than to the other one."""
    axis = torch.arange(28.0) - 13.5
    far = (axis[:, None] ** 2 + axis**2).sqrt()
    ring = (far - 8).abs() < 1.2
    cross = ((axis[:, None].abs() < 1) & (axis.abs() < 9)) | ((axis.abs() < 1) & (axis[:, None].abs() < 9))
    support = torch.stack([ring, cross])[:, None, None].float()
    model = metagen.load(name)
    assert isinstance(model, Model)
    images = model.adapt_many(support).sample(20)
    extractor, _, _ = load_extractor(bundled("extractors", "omniglot-report"))
    nearest = torch.cdist(extractor.of(images), extractor.of(support[:, 0])).argmin(-1)
    assert (nearest == torch.arange(2)[:, None]).float().mean() > 0.9
    assert images.std(1).mean() > 0.03  # and they vary


@pytest.mark.parametrize("name", EXTRACTORS)
def test_an_extractor_loads_by_its_name_and_is_told_how_it_was_made(name):
    path = bundled("extractors", name)
    extractor, info, weights = load_extractor(path)
    assert size(path) <= 4_000_000
    assert len(weights) == 64
    assert extractor.of(torch.rand(3, 1, 28, 28)).isfinite().all()
    assert info["data"]["task_set"] == name.partition("-")[0]
    assert info["training"]["steps"] > 0
    for split in ("val", "test"):
        assert 0.8 < info["accuracy"][split]["low"] <= info["accuracy"][split]["mean"] < 1
        assert info["accuracy"][split]["ways"] == 20


@pytest.mark.parametrize("domain", DOMAINS)
def test_what_selects_and_what_reports_differ_and_know_the_same_train_tasks(domain):
    places = [bundled("extractors", f"{domain}-{role}") for role in ("select", "report")]
    (one, told, first), (other, also, second) = (load_extractor(place) for place in places)
    assert first != second
    assert told["training"]["seed"] != also["training"]["seed"]
    assert {n: w.shape for n, w in one.state_dict().items()} != {n: w.shape for n, w in other.state_dict().items()}
    splits = [read_split(place / "split.json") for place in places]
    assert splits[0] == splits[1]
    expected = Glyphs().split if domain == "glyphs" else whole_split("canonical")
    assert set(splits[0].train) == set(expected.train)
