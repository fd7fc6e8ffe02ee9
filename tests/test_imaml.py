"""iMAML against closed forms, the exact gradient of its own inner problem, and a dense solver."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from metagen.adaptation import Exact, adapt, in_chunks, task_batch
from metagen.adaptation.meta_gradients.implicit import conjugate_gradient
from metagen.errors import MetagenError
from metagen.evaluation.studies.cost import peak_bytes
from metagen.learners import IMAML
from tests.doubles import Bilinear, Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import IMAGES, matrix, meta_of

SUPPORT, QUERY = IMAGES[:, :2], IMAGES[:, 2:]
EYE = torch.eye(4, dtype=torch.float64)
HOWS = [{"execution": "vmap"}, {"execution": "loop"}, {"chunk": 2}]


def batch_for(learner, support=SUPPORT, query=QUERY):
    return task_batch(learner, support, query, (0, "test"), range(len(support)))


def started(curvature):
    generator = Quadratic(curvature)
    with torch.no_grad():
        generator.weight.copy_(torch.tensor([1.0, -2.0, 0.5, 3.0]))
    return generator


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("proximal", [1.0, 5.0])
def test_on_a_quadratic_it_is_that_of_the_minimum(proximal, how):
    curvature = matrix(1) @ matrix(1).T / 4 + 0.5 * EYE
    generator = started(curvature)
    learner = IMAML(generator, steps=150, rate=0.15, proximal=proximal)
    found = in_chunks(learner.meta_gradient, learner, meta_of(learner), batch_for(learner), **how)
    inverse = torch.linalg.inv(curvature + proximal * EYE)
    s, q = (images.mean(1).flatten(1) for images in (SUPPORT, QUERY))
    minimum = (s @ curvature + proximal * generator.weight.detach()) @ inverse
    expected = proximal * ((minimum - q) @ curvature @ inverse)
    torch.testing.assert_close(found.gradients["generator.weight"], expected.mean(0), rtol=1e-9, atol=1e-10)
    losses = 0.5 * ((minimum - q) @ curvature * (minimum - q)).sum(1)
    torch.testing.assert_close(found.losses["quadratic"], losses, rtol=1e-9, atol=1e-10)
    assert not found.diagnostics["negative_curvature"].any()
    assert (found.diagnostics["cg_residual"] < 1e-9).all()


@pytest.mark.parametrize("how", HOWS)
def test_it_is_the_exact_gradient_of_an_inner_problem_solved_by_many_steps(how):
    """Also for the weights that do not move, on which the minimum depends through the inner gradient."""
    torch.manual_seed(0)
    learner = IMAML(tiny_generator("vae").double(), 30, 0.06, "sgd", ("decoder.stem.bias",), proximal=10.0, cg_steps=40)
    images = torch.rand(3, 5, 1, 8, 8, dtype=torch.float64)
    batch, meta = batch_for(learner, images[:, :2], images[:, 2:]), meta_of(learner)
    found = in_chunks(learner.meta_gradient, learner, meta, batch, **how)
    learner.meta_gradient = Exact()
    expected = in_chunks(learner.meta_gradient, learner, meta, batch)
    for name, g in expected.gradients.items():
        torch.testing.assert_close(found.gradients[name], g, rtol=1e-6, atol=1e-8, msg=f"{name}: {{}}".format)
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("execution", ["vmap", "loop"])
def test_each_player_has_its_own_block(execution):
    """In a bilinear game no player's loss is curved in its own weights: A = lambda I, so g = dL/dphi at phi_N."""
    coupling = matrix(2) / 3
    game = Bilinear(coupling)
    learner = IMAML(game, steps=6, rate=0.1, proximal=0.7)
    theta = torch.cat([game.generator["x"], game.discriminator["y"]]).detach()
    expected = torch.zeros(8, dtype=torch.float64)
    for s, q in zip(SUPPORT.mean(1).flatten(1), QUERY.mean(1).flatten(1), strict=True):
        x, y = theta[:4], theta[4:]
        for _ in range(6):  # y moves first, then x at the moved y
            y = y - 0.1 * (s - coupling.T @ x + 0.7 * (y - theta[4:]))
            x = x - 0.1 * (s + coupling @ y + 0.7 * (x - theta[:4]))
        expected += torch.cat([coupling @ y + q, q - coupling.T @ x]) / 3
    found = learner.meta_gradient(learner, meta_of(learner), batch_for(learner), execution)
    torch.testing.assert_close(found.gradients["generator.generator.x"], expected[:4], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.gradients["generator.discriminator.y"], expected[4:], rtol=1e-10, atol=1e-12)
    assert not found.diagnostics["negative_curvature"].any()


@pytest.mark.parametrize("execution", ["vmap", "loop"])
@pytest.mark.parametrize(("proximal", "met"), [(1.0, True), (3.0, False)])
def test_negative_curvature_is_told_of_where_lambda_does_not_outweigh_it(proximal, met, execution):
    curvature = torch.diag(torch.tensor([1.0, 2.0, 0.5, -2.0], dtype=torch.float64))
    learner = IMAML(started(curvature), 3, 0.05, proximal=proximal)
    found = learner.meta_gradient(learner, meta_of(learner), batch_for(learner), execution)
    assert found.diagnostics["negative_curvature"].tolist() == [float(met)] * 3
    assert found.gradients["generator.weight"].isfinite().all()


@pytest.mark.parametrize("execution", ["vmap", "loop"])
def test_where_the_first_direction_is_of_negative_curvature_it_is_the_first_order_gradient(execution):
    """One of the three tasks has its query where phi_N is along a bent direction alone; the others have not."""
    curvature = torch.diag(torch.tensor([1.0, 1.0, 1.0, -2.0], dtype=torch.float64))
    learner, support = IMAML(Quadratic(curvature), 1, proximal=1.0), torch.zeros_like(SUPPORT)  # phi_N = 0
    query = torch.zeros(3, 1, 1, 2, 2, dtype=torch.float64)
    query[0, ..., 1, 1] = 1.0
    query[1:, ..., 0, 0] = 1.0
    batch = batch_for(learner, support, query)
    each = [learner.meta_gradient(learner, meta_of(learner), part, execution) for part in batch.chunks(1)]
    whole = learner.meta_gradient(learner, meta_of(learner), batch, execution)
    assert whole.diagnostics["negative_curvature"].tolist() == [1.0, 0.0, 0.0]
    first, second = (part.gradients["generator.weight"] for part in each[:2])
    torch.testing.assert_close(first, torch.tensor([0.0, 0.0, 0.0, 2.0], dtype=torch.float64))  # A (phi - q)
    torch.testing.assert_close(second, torch.tensor([-0.5, 0.0, 0.0, 0.0], dtype=torch.float64))  # half of it
    mean = torch.stack([part.gradients["generator.weight"] for part in each]).mean(0)
    torch.testing.assert_close(whole.gradients["generator.weight"], mean, rtol=1e-10, atol=1e-12)
    assert whole.diagnostics["cg_residual"][0] == pytest.approx(2.0)  # |b - A b / lambda| / |b| with A = -1


def test_conjugate_gradient_is_the_dense_solution_after_as_many_steps_as_there_are_eigenvalues():
    spectrum = torch.linalg.qr(matrix(3)).Q
    a = spectrum @ torch.diag(torch.tensor([1.0, 1.0, 4.0, 9.0], dtype=torch.float64)) @ spectrum.T
    b = {"left": torch.tensor([1.0, -2.0]).double(), "right": torch.tensor([0.5, 3.0]).double()}

    def product(p):
        return dict(zip(b, (a @ torch.cat([p["left"], p["right"]])).split(2), strict=True))

    expected = torch.linalg.solve(a, torch.cat([*b.values()]))
    few, three, many = (conjugate_gradient(product, b, 1.0, steps) for steps in (2, 3, 50))
    for found in (three, many):
        torch.testing.assert_close(torch.cat([*found.vector.values()]), expected, rtol=1e-10, atol=1e-12)
        assert found.residual < 1e-10
        assert not found.negative
    left = torch.cat([*b.values()]) - a @ torch.cat([*few.vector.values()])
    torch.testing.assert_close(few.residual, left.norm() / torch.cat([*b.values()]).norm(), rtol=1e-9, atol=0)
    nothing = conjugate_gradient(product, {name: torch.zeros_like(x) for name, x in b.items()}, 1.0, 3)
    assert not torch.cat([*nothing.vector.values(), nothing.residual[None], nothing.negative[None]]).any()


def test_memory_does_not_grow_with_the_steps():
    torch.manual_seed(0)
    images = torch.rand(1, 5, 1, 8, 8)
    peaks: dict[str, list[int]] = {"implicit": [], "exact": []}
    for steps in (4, 32):
        learner = IMAML(tiny_vae(), steps, 1e-3)
        batch, meta = batch_for(learner, images[:, :2], images[:, 2:]), meta_of(learner)
        for name in peaks:
            if name == "exact":
                learner.meta_gradient = Exact()
            run = partial(learner.meta_gradient, learner, meta, batch, "loop")
            peaks[name].append(peak_bytes(run, torch.device("cpu")))
    few, many = peaks["implicit"]
    assert many == pytest.approx(few, rel=0.03)
    assert peaks["exact"][1] > 4 * peaks["exact"][0]


def test_every_step_sees_the_noise_of_the_first():
    torch.manual_seed(0)
    learner = IMAML(tiny_vae().double(), 4, 1e-2)
    draws = torch.randn(4, 3, 2, dtype=torch.float64)
    support = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    found, repeated = (adapt(learner, support, {"vae": {"latent": x}}) for x in (draws, draws[:1].expand(4, 3, 2)))
    assert all(torch.equal(found[name], w) for name, w in repeated.items())
    other = adapt(learner, support, {"vae": {"latent": draws.flip(0)}})
    assert any(not torch.equal(found[name], w) for name, w in other.items())


def test_a_strong_proximal_term_holds_the_weights_at_the_start():
    support = SUPPORT[0]
    generator = started(EYE.clone())
    loose, held = (IMAML(generator, 50, 0.01, proximal=strength) for strength in (1e-3, 50.0))
    noise = {"quadratic": {"none": torch.zeros(50, 2)}}
    gone = [(adapt(x, support, noise)["weight"] - generator.weight).norm() for x in (loose, held)]
    assert gone[1] < 0.1 * gone[0]


def test_what_it_cannot_do_is_refused():
    with pytest.raises(MetagenError, match="proximal: expected a finite number above 0"):
        IMAML(tiny_vae(), proximal=0.0)
    with pytest.raises(MetagenError, match="cg_steps: expected 1 or more"):
        IMAML(tiny_vae(), cg_steps=0)
    with pytest.raises(MetagenError, match="steps: expected 1 or more"):
        IMAML(tiny_vae(), steps=0)
