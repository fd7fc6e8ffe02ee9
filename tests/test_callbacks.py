"""Averaged weights, the guard, the pictures of a run, and its end by Ctrl-C."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver

from metagen.adaptation import draw_noise
from metagen.errors import MetagenError
from metagen.learners import MAML, adapt_tasks
from metagen.tasks import task_sets
from metagen.training.callbacks import EMA, NonFiniteGuard
from metagen.training.checkpoints import Checkpoints
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from tests.doubles import Blobs, BrokenBlobs, Recorder, tiny_vae


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Train on blobs without the verb: (callbacks, task set, Trainer options) -> the trained module."""

    def train(callbacks, kind=Blobs, learner=MAML, **options):
        monkeypatch.setitem(task_sets._classes, "blobs", kind)
        torch.manual_seed(0)
        module = MetaTraining(tiny_vae(size=28, widths=(2, 4)), lambda generator: learner(generator), warmup=0)
        data = EpisodeData("blobs", shots=2, queries=3, tasks=4, val_tasks=3, episodes=6)
        trainer = pl.Trainer(
            default_root_dir=tmp_path, accelerator="cpu", callbacks=callbacks, max_epochs=1, logger=False,
            val_check_interval=3, check_val_every_n_epoch=None, enable_progress_bar=False, enable_model_summary=False,
            **options,
        )  # fmt: skip
        trainer.fit(module, data)
        return module

    return train


def test_averaged_weights_are_those_of_the_formula_and_are_what_is_kept(run, tmp_path):
    recorder, checkpoints, decay = Recorder(), Checkpoints(tmp_path), 0.4
    module = run([recorder, EMA(decay), checkpoints])
    averages: list[dict[str, torch.Tensor]] = []
    for count, weights in enumerate(recorder.weights):
        keep = min(decay, (1 + count) / (10 + count)) if count else 0.0
        old = averages[-1] if averages else weights
        averages.append({name: keep * old[name] + (1 - keep) * w for name, w in weights.items()})
    assert len(averages) == 6
    for step, name in ((checkpoints.best_step, "best"), (6, "last")):
        state = torch.load(checkpoints.path(name), weights_only=True)
        for weight, average in averages[step - 1].items():
            torch.testing.assert_close(state["state_dict"][f"learner.{weight}"], average, rtol=0, atol=1e-6)
            assert torch.equal(state["current_model_state"][f"learner.{weight}"], recorder.weights[step - 1][weight])
    for weight, w in module.learner.named_parameters():
        torch.testing.assert_close(w.detach(), averages[-1][weight], rtol=0, atol=1e-6)


def test_validation_judges_the_averaged_weights(run, tmp_path):
    checkpoints = Checkpoints(tmp_path)
    module = run([EMA(0.9), checkpoints])
    state = torch.load(checkpoints.path("best"), weights_only=True)["state_dict"]
    module.learner.load_state_dict({name.removeprefix("learner."): w for name, w in state.items()})
    losses = []
    for episode in module.data.episodes.held_out("val", 4, 3):
        adapted = adapt_tasks(module.learner, episode.support, (0, "val", 0), episode.numbers)
        noise = draw_noise(module.learner.generator, (0, "val", 0, "query"), episode.numbers, 3)
        losses.append(adapted.query_loss(episode.query, noise)["vae"])
    assert checkpoints.best == pytest.approx(float(torch.cat(losses).mean()), rel=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(MetagenError, match=r"ema.decay: expected"):
        EMA(decay)


def test_the_guard_stops_at_the_bad_task_and_keeps_good_weights(run, tmp_path):
    recorder = Recorder()
    with pytest.raises(MetagenError, match="not finite at step") as caught:
        run([recorder, NonFiniteGuard(), EMA()], BrokenBlobs)
    steps = len(recorder.weights)
    said = str(caught.value)
    assert said.startswith("gradient of learner.generator.encoder.convs.0.weight")
    assert f"at step {steps}, task 'blob-3'" in said
    assert str(tmp_path / "last-good.ckpt") in said
    state = torch.load(tmp_path / "last-good.ckpt", weights_only=True)
    assert all(w.isfinite().all() for part in ("state_dict", "current_model_state") for w in state[part].values())
    for name, w in (recorder.weights[-1] if steps else {}).items():
        assert torch.equal(state["current_model_state"][f"learner.{name}"], w)


def test_the_guard_sees_a_loss_that_is_not_finite_though_every_gradient_is(run, monkeypatch):
    true_step = MetaTraining.training_step

    def step(module, episode, index):
        result = true_step(module, episode, index)
        module.losses["vae"][1] = torch.inf
        return result

    monkeypatch.setattr(MetaTraining, "training_step", step)
    with pytest.raises(MetagenError, match="query loss is not finite at step 0, task 'blob-"):
        run([NonFiniteGuard()])


def test_the_guard_raises_no_false_alarm_where_only_a_sum_overflows(run, monkeypatch):
    true_step = MetaTraining.training_step

    def step(module, episode, index):
        result = true_step(module, episode, index)
        module.losses["vae"] = torch.full((4,), 3e38)
        return result

    monkeypatch.setattr(MetaTraining, "training_step", step)
    run([NonFiniteGuard()])


def test_pictures_are_drawn_at_every_validation(fit, tmp_path):
    assert fit(tmp_path, "--model.rate", "0.03") == 0
    first, *_, last = sorted((tmp_path / "samples").iterdir())
    assert [first.name, last.name] == ["step-000004.png", "step-000012.png"]
    assert first.read_bytes() != last.read_bytes()


def test_a_run_that_was_stopped_is_not_killed_for_its_processes_having_ended(tmp_path, monkeypatch):
    ended = subprocess.Popen([sys.executable, "-c", "raise SystemExit(130)"])
    ended.wait()
    launcher, killed, checkpoints = SimpleNamespace(procs=[ended]), [], Checkpoints(tmp_path)
    observer = _ChildProcessObserver(os.getpid(), launcher.procs)
    monkeypatch.setattr(observer, "_terminate_all", lambda: killed.append(launcher))
    checkpoints.stopped = True
    with pytest.raises(KeyboardInterrupt):
        checkpoints.on_train_batch_start(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher)))
    assert observer._run()  # and need not look again
    assert not killed
