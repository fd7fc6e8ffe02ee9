"""Runs that go on with other settings: what is given is used or said not to be, and the export tells what was."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from metagen.cli import main

SHORT = ("--data.episodes", "6", "--model.schedule", "constant", "--trainer.val_check_interval", "3")


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    """A run of 6 steps that was stopped, and validated, after 3."""
    folder = tmp_path_factory.mktemp("stopped")
    assert main(["fit", *tiny, *SHORT, "--run_dir", str(folder), "--trainer.max_steps", "3"]) == 0
    return folder


@pytest.fixture
def go_on(fit, stopped, tmp_path):
    """Continue a copy of it: (*options) -> exit code; the copy is tmp_path / "run"."""
    shutil.copytree(stopped, tmp_path / "run")
    return lambda *options: fit(tmp_path / "run", *SHORT, "--ckpt_path", "last", *options)


@pytest.fixture(scope="module")
def ended(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended")
    assert main(["fit", *tiny, *SHORT, "--run_dir", str(folder)]) == 0
    return folder


def state(run_dir, name="last"):
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)


def weights(run_dir):
    """What was trained, not its average."""
    return state(run_dir)["current_model_state"]


def info(run_dir):
    return json.loads((run_dir / "export" / "config.json").read_text())["info"]


def same(one, other):
    return all(torch.equal(w, other[name]) for name, w in one.items())


USED = {
    "model.rate": "0.01",
    "model.weight_decay": "0.5",
    "model.clip": "0.001",
    "model.schedule": "cosine",
    "model.learner.steps": "1",
    "model.generator.free_bits": "3.0",
    "model.regularise.l2": "0.5",
    "data.shots": "1",
    "data.invert": "true",
    "data.seed": "7",
    "trainer.precision": "bf16-mixed",
    "trainer.accumulate_grad_batches": "3",
}


@pytest.mark.parametrize("option", USED)
def test_a_setting_that_is_given_is_used_from_there_on_and_told(go_on, ended, tmp_path, caplog, option):
    assert go_on(f"--{option}", USED[option]) == 0
    assert not same(weights(ended), weights(tmp_path / "run"))
    (changes,) = info(tmp_path / "run")["training"]["changed"]
    name = "model.regularise" if "regularise" in option else option
    assert changes.keys() == {"step", name}
    assert changes["step"] == 3
    assert sum(name in record.getMessage() for record in caplog.records) == 1


def test_the_average_goes_on_with_another_decay(go_on, ended, tmp_path):
    assert go_on("--ema.decay", "0.1") == 0
    assert same(weights(ended), weights(tmp_path / "run"))
    assert not same(state(ended)["state_dict"], state(tmp_path / "run")["state_dict"])
    assert info(tmp_path / "run")["training"]["changed"] == [{"step": 3, "ema.decay": [0.999, 0.1]}]


@pytest.mark.parametrize("more", [("--seed_everything", "5"), ("--data.workers", "0"), ("--model.chunk", "2")])
def test_what_bears_on_nothing_any_more_leaves_the_run_as_it_was(go_on, ended, tmp_path, caplog, more):
    assert go_on(*more) == 0
    assert same(weights(ended), weights(tmp_path / "run")) or more[0] == "--model.chunk"  # which rounds otherwise
    assert "changed" not in info(tmp_path / "run")["training"]
    told = [record for record in caplog.records if "seed_everything" in record.getMessage()]
    assert len(told) == (more[0] == "--seed_everything")


def test_what_a_run_began_from_stays_what_it_tells(fit, exported, stopped, tmp_path, caplog):
    words = (*SHORT, "--model.initial", str(exported))
    assert fit(tmp_path / "run", *words, "--trainer.max_steps", "3") == 0
    shutil.copytree(exported, tmp_path / "other")
    assert fit(tmp_path / "run", *SHORT, "--ckpt_path", "last", "--model.initial", str(tmp_path / "other")) == 0
    assert info(tmp_path / "run")["training"]["initial"]["name"] == str(exported)
    assert sum("model.initial" in record.getMessage() for record in caplog.records) == 1


def test_every_change_of_a_run_that_goes_on_twice_is_told(go_on, fit, tmp_path):
    assert go_on("--model.rate", "0.01", "--trainer.max_steps", "5") == 0
    assert fit(tmp_path / "run", *SHORT, "--ckpt_path", "last", "--model.rate", "0.02") == 0
    told = info(tmp_path / "run")["training"]
    assert told["changed"] == [{"step": 3, "model.rate": [0.001, 0.01]}, {"step": 5, "model.rate": [0.01, 0.02]}]
    assert told["rate"] == 0.02
    assert {group["lr"] for group in state(tmp_path / "run")["optimizer_states"][0]["param_groups"]} == {0.02}


# the best so far


JUDGED = [
    ("--data.invert", "true"),
    ("--data.shots", "1"),
    ("--data.val_tasks", "2"),
    ("--model.learner.steps", "1"),
    ("--model.chosen_by", "pixels"),
    ("--trainer.limit_val_batches", "0.5", "--data.tasks", "1"),
]


@pytest.mark.parametrize("more", JUDGED, ids=lambda more: more[0])
def test_what_was_best_is_forgotten_when_what_it_was_judged_on_is_changed(go_on, tmp_path, monkeypatch, more):
    """Lower is better, and what came before can be beaten by nothing."""
    checkpoint = state(tmp_path / "run")
    checkpoint["callbacks"]["Checkpoints"]["best"] = -1e9
    torch.save(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert go_on(*more) == 0
    told = info(tmp_path / "run")["training"]
    assert told["best_step"] == 6
    assert told["best_val"] > 0


def test_other_val_images_under_the_same_names_are_other_val_tasks(go_on, blobs, tmp_path):
    shutil.copytree(blobs, tmp_path / "blobs")
    for task in (tmp_path / "blobs" / "tasks").iterdir():
        (task / "0000.png").unlink()
        shutil.copy(task / "0001.png", task / "0000.png")
    checkpoint = state(tmp_path / "run")
    checkpoint["callbacks"]["Checkpoints"]["best"] = -1e9
    torch.save(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert go_on("--data.root", str(tmp_path / "blobs" / "tasks")) == 0
    assert info(tmp_path / "run")["training"]["best_step"] == 6


@pytest.mark.parametrize("more", [("--model.rate", "0.01"), ("--data.tasks", "2"), ("--data.seed", "3")])
def test_what_was_best_stays_when_it_was_judged_alike(go_on, tmp_path, more):
    checkpoint = state(tmp_path / "run")
    checkpoint["callbacks"]["Checkpoints"]["best"] = -1e9
    torch.save(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert go_on(*more) == 0
    assert info(tmp_path / "run")["training"]["best_step"] == 3


def test_a_run_that_goes_on_in_another_folder_exports_the_best_of_there(fit, stopped, tmp_path):
    checkpoint = state(stopped)
    checkpoint["callbacks"]["Checkpoints"]["best"] = -1e9  # the file of which lies in the other folder
    torch.save(checkpoint, tmp_path / "last.ckpt")
    assert fit(tmp_path / "new", *SHORT, "--ckpt_path", str(tmp_path / "last.ckpt")) == 0
    assert info(tmp_path / "new")["training"]["best_step"] == 6


# runs that have ended


def test_an_ended_run_that_is_asked_for_more_goes_on_as_one_never_ended(fit, ended, tmp_path):
    longer = (*SHORT[2:], "--data.episodes", "9")
    assert fit(tmp_path / "whole", *longer) == 0
    shutil.copytree(ended, tmp_path / "run")
    assert fit(tmp_path / "run", *longer, "--ckpt_path", "last") == 0
    assert state(tmp_path / "run")["global_step"] == 9
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))
    assert info(tmp_path / "run")["training"]["meta_steps"] == 9


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--data.episodes", "4"),
        ("--trainer.max_steps", "5"),
        ("--model.rate", "0.5"),
        ("--data.invert", "true"),
        ("--model.learner.steps", "1"),
    ],
    ids=" ".join,
)
def test_an_ended_run_with_nothing_left_to_do_says_so_and_keeps_its_export(fit, ended, tmp_path, capsys, more):
    shutil.copytree(ended, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run" / "export").iterdir()}
    assert fit(tmp_path / "run", *SHORT, "--ckpt_path", "last", *more) == 0
    assert len([line for line in capsys.readouterr().out.splitlines() if "step 6" in line]) == 1
    after = {path.name: path.read_bytes() for path in (tmp_path / "run" / "export").iterdir()}
    assert before == after


def test_a_stopped_run_that_is_asked_for_less_ends_there(fit, stopped, tmp_path, capsys):
    shutil.copytree(stopped, tmp_path / "run")
    assert fit(tmp_path / "run", *SHORT[2:], "--data.episodes", "2", "--ckpt_path", "last") == 0
    assert "step 3" in capsys.readouterr().out
    assert info(tmp_path / "run") == info(stopped)


@pytest.mark.parametrize(
    "other",
    [
        ("--model.generator.latent", "3"),
        ("--model.learner", "MetaSGD"),
        ("--data.size", "32"),
        ("--model.generator.latent", "3", "--data.task_set", "glyphs", "--data.root", "null"),
    ],
    ids=["generator", "learner", "size", "task set, too"],
)
def test_a_checkpoint_that_does_not_fit_leaves_the_run_as_it_was(go_on, stopped, tmp_path, other):
    before = {path.name: path.read_bytes() for path in stopped.iterdir() if path.is_file()}
    split = ("--data.split_file", "null") if "glyphs" in other else ()
    assert go_on(*other, *split) == 2
    after = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir() if path.is_file()}
    assert after == before


def test_a_checkpoint_of_before_settings_were_kept_goes_on_and_says_so(go_on, ended, tmp_path, caplog):
    checkpoint = state(tmp_path / "run")
    for name in ("record", "judged_on"):
        del checkpoint["callbacks"]["Checkpoints"][name]
    del checkpoint["EpisodeData"]
    torch.save(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert go_on() == 0
    assert same(weights(ended), weights(tmp_path / "run"))
    assert sum("settings" in record.getMessage() for record in caplog.records) == 1
