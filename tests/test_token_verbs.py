"""A token VAE by the verbs: its tokenizer, its prior, and what is made and measured of it."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path

import pytest
import torch

import metagen
from metagen.cli import main
from metagen.learners import Amortised
from metagen.learners.model_files import save_model
from metagen.model import Model
from metagen.storage.images import save_pngs
from metagen.tasks.splits import read_split
from tests.doubles import tiny_generator
from tests.test_fit import error_of


def run(*words):
    """A verb as a user types it, which goes well."""
    assert main([str(word) for word in words]) == 0


@pytest.fixture
def untrained(blobs, tmp_path):
    """A small token VAE of ink, saved with the split and the data of blobs."""
    torch.manual_seed(0)
    learner = Amortised(tiny_generator("token_vae", size=28, contrast=1.0))
    data = {"task_set": "folder", "size": 28, "channels": 1, "shots": 2, "queries": 4}
    info = {"data": data, "training": {"seed": 0}}
    split = read_split(blobs / "split.json")
    save_model(tmp_path / "export", learner, info, split)
    return tmp_path / "export"


def test_the_configs_for_one_s_own_images_lead_from_a_tokenizer_to_samples(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("--data.root", blobs / "tasks", "--data.split_file", blobs / "split.json")
    brief = ("--data.shots", 2, "--data.queries", 3, "--data.tasks", 2, "--data.val_tasks", 2, "--data.episodes", 2)
    quick = (
        "--trainer.val_check_interval",
        2,
        "--trainer.accelerator",
        "cpu",
        "--trainer.enable_progress_bar",
        "false",
    )
    options = (*data, *brief, *quick, "--samples.tasks", 1, "--samples.generated", 2)
    small = ("--model.generator.tokenizer_width", 8, "--model.generator.width", 16)
    run("fit", "--config", "folder/tokenizer", *options, "--model.generator.width", 8)
    run("fit", "--config", "folder/token-vae-own-tokenizer", *options, *small)
    export = Path("runs/folder-token-vae-own-tokenizer/export")
    model, begun = metagen.load(export), metagen.load("runs/folder-tokenizer/export").learner.generator
    assert model.info["training"]["initial"]["initialised_from"] == "tokenizer"
    for name, weight in model.learner.generator.tokenizer.state_dict().items():
        assert torch.equal(weight, begun.state_dict()[name]), name
    run("adapt", "--model", export, "--support", blobs / "tasks" / "blob-17", "--out", "mine")
    run("sample", "--model", "mine", "--n", 2, "--out", "drawn")
    drawn = metagen.load(tmp_path / "mine").sample(2)
    assert drawn.shape == (2, 3, 64, 64)
    assert drawn.isfinite().all()
    save_pngs(drawn, tmp_path / "expected")
    for picture in sorted(Path("expected").iterdir()):
        assert Path("drawn", picture.name).read_bytes() == picture.read_bytes()


def test_a_token_vae_does_not_begin_at_random(blobs, tmp_path, capsys):
    words = [
        "fit",
        "--config",
        "folder/token-vae-own-tokenizer",
        "--data.root",
        blobs / "tasks",
        "--run_dir",
        tmp_path / "run",
    ]
    words += ["--data.split_file", blobs / "split.json", "--data.shots", 2, "--data.queries", 3, "--data.tasks", 2]
    said = error_of(capsys, *words, "--model.initial", "null")
    assert said.startswith("initial: TokenVAE keeps tokenizer.* as they are when training begins")
    assert said.endswith("as --model.initial")
    assert not (tmp_path / "run").exists()


def test_it_is_adapted_sampled_and_evaluated(untrained, blobs, tmp_path):
    mine, card, support = tmp_path / "mine", tmp_path / "card", blobs / "tasks" / "blob-17"
    run("adapt", "--model", untrained, "--support", support, "--out", mine)
    run("sample", "--model", mine, "--n", 3, "--out", tmp_path / "drawn")
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 4
    assert torch.equal(
        metagen.load(mine).sample(3), metagen.load(untrained).adapt(blobs / "tasks" / "blob-17").sample(3)
    )
    tasks = ("--data.root", blobs / "tasks", "--data.split_file", blobs / "split.json")
    quick = ("--extractor", "omniglot-report", "--baselines", "false", "--curve", "[0]")
    run("evaluate", "--model", untrained, *tasks, *quick, "--out", card)
    rows = {row["row"]: row["figures"] for row in json.loads((card / "result.json").read_text())["rows"]}
    made, people = rows["adapted"], rows["human"]
    assert made["query_loss"]["tasks"] == 5
    for name in ("fd", "recognisability", "diversity_relative", "near_copies"):
        assert isfinite(made[f"{name}[omniglot-report]"]["mean"]), name
    assert made["fd[omniglot-report]"]["low"] > people["fd[omniglot-report]"]["high"]  # it was never trained


def test_guidance_and_contrast_bear_on_samples(untrained, tmp_path, capsys):
    mine = metagen.load(untrained).adapt(torch.rand(2, 1, 28, 28))
    mine.save(tmp_path / "mine")
    words = ("sample", "--model", tmp_path / "mine", "--n", 2, "--out")
    run(*words, tmp_path / "drawn", "--guidance", 2, "--contrast", 1.5)
    assert "; contrast 1.5 (its own: 1); guidance 2 (its own: 1)\n" in capsys.readouterr().out
    expected = mine.sample(2, guidance=2, contrast=1.5)
    assert not torch.equal(expected, mine.sample(2, contrast=1.5))
    assert not torch.equal(expected, mine.sample(2, guidance=2))
    save_pngs(expected, tmp_path / "expected")
    for picture in (tmp_path / "expected").iterdir():
        assert (tmp_path / "drawn" / picture.name).read_bytes() == picture.read_bytes()
    said = error_of(capsys, *words, tmp_path / "other", "--guidance", -1)
    assert said == "guidance: expected a finite number of 0 or more, got -1.0"
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("generator", "options", "asked", "said"),
    [
        ("set_vae", {}, "guidance", "SetVAE has no sampling option guidance; it has"),
        ("redraw", {}, "contrast", "Redraw has no sampling option contrast; it has"),
        (
            "token_vae",
            {"likelihood": "gaussian", "contrast": 1.0},
            "contrast",
            "contrast: expected 1 with the likelihood",
        ),
    ],
)
def test_what_a_model_has_no_option_for_is_refused(generator, options, asked, said, tmp_path, capsys):
    Model(Amortised(tiny_generator(generator, **options)), {}).save(tmp_path / "export")
    metagen.load(tmp_path / "export").adapt(torch.rand(2, 1, 8, 8)).save(tmp_path / "mine")
    words = ("sample", "--model", tmp_path / "mine", "--n", 2, "--out", tmp_path / "drawn")
    assert said in error_of(capsys, *words, f"--{asked}", 2)
    assert not (tmp_path / "drawn").exists()
