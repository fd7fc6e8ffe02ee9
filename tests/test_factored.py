"""Weights of linear layers that are never written out: the same adaptation and meta-gradients."""

from __future__ import annotations

from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metagen.adaptation import Regulariser, trajectory
from metagen.adaptation.meta_gradients.base import MetaStep
from metagen.core.factored import Factored, inputs_of_layers
from metagen.core.functional import Weights, with_weights
from metagen.generators import VAE
from metagen.learners import FOMAML, MAML, MAMLPP, FixedRate, Reptile
from tests.doubles import Quadratic
from tests.test_meta_gradients import batch_for, meta_of

LAYERS = {"encoder.head.weight", "decoder.stem.weight"}


def wide_vae(**options) -> VAE:
    """A VAE whose linear layers are wide enough for changes of low rank."""
    torch.manual_seed(0)
    return VAE(size=8, latent=16, widths=(4, 8), **options).double()


def batch_of(learner, tasks=3, shots=2):
    images = torch.rand(tasks, shots + 3, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return batch_for(learner, images[:, :shots], images[:, shots:])


def meta_step(learner, batch, execution) -> MetaStep:
    return learner.meta_gradient(learner, meta_of(learner), batch, execution)


def factored_names(learner, batch) -> set[str]:
    support, noise = batch.support[0], {"vae": {n: x[0] for n, x in batch.support_noise["vae"].items()}}
    *_, (weights, _) = trajectory(learner, support, noise, factored=True)
    return {name for name, weight in weights.items() if isinstance(weight, Factored)}


def test_a_factored_weight_is_the_base_and_the_sum_of_its_products():
    torch.manual_seed(0)
    layer = nn.Linear(5, 4).double()
    left, right = torch.randn(3, 2, 4, dtype=torch.float64), torch.randn(3, 2, 5, dtype=torch.float64)
    weight, x = Factored(layer.weight.detach(), left, right), torch.randn(2, 7, 5, dtype=torch.float64)
    dense = layer.weight + torch.einsum("nro,nri->oi", left, right)
    changed = with_weights(layer, cast(Weights, {"weight": weight}))
    torch.testing.assert_close(changed(x), F.linear(x, dense, layer.bias), rtol=0, atol=1e-12)
    torch.testing.assert_close(changed.weight, dense, rtol=0, atol=1e-12)
    assert type(layer) is nn.Linear


@pytest.mark.parametrize("execution", ["vmap", "loop"])
@pytest.mark.parametrize("kind", [MAML, FOMAML, Reptile])
def test_meta_gradients_are_those_of_weights_that_are_written_out(kind, execution, monkeypatch):
    learner = kind(wide_vae(), steps=3, rate=0.1)
    batch = batch_of(learner)
    assert factored_names(learner, batch) == LAYERS

    found = meta_step(learner, batch, execution)
    monkeypatch.setattr(FixedRate, "factored", lambda self, carry, *rest: carry)
    expected = meta_step(learner, batch, execution)
    for name, g in expected.gradients.items():
        torch.testing.assert_close(found.gradients[name], g, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("learner", "names"),
    [
        (lambda: MAML(wide_vae(), steps=3, rate=0.1, adapted_params=("encoder.*",)), {"encoder.head.weight"}),
        (lambda: MAML(wide_vae(), steps=3, rate=0.1, optimiser="adam"), set()),  # whose step is not linear in gradients
        (lambda: MAML(wide_vae(), steps=40, rate=0.1), set()),  # by then the rank is as high as that of the weight
        (lambda: MAMLPP(wide_vae(), steps=3), set()),
    ],
)
def test_only_plain_descent_by_few_steps_is_factored(learner, names):
    made = learner()
    assert factored_names(made, batch_of(made)) == names


def test_a_learner_that_looks_at_its_weights_is_given_tensors():
    made = MAML(wide_vae(), steps=3, rate=0.1)
    made.regulariser = Regulariser({"l2_start": 1.0})
    assert factored_names(made, batch_of(made)) == set()

    class Looks(MAML):
        def task_record(self, carry, task):
            return {"norm": torch.stack([w.norm() for w in carry[0].values()])}

    made = Looks(wide_vae(), steps=3, rate=0.1)
    assert factored_names(made, batch_of(made)) == set()


def test_a_weight_that_is_used_otherwise_is_left_alone():
    class Uses(nn.Module):
        def __init__(self):
            super().__init__()
            names = ("once", "twice", "never", "read", "tied")
            self.layers = nn.ModuleDict({name: nn.Linear(6, 6) for name in names})
            self.other = nn.Linear(6, 6)
            self.other.weight = cast(nn.Linear, self.layers["tied"]).weight

        def forward(self, x):
            x = self.layers["twice"](self.layers["twice"](self.layers["once"](x)))
            x = self.layers["read"](x) + cast(nn.Linear, self.layers["read"]).weight.sum()
            return self.other(self.layers["tied"](x))

    module = Uses()
    weights, x = dict(module.named_parameters()), torch.randn(2, 3, 6)
    found = inputs_of_layers(module, weights, lambda own: with_weights(module, own)(x))
    assert found == {"layers.once.weight": 6}  # two images with three inputs each


def test_what_has_no_linear_layers_has_nothing_factored():
    learner = MAML(Quadratic(torch.eye(4, dtype=torch.float64)), steps=2, rate=0.1)
    support = torch.rand(2, 1, 2, 2, dtype=torch.float64)
    *_, (weights, _) = trajectory(learner, support, {"quadratic": {"none": torch.zeros(2, 1, 2)}}, factored=True)
    assert all(isinstance(weight, torch.Tensor) for weight in weights.values())
