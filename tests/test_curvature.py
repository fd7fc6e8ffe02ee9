"""Learned curvature: against plain descent, Newton's step, einsum and finite differences."""

from __future__ import annotations

import pytest
import torch

from metagen.adaptation import Curvature, adapt, draw_noise
from metagen.errors import MetagenError
from metagen.learners import MAML, MetaCurvature
from tests.doubles import Bilinear, Quadratic, tiny_learner, tiny_vae
from tests.test_meta_gradients import IMAGES, batch_for, check_finite_differences, gradient, matrix


def adapted(learner, support, steps):
    noise = draw_noise(learner.generator, (0, "test", "support"), [0], len(support), steps)
    noise = {p: {n: x[0].to(support) for n, x in draws.items()} for p, draws in noise.items()}
    return adapt(learner, support, noise, steps)


def shaken(module):
    """Matrices that are no identities any more."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return module


def test_identities_are_plain_descent_to_the_last_bit():
    torch.manual_seed(0)
    generator, support = tiny_vae(), torch.rand(4, 1, 8, 8)
    plain = adapted(MAML(generator, rate=1e-2), support, 3)
    for name, w in adapted(MetaCurvature(generator, rate=1e-2), support, 3).items():
        assert torch.equal(w, plain[name]), name


def test_with_the_inverse_curvature_one_step_is_newton_s():
    root = matrix(1)
    curvature = root @ root.T + torch.eye(4, dtype=torch.float64)
    learner = MetaCurvature(Quadratic(curvature), rate=1.0)
    with torch.no_grad():
        next(learner.step.parameters()).copy_(curvature.inverse())
    support = IMAGES[0]
    torch.testing.assert_close(adapted(learner, support, 1)["weight"], support.mean(0).flatten())


@pytest.mark.parametrize(
    ("shape", "product"),
    [
        ((3, 4, 2, 5), "ao,bi,kf,oif->abk"),
        ((3, 4), "ao,bi,oi->ab"),
        ((3,), "ao,o->a"),
        ((), "ao,o->a"),
    ],
)
def test_the_preconditioner_is_one_product_for_each_mode(shape, product):
    torch.manual_seed(0)
    gradient = torch.randn(shape)
    step = shaken(Curvature({"conv.weight": gradient}, rate=0.1))
    flat = gradient.reshape(*shape[:2], -1) if len(shape) > 2 else gradient.reshape(shape or (1,))
    expected = torch.einsum(product, *step.parameters(), flat).reshape(shape)
    torch.testing.assert_close(step.precondition("conv.weight", gradient), expected)


def test_a_long_mode_has_a_diagonal():
    torch.manual_seed(0)
    gradient = torch.randn(200, 3)
    step = shaken(Curvature({"stem.weight": gradient}, rate=0.1))
    long, short = step.parameters()
    assert long.shape == (200,)
    expected = torch.diag(long) @ gradient @ short.T
    torch.testing.assert_close(step.precondition("stem.weight", gradient), expected)


def test_the_exact_gradient_is_that_of_finite_differences_and_reaches_every_matrix():
    torch.manual_seed(0)
    learner = tiny_learner("meta_curvature", "vae", double=True, steps=2, rate=1e-3)
    shaken(learner.step)
    images = torch.rand(1, 5, 1, 8, 8, dtype=torch.float64)
    batch = batch_for(learner, images[:, :2], images[:, 2:])
    check_finite_differences(learner, batch)
    found = gradient(learner, batch)
    reached = [name for name, g in found.items() if name.startswith("step.") and g.abs().sum() > 0]
    convolutions = [w for w in learner.generator.parameters() if w.ndim == 4]
    others = sum(w.ndim for w in learner.generator.parameters() if w.ndim < 3)
    assert len(reached) == 3 * len(convolutions) + others


def test_a_matrix_belongs_to_the_player_of_its_weight():
    learner = MetaCurvature(Bilinear(matrix(2)))
    owners = {name: learner.player_of(name) for name, _ in learner.step.named_parameters(prefix="step")}
    assert owners == {"step.matrices.0.generator/x": "generator", "step.matrices.0.discriminator/y": "discriminator"}


def test_a_rate_that_is_not_above_0_is_refused():
    with pytest.raises(MetagenError, match="rate: expected a finite number above 0, got 0"):
        MetaCurvature(tiny_vae(), rate=0.0)
