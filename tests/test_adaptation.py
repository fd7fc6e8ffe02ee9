"""The inner loop: what moves, by how much, and under which modes."""

from __future__ import annotations

import torch

from metagen.adaptation import adapt, draw_noise, task_batch
from metagen.core.functional import with_weights
from metagen.learners import MAML, adapt_tasks
from tests.doubles import Quadratic, tiny_vae


def weights_after(learner, support, steps):
    noise = draw_noise(learner.generator, (0, "test", "support"), [0], len(support), steps)
    noise = {p: {n: x[0].to(support) for n, x in draws.items()} for p, draws in noise.items()}
    return adapt(learner, support, noise, steps)


def test_adam_inside_is_the_library_adam():
    """Ours has its epsilon inside the root; at gradients of order one the two agree to rounding."""
    curvature = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
    learner = MAML(Quadratic(curvature), steps=7, rate=0.05, optimiser="adam")
    support = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    found = weights_after(learner, support, 7)["weight"]
    twin = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([twin], lr=0.05)
    for _ in range(7):
        optimiser.zero_grad()
        gap = twin - support.mean(0).flatten()
        (0.5 * gap @ curvature @ gap).backward()
        optimiser.step()
    torch.testing.assert_close(found, twin, rtol=1e-7, atol=1e-7)


def test_adam_has_a_finite_meta_gradient_where_a_gradient_is_zero():
    learner = MAML(Quadratic(torch.eye(4, dtype=torch.float64)), steps=2, rate=0.1, optimiser="adam")
    still = torch.zeros(1, 2, 1, 2, 2, dtype=torch.float64)  # the start is the optimum: every inner gradient is 0
    batch = task_batch(learner, still, still + 1, (0, "t"), [0])
    meta = {n: w.detach() for n, w in learner.named_parameters()}
    gradients, *_ = learner.meta_gradient(learner, meta, batch)
    assert gradients["generator.weight"].isfinite().all()


def test_only_what_should_move_moves():
    torch.manual_seed(0)
    learner = MAML(tiny_vae(), steps=3, rate=1e-2, adapted_params=("decoder.*", "!decoder.stem.*"))
    after = weights_after(learner, torch.rand(4, 1, 8, 8), 3)
    for name, before in learner.start().items():
        moved = not torch.equal(before, after[name])
        assert moved == (name.startswith("decoder.") and not name.startswith("decoder.stem.")), name


def test_more_steps_begin_with_the_same_steps():
    """Noise belongs to a step, not to N: adapting for 3 and then looking on is adapting for 5."""
    vae = tiny_vae()
    few, many = (draw_noise(vae, (0, "k"), [0, 1], 4, n)["vae"]["latent"] for n in (3, 5))
    assert torch.equal(few, many[:, :3])
    assert torch.equal(draw_noise(vae, (0, "k"), [1], 4, 3)["vae"]["latent"], few[1:])
    assert not torch.isclose(few[0], few[1]).any()


def test_adaptation_lowers_the_support_loss_and_works_in_inference_mode():
    torch.manual_seed(0)
    learner = MAML(tiny_vae(), steps=20, rate=1e-2)
    support = (torch.rand(3, 5, 1, 8, 8) > 0.7).float()
    plain = adapt_tasks(learner, support, (0, "a"))
    with torch.inference_mode():
        flagged = adapt_tasks(learner, support.clone(), (0, "a"))
    noise = {"vae": {"latent": torch.zeros(3, 5, 2)}}
    before = adapt_tasks(learner, support, (0, "a"), steps=0).query_loss(support, noise)["vae"]
    assert (plain.query_loss(support, noise)["vae"] < before).all()
    for name, difference in plain.difference.items():
        assert torch.equal(difference, flagged.difference[name])


def test_many_tasks_at_once_are_each_task_alone():
    torch.manual_seed(0)
    learner = MAML(tiny_vae().double(), steps=3, rate=1e-2)
    support = torch.rand(20, 3, 1, 8, 8, dtype=torch.float64)  # more than one chunk
    many = adapt_tasks(learner, support, (0, "a"))
    one = adapt_tasks(learner, support[17:18], (0, "a"), tasks=[17])
    for name, difference in many.difference.items():
        torch.testing.assert_close(difference[17:18], one.difference[name], rtol=1e-9, atol=1e-12)
    noise = {"latent": torch.randn(1, 4, 2, dtype=torch.float64)}
    base = dict(learner.generator.named_parameters())
    own = with_weights(learner.generator, {n: base[n] + one.difference[n][0] for n in base})
    alone = own.generate({"latent": noise["latent"][0]}, support[17])
    torch.testing.assert_close(many[17].generate(noise)[0], alone, rtol=1e-9, atol=1e-12)
