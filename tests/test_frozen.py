"""Weights that nothing trains: neither an inner step, nor meta-training, nor the row *scratch*."""

from __future__ import annotations

from typing import ClassVar

import pytest
import pytorch_lightning as pl
import torch

from metagen.adaptation import select_params
from metagen.adaptation.encoders import GradientEncoder
from metagen.errors import MetagenError
from metagen.evaluation.baselines import untrained
from metagen.generators import VAE, Redraw, generators
from metagen.learners import IMAML, MAML, AdjointMAML, Joint, LowRankMAML, Reptile, learners
from metagen.model import Model
from metagen.tasks import task_sets
from metagen.training.callbacks import EMA
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from tests.doubles import SMALL, Blobs, pairs
from tests.test_meta_gradients import batch_for, check_finite_differences, gradient


class Held(VAE):
    """A VAE whose encoder stays as it is."""

    frozen: ClassVar[tuple[str, ...]] = ("encoder.*",)


class Parted(Redraw):
    """A generator with a part that is one too, after others that are none."""

    def __init__(self) -> None:
        super().__init__(size=8, latent=2, widths=(2, 4), hidden=4)
        self.part = VAE(size=8, latent=2, widths=(2, 4))


def held(size=8):
    return Held(size=size, latent=2, widths=(2, 4))


def is_held(name):
    """Whether that is a frozen parameter of a learner, whose own encoder, if it has one, is none."""
    return name.startswith("generator.encoder.")


@pytest.mark.parametrize("kind", [MAML, Reptile, LowRankMAML])
def test_meta_training_leaves_them_as_they_are(kind, monkeypatch, tmp_path):
    monkeypatch.setitem(task_sets._classes, "blobs", Blobs)
    torch.manual_seed(0)
    module = MetaTraining(held(28), kind, warmup=0, weight_decay=0.1, clip=1.0)
    before = {name: w.detach().clone() for name, w in module.learner.named_parameters()}
    data = EpisodeData("blobs", shots=2, queries=3, tasks=4, val_tasks=3, episodes=6)
    ema = EMA(0.5)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", callbacks=[ema], max_epochs=1, logger=False,
        val_check_interval=3, check_val_every_n_epoch=None, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    for name, w in module.learner.named_parameters():
        assert torch.equal(w, before[name]) == is_held(name), name
        assert w.requires_grad == (not is_held(name)), name
        assert w.grad is None or not is_held(name)
    for name, w in ema._average_model.module.named_parameters():
        own = name.removeprefix("learner.")
        assert torch.equal(w, before[own]) == is_held(own), name
    trained = [w for group in trainer.optimizers[0].param_groups for w in group["params"]]
    meta = list(module.learner.meta_parameters().values())
    assert {id(w) for w in trained} == {id(w) for w in meta}
    assert len(trained) == len(meta) < len(before)


@pytest.mark.parametrize("learner", [learner for learner, generator in pairs() if generator == "vae"])
def test_every_meta_gradient_is_of_the_others_alone(learner):
    torch.manual_seed(0)
    made = learners[learner](held(), **SMALL.get(learner, {}))
    images = torch.rand(2, 5, 1, 8, 8)
    found = gradient(made, batch_for(made, images[:, :2], images[:, 2:]))
    assert found.keys() == made.meta_parameters().keys() == {n for n, _ in made.named_parameters() if not is_held(n)}
    assert not any(is_held(f"generator.{name}") for name in made.adapted_names)


@pytest.mark.parametrize("kind", [MAML, AdjointMAML, IMAML])
def test_a_meta_gradient_beside_them_is_right(kind):
    torch.manual_seed(0)
    learner, images = kind(held().double(), steps=2), torch.rand(2, 5, 1, 8, 8, dtype=torch.float64)
    alike = kind(VAE(size=8, latent=2, widths=(2, 4)).double(), steps=2, adapted_params=("*", "!encoder.*"))
    alike.load_state_dict(learner.state_dict())
    batch = batch_for(learner, images[:, :2], images[:, 2:])
    expected = gradient(alike, batch)
    for name, g in gradient(learner, batch).items():
        torch.testing.assert_close(g, expected[name], rtol=1e-9, atol=1e-12)


def test_a_meta_gradient_beside_them_agrees_with_finite_differences():
    torch.manual_seed(0)
    learner, images = MAML(held().double(), steps=2, rate=0.05), torch.rand(2, 5, 1, 8, 8, dtype=torch.float64)
    check_finite_differences(learner, batch_for(learner, images[:, :2], images[:, 2:]))


def test_no_inner_step_moves_them():
    assert select_params(held(), ("*",)).keys() == {n for n, _ in held().named_parameters() if n.startswith("decoder.")}
    with pytest.raises(MetagenError, match=r"adapted_params: 'encoder\.\*' matches no weight"):
        MAML(held(), adapted_params=("encoder.*",))


def test_an_encoder_reads_no_gradient_of_them():
    assert GradientEncoder(held(), 2).names == [n for n, _ in held().named_parameters() if n.startswith("decoder.")]


def test_scratch_keeps_them_and_draws_the_rest_anew(monkeypatch):
    monkeypatch.setitem(generators._classes, "held", Held)
    torch.manual_seed(5)
    learner = LowRankMAML(held(), rank=1)
    fresh, trained = untrained(learner), learner.generator.state_dict()
    torch.manual_seed(0)
    drawn = held().state_dict()
    assert fresh.state_dict().keys() == drawn.keys()
    for name, w in fresh.state_dict().items():
        assert torch.equal(w, trained[name] if name.startswith("encoder.") else drawn[name]), name


def test_a_part_takes_a_saved_model_of_its_class_alone(monkeypatch, tmp_path):
    monkeypatch.setitem(generators._classes, "held", Held)
    torch.manual_seed(0)
    part = VAE(8, latent=2, widths=(2, 4))
    Model(Joint(part), {}).save(tmp_path / "part")
    Model(Joint(held()), {}).save(tmp_path / "whole")
    module = MetaTraining(Parted(), Joint, initial=str(tmp_path / "part"))
    assert module.initialised_from == "part"
    for name, w in part.state_dict().items():
        assert torch.equal(module.learner.generator.part.state_dict()[name], w), name
    with pytest.raises(MetagenError, match=r"^initial: "):
        MetaTraining(Parted(), Joint, initial=str(tmp_path / "whole"))
