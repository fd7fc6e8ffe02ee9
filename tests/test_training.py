"""A run of `metagen fit`: that it can be stopped and continued exactly, shared by processes, and believed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._pytree import tree_flatten_with_path

from metagen.adaptation import in_chunks, task_batch
from metagen.cli import main
from metagen.core.philox import Draws
from metagen.errors import MetagenError
from metagen.evaluation.criterion import ByLoss
from metagen.learners import MAML, LowRankMAML, Reptile, TaskEmbedding
from metagen.model import Model
from metagen.tasks import task_sets
from metagen.tasks.splits import Split, read_split
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from tests.doubles import Bilinear, Blobs, UntouchableBlobs, tiny_vae


def checkpoint(run_dir, name="last"):
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)


def leaves(run_dir, name="last"):
    """Everything that a checkpoint holds, but the clock, the place and the tasks seen (of streamed ones no hashes)."""
    state = checkpoint(run_dir, name)
    assert state.pop("EpisodeData")["seen"]
    del state["callbacks"]["Checkpoints"]["seconds"]
    state["callbacks"].pop("InterruptAt", None)
    return {str(path): leaf for path, leaf in tree_flatten_with_path(state)[0]}


def assert_same_run(first, second, atol=0.0):
    for name in ("last", "best"):
        one, other = leaves(first, name), leaves(second, name)
        assert one.keys() == other.keys()
        for path, leaf in one.items():
            if isinstance(leaf, float):
                assert other[path] == pytest.approx(leaf, rel=max(atol, 1e-6 if atol else 0), abs=0), path  # float32
            elif isinstance(leaf, torch.Tensor):
                largest = float(leaf.abs().max()) if leaf.numel() else 0.0  # rounding goes with it, in gradients too
                torch.testing.assert_close(
                    other[path], leaf, rtol=0, atol=atol * max(1.0, largest), msg=f"{name}: {path}"
                )
            else:
                assert other[path] == leaf, path


def validated_at(run_dir):
    return sorted(int(path.stem.split("-")[1]) for path in (run_dir / "samples").iterdir())


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """A run that nobody stopped; its end lies between two validations."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(["fit", *tiny, "--data.episodes", "10", "--run_dir", str(folder)]) == 0
    return folder


INTERRUPT = ("--trainer.callbacks", "tests.doubles.InterruptAt", "--trainer.callbacks.init_args.step")


@pytest.mark.parametrize(
    ("stop", "code", "step"),
    [
        (("--trainer.max_steps", "7"), 0, 7),
        (("--trainer.max_steps", "8"), 0, 8),  # a validation is due at this step
        ((*INTERRUPT, "3"), 130, 3),  # before the first validation
        ((*INTERRUPT, "8"), 130, 8),
        ((*INTERRUPT, "10"), 130, 10),  # nothing but the export is left to do
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_run_stopped_and_continued_is_the_run_never_stopped(fit, whole, tmp_path, stop, code, step):
    assert fit(tmp_path, "--data.episodes", "10", *stop) == code
    assert checkpoint(tmp_path)["global_step"] == step
    assert fit(tmp_path, "--data.episodes", "10", "--ckpt_path", "last") == 0
    assert_same_run(whole, tmp_path)
    assert validated_at(tmp_path) == validated_at(whole) == [4, 8, 10]


def test_resuming_with_accumulated_gradients_is_exact(fit, tmp_path):
    options = ("--trainer.accumulate_grad_batches", "2")
    assert fit(tmp_path / "whole", *options) == 0
    assert fit(tmp_path / "parts", *options, "--trainer.max_steps", "3") == 0
    assert fit(tmp_path / "parts", *options, "--ckpt_path", "last") == 0
    assert checkpoint(tmp_path / "whole")["global_step"] == 6
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_what_is_saved_amid_the_batches_of_a_step_waits_for_the_step(fit, tmp_path, monkeypatch):
    """A checkpoint holds no gradients that wait for more of them, so that a run that was killed goes on exactly."""
    saved = []

    def save(self, trainer, name):
        saved.append((name, trainer.fit_loop.epoch_loop.total_batch_idx + 1))

    monkeypatch.setattr("metagen.training.checkpoints.Checkpoints._save", save)
    fit(
        tmp_path, "--data.episodes", "12", "--trainer.accumulate_grad_batches", "3", "--trainer.val_check_interval", "4"
    )
    assert [batch for name, batch in saved if name == "last"] == [6, 9, 12]


def test_ctrl_c_is_one_line_and_leaves_whole_files(fit, tmp_path, capsys):
    assert fit(tmp_path, *INTERRUPT, "5") == 130
    assert capsys.readouterr().err == (
        f"metagen: stopped at step 5; next: metagen fit --config {tmp_path / 'config.yaml'} --ckpt_path last\n"
    )
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_streamed_run_stopped_and_continued_is_the_run_in_memory(whole, fit, tmp_path, monkeypatch):
    monkeypatch.setattr("metagen.tasks.folder.MAX_KEPT", 0)
    assert fit(tmp_path, "--data.episodes", "10", *INTERRUPT, "6") == 130
    assert fit(tmp_path, "--data.episodes", "10", "--ckpt_path", "last") == 0
    assert_same_run(whole, tmp_path)


@pytest.mark.parametrize("damage", ["cut", "one byte", "gone"])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(whole, fit, tmp_path, caplog, damage):
    assert fit(tmp_path, "--data.episodes", "10", *INTERRUPT, "6") == 130
    last = tmp_path / "checkpoints" / "last.ckpt"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.unlink() if damage == "gone" else last.write_bytes(data if damage == "one byte" else data[:-100])
    assert fit(tmp_path, "--data.episodes", "10", "--ckpt_path", "last") == 0
    assert any("going on from" in message and "before-last.ckpt" in message for message in caplog.messages)
    assert_same_run(whole, tmp_path)


def test_a_second_ctrl_c_ends_the_run_at_once(fit, tmp_path, capsys):
    assert fit(tmp_path, *INTERRUPT, "6", "--trainer.callbacks.init_args.times", "2") == 130
    assert capsys.readouterr().err.count("\n") == 1
    assert checkpoint(tmp_path)["global_step"] == 4  # of the last validation


def test_stopping_early_bends_no_schedule(fit, tmp_path):
    assert fit(tmp_path, "--trainer.max_steps", "9", "--model.rate", "0.5", "--model.warmup", "0") == 0
    assert checkpoint(tmp_path)["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.5 * 2 * 3 / 12)


def test_the_rate_rises_over_the_warmup_and_stays_under_a_constant_schedule(fit, tmp_path):
    options = ("--model.schedule", "constant", "--model.warmup", "8", "--model.rate", "0.5")
    assert fit(tmp_path / "a", *options, "--trainer.max_steps", "3") == 0
    assert checkpoint(tmp_path / "a")["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.5 * 4 / 8)
    assert fit(tmp_path / "b", *options) == 0
    assert checkpoint(tmp_path / "b")["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.5)


def test_two_processes_learn_what_one_learns(tiny, fit, tmp_path):
    options = ["--data.episodes", "4", "--trainer.val_check_interval", "2"]
    assert fit(tmp_path / "one", *options) == 0
    command = [sys.executable, "-m", "metagen.cli", "fit", *tiny, *options, "--run_dir", str(tmp_path / "two")]
    command += ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # nothing that a user cannot act on
    assert done.stdout.count("exported") == 1
    assert_same_run(tmp_path / "one", tmp_path / "two", atol=1e-5)
    one, two = (load_file(tmp_path / run / "export" / "model.safetensors") for run in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-6)


def test_the_best_model_is_that_of_the_lowest_val_loss(whole):
    with (whole / "metrics.csv").open(newline="") as file:
        losses = {
            int(row["step"]) + 1: float(row["val/query_loss"]) for row in csv.DictReader(file) if row["val/query_loss"]
        }
    training = json.loads((whole / "export" / "config.json").read_text())["info"]["training"]
    assert training["best_step"] == min(losses, key=losses.get)
    assert training["best_val"] == pytest.approx(min(losses.values()), rel=1e-6)
    exported = load_file(whole / "export" / "model.safetensors")
    for name, tensor in checkpoint(whole, "best")["state_dict"].items():
        assert torch.equal(exported[name.removeprefix("learner.")], tensor)


def test_a_worse_validation_replaces_last_and_not_best(fit, tmp_path, monkeypatch):
    worse = count()
    monkeypatch.setattr(ByLoss, "__call__", lambda self, adapted, *_: torch.full((len(adapted),), float(next(worse))))
    assert fit(tmp_path) == 0
    assert checkpoint(tmp_path, "best")["global_step"] < checkpoint(tmp_path)["global_step"] == 12
    exported = load_file(tmp_path / "export" / "model.safetensors")
    for name, tensor in checkpoint(tmp_path, "best")["state_dict"].items():
        assert torch.equal(exported[name.removeprefix("learner.")], tensor)


TOO_FAST = ["--data.tasks", "2", "--data.episodes", "4", "--model.rate", "1", "--model.warmup", "0", "--ema.decay", "0"]


@pytest.fixture(scope="module")
def no_better(tiny, exported, tmp_path_factory):
    """A run that begins from a trained model and makes nothing better."""
    folder = tmp_path_factory.mktemp("no-better")
    assert main(["fit", *tiny, *TOO_FAST, "--model.initial", str(exported), "--run_dir", str(folder)]) == 0
    return folder


def test_the_start_stays_the_best_where_training_makes_nothing_better(fit, exported, tmp_path, capsys):
    assert fit(tmp_path, *TOO_FAST, "--model.initial", str(exported)) == 0
    start, end = (load_file(run / "export" / "model.safetensors") for run in (exported.parent, tmp_path))
    assert all(torch.equal(end[name], weight) for name, weight in start.items())
    training, before = (
        json.loads((run / "export" / "config.json").read_text())["info"]["training"]
        for run in (tmp_path, exported.parent)
    )
    assert training["best_step"] == 0
    assert training["best_val"] == pytest.approx(before["best_val"], rel=1e-6)
    line = f"no better than where it began: best val query loss {before['best_val']:.2f}, less being better, at step 0;"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_run_whose_start_is_best_goes_on_exactly(fit, exported, no_better, tmp_path, name):
    options = (*TOO_FAST, "--model.initial", str(exported))
    assert fit(tmp_path, *options, "--trainer.max_steps", "2") == 0
    assert fit(tmp_path, *options, "--ckpt_path", name) == 0
    assert_same_run(no_better, tmp_path)


@pytest.mark.parametrize("batches", ["0", "1"])
def test_the_validation_of_the_start_changes_nothing_that_is_trained(fit, exported, tmp_path, batches):
    """Without it, or on some of the val tasks alone, the start is not compared."""
    options = (*TOO_FAST, "--model.initial", str(exported))
    assert fit(tmp_path / "with", *options) == 0
    assert fit(tmp_path / "without", *options, "--trainer.num_sanity_val_steps", batches) == 0
    with_it, without = (leaves(tmp_path / run) for run in ("with", "without"))
    torch.testing.assert_close(
        *({path: leaf for path, leaf in run.items() if isinstance(leaf, torch.Tensor)} for run in (with_it, without)),
        rtol=0,
        atol=0,
    )
    assert checkpoint(tmp_path / "with", "best")["global_step"] == 0
    assert checkpoint(tmp_path / "without", "best")["global_step"] > 0


def test_fit_never_looks_at_test_tasks(monkeypatch, fit, tmp_path):
    monkeypatch.setitem(task_sets._classes, "blobs", UntouchableBlobs)
    options = ["--data.task_set", "blobs", "--data.root", "null", "--data.split_file", "null"]
    assert fit(tmp_path, *options) == 0
    with pytest.raises(AssertionError, match="is a test task"):
        UntouchableBlobs().images("blob-23")


def test_a_run_is_neither_written_over_nor_mixed_up(fit, whole, tmp_path, capsys):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert fit(whole) == 2
    assert "holds an earlier run" in capsys.readouterr().err
    assert fit(whole, "--overwrite", "--data.tasks", "11") == 2  # a mistake is found before anything is lost
    assert fit(whole, "--overwrite", "--data.task_set", "foldr") == 2
    assert {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()} == before
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "mine.png").touch()
    assert fit(tmp_path, "--overwrite") == 2  # no run has left this
    assert (tmp_path / "samples" / "mine.png").exists()


def test_overwriting_replaces_all_that_a_run_left(fit, tmp_path):
    assert fit(tmp_path) == 0
    assert fit(tmp_path, "--overwrite", "--data.episodes", "4") == 0
    assert validated_at(tmp_path) == [4]


def test_the_checkpoint_of_another_model_is_refused(fit, whole, tmp_path, capsys):
    path = str(whole / "checkpoints" / "last.ckpt")
    assert fit(tmp_path, "--ckpt_path", path, "--model.generator.latent", "3") == 2
    assert "expected [6, 196] torch.float32, got [4, 196]" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", None])
def test_a_damaged_checkpoint_is_one_line(fit, whole, tmp_path, capsys, damage):
    data = (whole / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "bad.ckpt").write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert fit(tmp_path / "run", "--ckpt_path", str(tmp_path / "bad.ckpt")) == 2
    assert "bad.ckpt: cannot read this checkpoint" in capsys.readouterr().err


def one_step(monkeypatch, learner, chunk):
    """A module, the gradients that one training step leaves on it, and those of `in_chunks` on the same episode."""
    monkeypatch.setitem(task_sets._classes, "blobs", Blobs)
    torch.manual_seed(0)
    module = MetaTraining(tiny_vae(size=28, widths=(2, 4)), learner, chunk=chunk)
    data = EpisodeData("blobs", shots=2, queries=3, tasks=4, seed=3)
    loop = SimpleNamespace(global_step=0, max_epochs=1, accumulate_grad_batches=1)
    module._trainer = SimpleNamespace(datamodule=data, **vars(loop))  # type: ignore[assignment]
    monkeypatch.setattr(module, "log", lambda *args, **kwargs: None)
    episode = data.episodes.train(5, 4)
    module.training_step(episode, 0).backward()
    weights = dict(module.learner.named_parameters())
    key = (3, "train", 5)
    batch = task_batch(module.learner, episode.support, episode.query, key, episode.numbers)
    meta = {name: w.detach() for name, w in weights.items()}
    return weights, in_chunks(module.learner.meta_gradient, module.learner, meta, batch, chunk)[0]


@pytest.mark.parametrize("learner", [MAML, Reptile])
@pytest.mark.parametrize("chunk", [None, 3])
def test_the_scalar_of_a_training_step_has_the_meta_gradient_as_its_gradient(monkeypatch, learner, chunk):
    weights, expected = one_step(monkeypatch, learner, chunk)
    assert {name for name, w in weights.items() if w.grad is not None} == expected.keys()
    for name, g in expected.items():
        assert torch.equal(weights[name].grad, g), name
    assert any(g.abs().max() > 1e-4 for g in expected.values())


def test_validation_adapts(whole):
    with (whole / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/query_loss"]]
    assert rows
    assert all(float(row["val/query_loss"]) != float(row["val/unadapted"]) for row in rows)


def test_a_checkpoint_never_runs_code(fit, tmp_path, capsys):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "bomb.ckpt")
    assert fit(tmp_path / "run", "--ckpt_path", str(tmp_path / "bomb.ckpt")) == 2
    assert "cannot read this checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "exploded").exists()


def test_each_players_gradient_is_clipped_by_its_own_norm():
    generator = Bilinear(torch.eye(4, dtype=torch.float64))
    module = MetaTraining(generator, MAML, clip=1.0)
    y, x = generator.discriminator["y"], generator.generator["x"]
    y.grad, x.grad = torch.full_like(y, 100), torch.full_like(x, 0.1)
    module.configure_gradient_clipping()
    assert y.grad.norm() == pytest.approx(1.0, rel=1e-5)
    assert torch.equal(x.grad, torch.full_like(x, 0.1))


def test_what_a_run_cannot_use_is_refused():
    for options, match in [
        ({"schedule": "cosin"}, "unknown schedule 'cosin': did you mean cosine"),
        ({"weight_decay": -0.1}, "weight_decay: expected a finite number of 0 or more, got -0.1"),
        ({"weight_decay": float("inf")}, "weight_decay: expected a finite number"),
        ({"betas": (0.9, 1.0)}, r"betas: expected 2 numbers of 0 or more and below 1, got \(0.9, 1.0\)"),
        ({"chunk": 0}, "chunk: expected 1 or more"),
        ({"execution": "vmp"}, "did you mean vmap"),
        ({"rate": 0.0}, "rate: expected a finite number above 0"),
        ({"warmup": -1}, "warmup: expected 0 or more, got -1"),
        ({"clip": float("nan")}, "clip: expected 0 or more, got nan"),
    ]:
        with pytest.raises(MetagenError, match=match):
            MetaTraining(tiny_vae(), MAML, **options)
    module = MetaTraining(tiny_vae(), MAML)
    module._trainer = SimpleNamespace(datamodule=None)  # type: ignore[assignment]
    with pytest.raises(MetagenError, match="expected an EpisodeData"):
        _ = module.data


def test_training_begins_from_the_generator_of_a_saved_model(model, tmp_path):
    model.save(tmp_path / "base")
    module = MetaTraining(tiny_vae(), lambda vae: LowRankMAML(vae, rank=1), initial=str(tmp_path / "base"))
    vae, expected = module.learner.generator, model.learner.generator
    noise, support = vae.noise(3, Draws((0,))), torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(vae.generate(noise, support), expected.generate(noise, support))
    Model(LowRankMAML(tiny_vae(), rank=1), {}).save(tmp_path / "deltas")
    for place, other in (("base", tiny_vae(latent=3)), ("base", tiny_vae(widths=(4,))), ("deltas", tiny_vae())):
        with pytest.raises(MetagenError, match=r"^initial: .*has this one's options, and no low-rank deltas$"):
            MetaTraining(other, MAML, initial=str(tmp_path / place))
    with pytest.raises(MetagenError, match="absent"):
        MetaTraining(tiny_vae(), MAML, initial=str(tmp_path / "absent"))


def test_a_learner_of_the_same_kind_and_sizes_goes_on_from_all_that_was_learned(tmp_path):
    def made(**options):
        torch.manual_seed(options.pop("seed", 1))
        return tiny_vae(), lambda vae: TaskEmbedding(vae, **{"code": 3, "encoder": "gradient", **options})

    generator, learner = made(seed=0)
    saved = learner(generator)
    saved.prepare(lambda tasks: torch.rand(6, 2, 1, 8, 8))
    Model(saved, {}).save(tmp_path / "base")
    for options, took in (({"steps": 1}, "learner"), ({"code": 4}, "generator"), ({"encoder": "set"}, "generator")):
        generator, learner = made(**options)
        module = MetaTraining(generator, learner, initial=str(tmp_path / "base"))
        assert module.initialised_from == took
        for name, w in (module.learner if took == "learner" else module.learner.generator).state_dict().items():
            theirs = saved if took == "learner" else saved.generator
            assert torch.equal(w, theirs.state_dict()[name]), name
    other = MetaTraining(tiny_vae(), MAML, initial=str(tmp_path / "base"))
    assert other.initialised_from == "generator"


def test_an_export_tells_what_it_began_from_and_how_fast_it_learned(fit, whole, tmp_path):
    began = str(whole / "export")
    options = ("--model.initial", began, "--model.regularise.l2", "0.001", "--model.rate", "0.002")
    assert fit(tmp_path, *options, "--data.episodes", "4") == 0
    first, told = (
        json.loads((run / "export" / "config.json").read_text())["info"]["training"] for run in (whole, tmp_path)
    )
    weights = json.loads((whole / "export" / "config.json").read_text())["weights_sha256"]
    assert told["initial"] == {"name": began, "weights_sha256": weights, "initialised_from": "learner"}
    assert told["regularise"] == {"l2": 0.001}
    assert (first["rate"], told["rate"]) == (0.001, 0.002)
    assert not {"initial", "regularise"} & first.keys()


def test_a_run_begins_from_no_model_that_has_seen_what_it_holds_out(fit, whole, blobs, tmp_path, capsys):
    train, val, test = (read_split(blobs / "split.json")[part] for part in ("train", "val", "test"))
    shutil.copytree(whole, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}

    def answer(split, initial=whole / "export"):
        (tmp_path / "split.json").write_text(split.to_json())
        words = ("--model.initial", str(initial), "--data.split_file", str(tmp_path / "split.json"), "--overwrite")
        return fit(tmp_path / "run", *words, "--trainer.fast_dev_run", "true"), capsys.readouterr().err

    for split, said in {
        Split(train[1:], (train[0], *val), test): "chosen on 1 of these val tasks, 'blob-0' first; give",
        Split(train[1:], val, (train[0], *test)): "chosen on 1 of these test tasks, 'blob-0' first; give",
        Split(train, test, val): "chosen on 5 of these test tasks",
    }.items():
        code, err = answer(split)
        assert (code, err.count("\n")) == (2, 1)
        assert said in err
    assert answer(Split((*train, val[0]), val[1:], test))[0] == 0  # what was chosen on may be learned from
    shutil.copytree(whole / "export", tmp_path / "unknown")
    for name in ("split.json", "seen.json"):
        (tmp_path / "unknown" / name).unlink()
    assert "nobody knows which tasks" in answer(Split(train, val, test), tmp_path / "unknown")[1]
    assert {path: path.read_bytes() for path in before} == before


def test_a_task_that_diverges_is_not_left_out_of_what_is_chosen_by(fit, tmp_path, monkeypatch):
    """A mean over the other tasks would make a model best that has diverged on one."""
    judge = ByLoss.__call__

    def broken(criterion, adapted, query, key, tasks):
        losses = judge(criterion, adapted, query, key, tasks)
        return torch.where(torch.tensor(tasks) == tasks[0], torch.nan, losses)

    monkeypatch.setattr(ByLoss, "__call__", broken)
    assert fit(tmp_path) == 0
    assert not (tmp_path / "export").exists()
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert {row["val/query_loss"] for row in csv.DictReader(file)} == {"", "inf"}


def test_what_was_best_by_another_criterion_is_forgotten(fit, tmp_path):
    assert fit(tmp_path, "--trainer.max_steps", "4") == 0
    before = json.loads((tmp_path / "export" / "config.json").read_text())["info"]["training"]
    more = ("--ckpt_path", "last", "--model.chosen_by", "pixels")
    assert fit(tmp_path, *more) == 0
    after = json.loads((tmp_path / "export" / "config.json").read_text())["info"]["training"]
    assert (before["chosen_by"], after["chosen_by"]) == ("query_loss", "energy[pixels]")
    assert after["best_step"] > 4
    assert after["best_val"] != before["best_val"]
