"""A start and a step that depend on an embedding: how they begin, what they are by hand, what they depend on."""

from __future__ import annotations

import pytest
import torch

import metagen
from metagen.errors import MetagenError
from metagen.learners import MAML, TaskEmbedding, adapt_tasks
from metagen.model import Model
from tests.doubles import tiny_vae
from tests.test_meta_gradients import batch_for, check_finite_differences

SUPPORT = torch.rand(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def awake(learner):
    """The same learner, what begins at 0 away from there."""
    with torch.no_grad():
        for name, weight in learner.named_parameters():
            if not name.startswith("generator."):
                weight.add_(0.1 * torch.randn_like(weight))
    return learner


def double(**options):
    torch.manual_seed(0)
    return TaskEmbedding(tiny_vae().double(), code=3, **options)


@pytest.mark.parametrize("uses", [("start",), ("gates",), ("start", "gates")])
def test_it_begins_as_maml(uses):
    learner = double(uses=uses, rate=0.02)
    maml = MAML(learner.generator, steps=3, rate=0.02)
    supports = SUPPORT[None]
    found, wanted = (adapt_tasks(each, supports, (0,)).difference for each in (learner, maml))
    for name, d in wanted.items():
        torch.testing.assert_close(found[name], d, rtol=0, atol=1e-15)


def test_what_an_embedding_changes_is_what_a_plain_loop_says():
    learner = awake(double(uses=("start", "gates")))
    start, e = learner.start(), learner.embedding(SUPPORT)
    written = learner.weight_changes(start, SUPPORT, {})
    for name in learner.adapted_names:
        w = start[name].detach()
        factors = (3 * torch.tanh(learner.gates[name] @ e / 3)).exp()
        gated = w * factors.reshape([-1 if axis == learner.axes[name] else 1 for axis in range(w.ndim)])
        offsets = learner.offsets[name] @ e
        moved = torch.stack([gated[c] + offsets[c] * row_of(learner, name, w) for c in range(len(w))])
        torch.testing.assert_close(start[name] + written[name], moved)


def row_of(learner, name, weight):
    return learner.rows[name].view_as(weight[0]) if weight.ndim > 1 else 1


@pytest.mark.parametrize("encoder", ["set", "prototype", "attention"])
def test_the_order_of_the_support_does_not_matter_but_the_support_does(encoder):
    learner = awake(double(encoder=encoder, uses=("start", "step")))
    first = adapt_tasks(learner, torch.stack([SUPPORT, SUPPORT.flip(0), SUPPORT * 0.5]), (0,), tasks=(0, 0, 0), steps=0)
    for d in first.difference.values():
        torch.testing.assert_close(d[1], d[0], rtol=1e-9, atol=1e-12)
    assert max((d[2] - d[0]).abs().max() for d in first.difference.values()) > 1e-5


def test_theta_is_the_start_of_an_empty_support_and_of_a_hidden_one():
    learner = awake(double(uses=("start", "gates"), null_rate=0.5))
    start = learner.start()
    for support, hidden, same in ((SUPPORT[:0], 0.9, True), (SUPPORT, 0.4, True), (SUPPORT, 0.6, False)):
        written = learner.weight_changes(start, support, {"embedding": {"hidden": torch.tensor(hidden)}})
        assert all(not w.any() for w in written.values()) is same
    assert any(w.any() for w in learner.weight_changes(start, SUPPORT, {}).values())  # a trained model hides nothing


@pytest.mark.parametrize("encoder", ["set", "prototype", "attention"])
@pytest.mark.parametrize("uses", [("start", "gates"), ("start", "step")])
def test_the_meta_gradient_is_that_of_finite_differences(encoder, uses):
    learner = awake(double(encoder=encoder, uses=uses, steps=2, rate=1e-3))
    images = torch.rand(2, 6, 1, 8, 8, dtype=torch.float64)
    check_finite_differences(learner, batch_for(learner, images[:, :2], images[:, 2:]))


def test_a_fit_prepares_what_reads_gradients(fit, exported, tmp_path, capsys):
    """The exported model tells tasks apart; with averaged weights, which are copied before anything is prepared.

    Of random weights no gradients are read.
    """
    learner = ["--model.learner", "TaskEmbedding", "--model.learner.encoder", "gradient", "--model.learner.code", "2"]
    options = ["--data.episodes", "4", "--trainer.val_check_interval", "2", "--model.rate", "0.01"]
    assert fit(tmp_path / "run", *learner, *options) == 2
    assert "initial: TaskEmbedding (encoder gradient) keeps the generator" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    assert fit(tmp_path / "run", *learner, *options, "--model.initial", str(exported)) == 0
    model = metagen.load(tmp_path / "run" / "export")
    assert isinstance(model, Model)
    made = model.learner
    assert isinstance(made, TaskEmbedding)
    size = made.generator.size
    dark, light = (made.embedding(share * torch.rand(3, 1, size, size)) for share in (0.2, 1.0))
    assert (dark - light).abs().max() > 0.1
    assert any(offset.any() for offset in made.offsets.parameters())


def test_mistakes_are_told_in_one_line():
    for options, said in (
        ({"uses": ("end",)}, "uses"),
        ({"uses": ()}, "one use or more"),
        ({"uses": ("step",), "optimiser": "adam"}, "sgd where the step is written"),
        ({"encoder": "bag"}, "encoder"),
    ):
        with pytest.raises(MetagenError, match=said) as refused:
            double(**options)
        assert "\n" not in str(refused.value)


def test_a_step_that_is_written_leaves_the_start_of_all_tasks_alone():
    assert double(uses=("start", "step")).conditioned
    assert not double(uses=("step",)).conditioned
