"""What a library refuses or lacks, and what is given in place of a model: one line, exit code 2, nothing written."""

from __future__ import annotations

import shutil
import zipfile

import pytest
import torch

import metagen
from metagen.cli import main
from metagen.distributed.processes import Processes
from metagen.errors import MetagenError
from metagen.metrics.extractors.extractor_files import load_extractor
from metagen.model import load_base
from metagen.storage.images import save_png
from metagen.training.checkpoints import read_checkpoint
from metagen.training.zoo_files import load_zoo

NEEDY = """
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins import Precision

class Needs:
    def __init__(self):
        raise ModuleNotFoundError("Requirement 'nolib>=1' not met.\\nHINT: Try running `pip install nolib`")

class NeedyLogger(Needs, CSVLogger): pass
class NeedyCallback(Needs, Callback): pass
class NeedyPrecision(Needs, Precision): pass

class LateCallback(Callback):
    def setup(self, trainer, pl_module, stage):
        raise ModuleNotFoundError("`LateCallback` needs `nolib`, which is not installed")
"""
REFUSED = [
    ("--trainer.logger", "needy.NeedyLogger"),
    ("--trainer.logger", "[needy.NeedyLogger]"),
    ("--trainer.callbacks", "needy.NeedyCallback"),
    ("--trainer.callbacks", "needy.LateCallback"),
    ("--trainer.plugins", "needy.NeedyPrecision"),
    ("--trainer.logger", "NoSuchLogger"),
    ("--trainer.logger", "nolib.Logger"),
    ("--trainer.logger", "torch.nn.Linear"),
    ("--trainer.logger", "CSVLogger"),  # without its save_dir
    ("--trainer.callbacks", "EarlyStopping"),  # without its monitor
    ("--trainer.callbacks", "nolib.Callback"),
    ("--trainer.strategy", "deepspeed"),
    ("--trainer.strategy", "xla"),
    ("--trainer.strategy", "fsdp"),
    ("--trainer.strategy", "no such"),
    ("--trainer.accelerator", "tpu"),
    ("--trainer.accelerator", "hpu"),
    ("--trainer.precision", "transformer-engine"),
    ("--trainer.precision", "no such"),
    ("--trainer.profiler", "xla"),
    ("--trainer.profiler", "no such"),
    ("--trainer.plugins", "BitsandbytesPrecision"),
    ("--model.generator", "no.such.Generator"),
    ("--model.learner", "no.such.Learner"),
]


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("metagen: error: ")
    assert error.count("\n") == 1
    assert "Namespace" not in error
    return error


@pytest.mark.parametrize(("option", "value"), REFUSED)
def test_what_a_library_refuses_or_lacks_is_one_line(fit, tmp_path, monkeypatch, capsys, option, value):
    (tmp_path / "needy.py").write_text(NEEDY)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert fit(tmp_path / "run", option, value) == 2
    said = one_line(capsys)
    if "needy" in value:
        assert "nolib" in said  # what is to be installed
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.parametrize("accelerator", ["tpu", "hpu", "no such"])
def test_an_accelerator_that_is_not_there_is_refused_where_models_are_judged(accelerator):
    with pytest.raises(MetagenError), Processes(accelerator=accelerator).launched():
        pass


@pytest.fixture(scope="module")
def things(exported, tmp_path_factory):
    """What a user may take for a model: a folder of such files and folders."""
    place = tmp_path_factory.mktemp("things")
    shutil.copytree(exported.parent, place / "run")
    torch.save({"state_dict": {}}, place / "other.ckpt")
    torch.save({"a": torch.ones(1)}, place / "weights.pth")
    with zipfile.ZipFile(place / "model.zip", "w") as packed:
        packed.write(exported / "config.json", "config.json")
    (place / "text.txt").write_text("a model")
    (place / "nothing").write_bytes(b"")
    (place / "empty").mkdir()
    (place / "torn").mkdir()
    (place / "torn/config.json").write_text('{"format": ')
    save_png(torch.rand(1, 28, 28), place / "picture.png")
    return place


NAMES = [
    "run",
    "run/checkpoints",
    "run/checkpoints/best.ckpt",
    "run/export/config.json",
    "run/export/model.safetensors",
    "run/config.yaml",
    "other.ckpt",
    "weights.pth",
    "model.zip",
    "text.txt",
    "nothing",
    "empty",
    "torn",
    "picture.png",
    "not there",
]


def told(load, *args) -> str:
    with pytest.raises(MetagenError) as refused:
        load(*args)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("load", [metagen.load, load_base, load_extractor, load_zoo])
def test_what_is_no_saved_folder_is_refused(things, name, load):
    said = told(load, things / name)
    assert str(things / name) in said
    if name == "run":
        assert str(things / "run/export") in said  # what to name instead
    assert "config.json/config.json" not in said
    assert "NotADirectoryError" not in said


@pytest.mark.parametrize("name", [name for name in NAMES if name != "picture.png"])
def test_what_is_no_support_is_refused(things, exported, tmp_path, capsys, name):
    words = ["adapt", "--model", str(exported), "--support", str(things / name), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert str(things / name) in one_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["--model.initial", "--model.chosen_by"])
def test_a_run_does_not_begin_from_it(fit, things, tmp_path, capsys, name, option):
    assert fit(tmp_path / "run", option, str(things / name)) == 2
    one_line(capsys)
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("name", [n for n in NAMES if n != "run/checkpoints/best.ckpt" and n != "run/checkpoints"])
def test_a_run_does_not_go_on_from_what_is_no_checkpoint(fit, things, tmp_path, capsys, name):
    assert fit(tmp_path / "run", "--ckpt_path", str(things / name)) == 2
    one_line(capsys)
    if (things / name).is_file():
        told(read_checkpoint, things / name)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_not_looked_through(things, exported, blobs, tmp_path, capsys, name):
    words = ["evaluate", "--model", str(exported), "--extractor", str(things / name), "--out", str(tmp_path / "out")]
    words += ["--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json")]
    assert main([*words, "--data.queries", "4"]) == 2
    assert str(things / name) in one_line(capsys)
    assert not list(tmp_path.iterdir())
