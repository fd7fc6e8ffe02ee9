"""`metagen fit` as a user types it: what it leaves, and that every mistake is one line and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import metagen
from metagen.cli import main
from metagen.generators import VAE, generators
from metagen.learners import Joint, learners
from metagen.model import Model
from metagen.tasks import task_sets
from tests.configs import CONFIGS, FOLDER, name_of, written
from tests.doubles import BrokenBlobs, class_of, pairs


def error_of(capsys, *words):
    """The one line that a mistake is answered with."""
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metagen: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("metagen: error: ").strip()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--model.learner MAMLL", "unknown learner 'MAMLL': did you mean MAML"),
        ("--model.learner maml", "unknown learner 'maml': did you mean MAML"),
        ("--model.learner VAE", "unknown learner 'VAE': choose from"),
        ("--model.learner no.Module", "No module named 'no'"),
        (
            "--model.generator.likelihood bernouli",
            "got 'bernouli'; did you mean bernoulli",
        ),
        ("--model.generator.latent x", "--model.generator.latent: expected int, got x"),
        ("--model.generator VEA", "unknown generator 'VEA': did you mean VAE"),
        ("--model.learner.stepz 3", "unknown option of learner MAML 'stepz': did you mean steps"),
        ("--model.generator.latnt 3", "unknown option of generator VAE 'latnt': did you mean latent"),
        ("--model.learner.steps x", "--model.learner.steps: expected int, got x"),
        ("--model.learner.steps -1", "steps: expected 0 or more, got -1"),
        ("--model.regularise 3", "--model.regularise: expected one of dict[str, float], null, got 3"),
        ("--model.regularise.l2 x", "--model.regularise: expected one of dict[str, float], null, got l2=x"),
        ("--model.schedule x", "--model.schedule: expected one of constant, linear, cosine, got 'x'"),
        ("--data.on_bad_image rise", "expected one of raise, skip, null, got 'rise'; did you mean raise?"),
        ("--model.generator.likelihood x", "generator.likelihood: expected one of bernoulli, gaussian, got 'x'"),
        ("--model.generator.widths x", "--model.generator.widths: expected one of tuple[int, ...], null, got x"),
        ("--model.chunk x", "--model.chunk: expected one of int, null, got x"),
        (
            "--model.learner MetaSGD --model.learner.per layer --model.learner.adapted_params []",
            "expected at least one glob",
        ),
        ("--model.rate x", "--model.rate: expected one of float, dict[str, float], got x"),
        ("--ema.decay x", "--ema.decay: expected float, got x"),
        ("--data.sizze 3", "unknown option --data.sizze: did you mean --data.size"),
        ("--data.task_set foldr", "unknown task set 'foldr': did you mean folder"),
        ("--data.tasks 11", "data.tasks: expected at most the 10 train tasks, got 11"),
        ("--data.seed -1", "data.seed: expected 0 or more"),
        ("--data.size 30", "size 30"),
        ("--data.shots 5", "need 8 images a task, but 'blob-0' has 6"),
        ("--config nosuch.yaml", "nosuch.yaml"),
        ("--trainer.precision 16-mixed", "use bf16-mixed or 32"),
        ("--trainer.precision transformer-engine", "use bf16-mixed or 32"),
        ("--trainer.gradient_clip_val 1", "use --model.clip"),
        ("--trainer.limit_val_batches 0", "chosen on val tasks"),
        ("--trainer.accelerator gppu", "gppu"),
        ("--trainer.strategy ddp --trainer.devices 3", "cannot be shared evenly by 3 processes"),
        ("--ckpt_path last", "no checkpoint at"),
        ("--ckpt_path https://localhost/x.ckpt", "no checkpoint at"),
        ("--ema.decay 2", "ema.decay: expected"),
    ],
)
def test_mistakes_are_told_in_one_line(tiny, tmp_path, capsys, options, said):
    assert said in error_of(capsys, "fit", *tiny, "--run_dir", tmp_path / "run", *options.split())
    assert not list(tmp_path.glob("run/checkpoints/*"))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model": {"learner": {"class_path": "MAMLL"}}}, "unknown learner 'MAMLL': did you mean MAML"),
        ({"model": {"learner": {"class_path": "MAML", "init_args": {"stepz": 1}}}}, "did you mean steps"),
        ({"data": {"tsks": 4}}, "unknown option --data.tsks: did you mean --data.tasks"),
        ({"modle": 1}, "unknown option --modle: did you mean --model"),
        ({"data": {"tasks": "x"}}, "--data.tasks: expected int, got x"),
        ("data: [", "parsing"),
        ({"data": "parts/nosuch.yaml"}, "parts/nosuch.yaml: no such file; a config names its parts"),
        ({"model": {"generator": "nosuch.yaml"}}, "nosuch.yaml: no such file; a config names its parts"),
    ],
)
def test_mistakes_in_a_config_are_told_in_one_line(tmp_path, capsys, config, said):
    path = tmp_path / "config.yaml"
    path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    assert said in error_of(capsys, "fit", "--config", path, "--run_dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_error_inside_the_training_is_one_line_too(monkeypatch, fit, tmp_path, capsys):
    monkeypatch.setitem(task_sets._classes, "broken", BrokenBlobs)
    assert fit(tmp_path, "--data.task_set", "broken", "--data.root", "null", "--data.split_file", "null") == 2
    err = capsys.readouterr().err
    assert "task 'blob-3'" in err
    assert err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_one_line(tiny, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot write there" in error_of(capsys, "fit", *tiny, "--run_dir", tmp_path / "file" / "run")


def test_a_dry_run_prints_the_options_and_does_nothing(tiny, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--dry-run", *tiny, "--run_dir", str(tmp_path / "run"), "--overwrite", "--data.invert"])
    assert not stop.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["data"]["tasks"], printed["model"]["warmup"]) == (4, 2)
    assert printed["overwrite"] is printed["data"]["invert"] is True
    assert not list(tmp_path.iterdir())


def test_a_saved_config_repeats_the_run(fit, tmp_path):
    assert fit(tmp_path / "a", "--data.episodes", "4", "--trainer.max_steps", "2") == 0
    assert fit(tmp_path / "a", "--data.episodes", "4", "--ckpt_path", "last") == 0
    assert main(["fit", "--config", str(tmp_path / "a" / "config.yaml"), "--run_dir", str(tmp_path / "b")]) == 0
    one, other = ((tmp_path / run / "export" / "model.safetensors").read_bytes() for run in "ab")
    assert one == other


def test_figures_from_before_an_interruption_are_kept(fit, tmp_path):
    assert fit(tmp_path, "--trainer.max_steps", "4") == 0
    before = (tmp_path / "metrics.csv").read_bytes()
    assert fit(tmp_path, "--ckpt_path", "last") == 0
    assert (tmp_path / "metrics-1.csv").read_bytes() == before


def test_a_rehearsal_writes_nothing(fit, tmp_path):
    assert fit(tmp_path, "--trainer.fast_dev_run", "true") == 0
    assert not list(tmp_path.iterdir())


def start_of(config):
    """An untrained generator of what a config begins from; None if it may begin at random."""
    if name_of(config) in ("omniglot/vae-classical", "omniglot/vae-meta-generator"):  # where its command says so
        return VAE(latent=6, widths=(16, 32), depth=1)
    options = written(config)
    if "initial" not in options["model"]:
        return None
    place = Path(options["model"]["initial"])
    if len(place.parts) == 1:  # a bundled model, which is there
        return None
    made = written(FOLDER / f"{place.parts[1].replace('-', '/', 1)}.yaml")["model"]["generator"]
    (kind,) = [cls for cls in generators.classes if cls.__name__ == made["class_path"]]
    return kind(size=options["data"]["size"], **made.get("init_args", {}))


def brief(blobs):
    """Options that let any config run on a small task set."""
    options = ["--data.task_set", "folder", "--data.root", str(blobs / "tasks"), "--data.channels", "1"]
    options += ["--data.split_file", str(blobs / "split.json"), "--data.shots", "2", "--data.queries", "3"]
    options += ["--data.tasks", "2", "--data.val_tasks", "2", "--data.binarise", "false"]
    return [*options, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_every_config_runs(config, blobs, tmp_path):
    options = [*brief(blobs), "--trainer.fast_dev_run", "2"]
    if start := start_of(config):
        Model(Joint(start), {}).save(tmp_path / "start")
        options += ["--model.initial", str(tmp_path / "start")]
    assert main(["fit", "--config", str(config), *options, "--run_dir", str(tmp_path)]) == 0


def test_the_saved_config_of_a_run_holds_the_parts_of_its_config(blobs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [*brief(blobs), "--data.episodes", "2", "--trainer.val_check_interval", "2"]
    assert main(["fit", "--config", "omniglot/vae-maml", *options]) == 0
    run = Path("runs/omniglot-vae-maml")
    saved = yaml.safe_load((run / "config.yaml").read_text())
    own = written(FOLDER / "omniglot/vae-maml.yaml")["model"]["generator"]["init_args"]
    assert own.items() <= saved["model"]["generator"]["init_args"].items()
    assert saved["data"]["size"] == 28
    assert main(["fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last", "--data.episodes", "4"]) == 0


@pytest.mark.parametrize("learner", learners)
def test_every_learner_is_trained_exported_and_adapted(learner, fit, blobs, tmp_path):
    generator = next(class_of(of) for name, of in pairs() if name == learner).__name__
    options = ["--model.generator", generator, "--model.generator.latent", "2", "--model.generator.widths", "[2, 4]"]
    kind = ["--model.learner", learners[learner].__name__]
    assert fit(tmp_path / "run", *options, *kind, "--data.episodes", "2", "--trainer.val_check_interval", "2") == 0
    place, support = tmp_path / "mine", sorted((blobs / "tasks" / "blob-1").iterdir())
    model = str(tmp_path / "run/export")
    assert main(["adapt", "--model", model, "--support", str(support[0].parent), "--out", str(place)]) == 0
    assert main(["sample", "--model", str(place), "--n", "3", "--out", str(tmp_path / "samples")]) == 0
    again, fresh = metagen.load(place), metagen.load(model).adapt(support[0].parent)
    assert torch.equal(again.sample(3), fresh.sample(3))
    moved = again.adapted.difference
    assert set(moved) == metagen.load(model).learner.adapted_names
    assert any(d.any() for d in moved.values()) or not moved


def test_the_program_says_nothing_that_a_user_cannot_act_on(exported, blobs, tmp_path):
    command = [sys.executable, "-m", "metagen.cli", "adapt", "--model", exported, "--out", tmp_path / "mine"]
    command += ["--support", blobs / "tasks" / "blob-19"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 2)
