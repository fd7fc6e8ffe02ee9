"""MAML on a VAE is read in six short files, and a meta-gradient passes over nothing that a learner asks of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import metagen
from metagen.adaptation import Adjoint, Displacement, FirstOrder, Implicit, task_batch
from metagen.errors import MetagenError
from metagen.generators import VAE
from metagen.learners import MAML
from tests.doubles import tiny_vae

PACKAGE = Path(metagen.__file__).parent
README = PACKAGE.parent / "README.md"
FILES = {
    "learners/base.py",
    "adaptation/inner_loop.py",
    "adaptation/meta_gradients/exact.py",
    "generators/base.py",
    "generators/vae.py",
    "core/functional.py",
}
FASTER = {"core/factored.py", "learners/fixed_rate.py", "learners/parameters.py"}  # the same results in less time


def test_a_maml_step_on_a_vae_stays_in_six_files():
    learner = MAML(VAE(size=28, latent=4, widths=(8, 16)), steps=2, rate=0.1)
    batch = task_batch(learner, torch.rand(2, 3, 1, 28, 28), torch.rand(2, 4, 1, 28, 28), (0,), [0, 1])
    meta = {name: w.detach() for name, w in learner.meta_parameters().items()}
    entered: set[str] = set()

    def note(frame, event, arg):
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            entered.add(Path(frame.f_code.co_filename).relative_to(PACKAGE).as_posix())

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        step = learner.meta_gradient(learner, meta, batch)
    finally:
        sys.setprofile(before)
    assert all(g.isfinite().all() for g in step.gradients.values())
    assert entered == FILES | FASTER


def test_they_are_short_and_the_readme_names_them():
    assert sum(len((PACKAGE / file).read_text().splitlines()) for file in FILES) <= 610
    text = README.read_text()
    assert all(f"metagen/{file}" in text for file in FILES)


def overriding(hook: str, meta_gradient):
    """MAML with one hook of its own and another meta-gradient."""
    body = {hook: lambda self, *args: getattr(MAML, hook)(self, *args)}
    return type("Own", (MAML,), {**body, "meta_gradient": meta_gradient})


HEEDED = {
    "Adjoint": (Adjoint(), {"loss_weights", "outer_loss_terms"}),
    "Implicit": (Implicit(1.0), {"outer_loss_terms"}),
    "Displacement": (Displacement(), set()),
    "FirstOrder": (FirstOrder(), {"start_loss", "loss_weights", "outer_loss_terms", "task_record"}),
}


@pytest.mark.parametrize("hook", ["start_loss", "loss_weights", "outer_loss_terms", "task_record"])
@pytest.mark.parametrize("name", HEEDED)
def test_a_hook_that_a_meta_gradient_would_pass_over_is_refused(name, hook):
    meta_gradient, heeded = HEEDED[name]
    kind = overriding(hook, meta_gradient)
    if hook in heeded:
        kind(tiny_vae())
        return
    with pytest.raises(MetagenError, match=f"^Own: {name} does not heed its {hook}; choose another meta-gradient$"):
        kind(tiny_vae())
