"""The commands that verbs propose at their end: that they are quoted, name real places, and are accepted."""

from __future__ import annotations

import json
import shlex

import pytest

from metagen.cli import main
from metagen.report.next_steps import evaluation, next_steps, sibling, task_words
from metagen.tasks.task_data import TaskData
from tests.doubles import Blobs
from tests.test_training import assert_same_run, checkpoint


def proposed(out: str) -> list[list[str]]:
    """The words of the commands after "next:", without the program's name."""
    commands = [shlex.split(line) for line in out.rpartition("next: ")[2].splitlines()]
    assert all(words[0] == "metagen" for words in commands)
    return [words[1:] for words in commands]


def test_commands_are_quoted_one_a_line():
    assert next_steps(["adapt", "--model", "a b"], ["sample", "--n", 3]) == (
        "next: metagen adapt --model 'a b'\n      metagen sample --n 3"
    )


def test_a_folder_beside_another_has_its_name():
    assert [sibling(name, "samples") for name in ("a/b", "a/b/")] == ["a/b-samples"] * 2


def test_tasks_are_named_by_the_options_that_make_them():
    tasks = TaskData("folder", "some where", 32, 3, invert=True, val=4, on_bad_image="skip")
    own = "--data.task_set folder --data.size 32 --data.channels 3 --data.invert true --data.val 4"
    here = ["--data.root", "some where", "--data.on_bad_image", "skip"]
    assert task_words(tasks) == here + own.split()
    assert task_words(tasks, of_a_model=True) == here


def test_a_path_stays_as_it_was_typed():
    assert task_words(TaskData("folder", "True/tasks"), of_a_model=True) == ["--data.root", "True/tasks"]


def test_of_too_few_tasks_or_images_the_loss_alone_is_measured(fit, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert fit("run", "--data.queries", "3") == 0
    _, evaluate = proposed(capsys.readouterr().out)
    assert evaluate[evaluate.index("--extractor") + 1] == "none"
    assert main(evaluate) == 0


@pytest.mark.parametrize("held_out", [("1", "3"), ("2", "2"), ("1", "1")])
def test_with_too_few_val_or_test_tasks_the_loss_alone_is_measured(fit, tmp_path, capsys, monkeypatch, held_out):
    monkeypatch.chdir(tmp_path)
    val, test = held_out
    split = ("--data.split_file", "null", "--data.val", val, "--data.test", test)
    assert fit("run", "--data.queries", "4", *split) == 0
    _, evaluate = proposed(capsys.readouterr().out)
    assert evaluate[evaluate.index("--extractor") + 1] == "none"
    assert main(evaluate) == 0


def test_nothing_is_proposed_where_neither_images_nor_the_loss_can_be_measured(fit, tmp_path, capsys):
    game = ("--model.generator", "GAN", "--model.generator.latent", "2", "--model.generator.widths", "[2, 4]")
    assert fit(tmp_path / "run", "--data.queries", "3", *game) == 0
    assert [words[0] for words in proposed(capsys.readouterr().out)] == ["adapt"]


def test_an_extractor_is_trained_first_where_none_is_bundled(tmp_path):
    assert [words[0] for words in evaluation("m", tmp_path / "e", TaskData("glyphs"), True)] == ["evaluate"]
    other_size = evaluation("m", tmp_path / "e", TaskData("glyphs", size=32), True)
    assert [words[0] for words in other_size] == ["train-extractor", "evaluate"]


def test_what_verbs_propose_runs_from_fit_to_samples(fit, blobs, tmp_path, capsys, monkeypatch):
    """Nothing is typed but what was proposed; the extractor is trained for fewer steps, and fewer tasks are needed."""
    monkeypatch.chdir(tmp_path)
    assert fit("run", "--data.queries", "4") == 0
    adapt, train, evaluate = proposed(capsys.readouterr().out)
    assert adapt[adapt.index("--support") + 1] == str(blobs / "tasks" / Blobs(tasks=20, images=6).split.test[0])
    assert main(adapt) == 0
    (sample,) = proposed(capsys.readouterr().out)
    assert main(sample) == 0
    assert "look at run/adapted-samples/grid.png" in capsys.readouterr().out
    assert main([*train, "--steps", "2"]) == 0
    capsys.readouterr()
    assert main(evaluate) == 0
    (compare,) = proposed(capsys.readouterr().out)
    assert compare == ["compare", "run/evaluation", "ANOTHER_EVALUATION/"]


# runs that end early


INTERRUPT = ("--trainer.callbacks", "tests.doubles.InterruptAt", "--trainer.callbacks.init_args.step")


def training(run):
    return json.loads((run / "export" / "config.json").read_text())["info"]["training"]


@pytest.mark.parametrize(("step", "judged"), [(2, False), (4, True), (7, True)])
def test_ctrl_c_leaves_a_usable_model(fit, tmp_path, capsys, step, judged):
    run = tmp_path / "run"
    assert fit(run, *INTERRUPT, str(step)) == 130
    out, err = capsys.readouterr()
    assert training(run)["meta_steps"] == step
    assert training(run)["best_step"] == (4 if judged else None)
    assert ("no validation yet, so that the last weights are taken" in out) is not judged
    assert proposed(err) == [["fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last"]]


def test_ctrl_c_keeps_the_export_of_a_model_that_is_still_the_best(fit, tmp_path, capsys):
    run = tmp_path / "run"
    assert fit(run, "--trainer.max_steps", "5") == 0
    before = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    assert fit(run, "--ckpt_path", "last", *INTERRUPT, "7") == 130
    assert "stays as it is" in capsys.readouterr().out
    assert before == {path.name: path.read_bytes() for path in (run / "export").iterdir()}


def test_a_time_limit_ends_training_after_a_step_and_the_proposed_command_goes_on(fit, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    assert fit(tmp_path / "whole") == 0
    monkeypatch.setattr(
        "metagen.training.checkpoints.Checkpoints._time_is_up", lambda _, trainer: trainer.global_step == 6
    )
    assert fit(run, "--time_limit", "1.5") == 0
    out = capsys.readouterr().out
    assert "stopped at step 6 after 1.5 minutes, as --time_limit says; the first command below goes on" in out
    assert checkpoint(run)["global_step"] == training(run)["meta_steps"] == 6
    assert training(run)["best_step"] == 4
    assert "time_limit: null" in (run / "config.yaml").read_text()  # so that the next part goes on to the end
    resume, *_ = proposed(out)
    monkeypatch.undo()
    assert main(resume) == 0
    assert_same_run(tmp_path / "whole", run)
    assert "as --time_limit says" not in capsys.readouterr().out


def test_a_time_limit_before_the_first_validation_has_one(fit, tmp_path, capsys):
    assert fit(tmp_path / "run", "--time_limit", "1e-9") == 0
    assert training(tmp_path / "run")["best_step"] == training(tmp_path / "run")["meta_steps"] == 1
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir()] == ["step-000001.png"]
    assert proposed(capsys.readouterr().out)[0][-2:] == ["--ckpt_path", "last"]


@pytest.mark.parametrize("limit", ["0", "-1"])
def test_a_time_limit_has_to_be_positive(fit, tmp_path, capsys, limit):
    assert fit(tmp_path / "run", "--time_limit", limit) == 2
    assert "time_limit: expected" in capsys.readouterr().err
