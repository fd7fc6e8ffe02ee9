"""Small generators with closed forms, and small task sets, shared by the tests."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Sequence
from functools import cache
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import nn

from metagen.errors import MetagenError
from metagen.generators import VAE, AdversarialGenerator, Generator, generators
from metagen.generators.gans.presets import PRESETS
from metagen.learners import Learner, learners
from metagen.tasks import TaskSet
from metagen.tasks.splits import Split

# Every registered generator and, in place of GAN, each of its presets.
VARIANTS: list[str] = [variant for name in generators for variant in (PRESETS if name == "gan" else (name,))]

# Small options of each of them, at 8 px.
TINY: dict[str, dict] = {
    "vae": {"size": 8, "latent": 2, "widths": (4, 8)},
    "redraw": {"size": 8, "latent": 2, "widths": (4, 8), "hidden": 8, "null_rate": 0.5},
    "search_vae": {"size": 8, "latent": 2, "widths": (4,), "operations": ("skip", "separable"), "choice": "sampled"},
    "set_vae": {"size": 8, "latent": 2, "code": 3, "widths": (4, 8), "hidden": 6, "null_rate": 0.3},
    "tokenizer": {"size": 8, "width": 4, "levels": (15, 15), "halvings": 2},
    "token_vae": {
        "size": 8,
        "tokenizer_width": 4,
        "levels": (3, 3),
        "halvings": 2,
        "width": 8,
        "heads": 2,
        "support_blocks": 1,
        "blocks": 1,
        "null_tokens": 2,
        "contrast": 1.5,
    },
    "r3": {"preset": "r3", "size": 8, "latent": 2, "widths": (2, 4), "depth": 1},
    "sngan": {"preset": "sngan", "size": 8, "latent": 2, "widths": (2, 4), "depth": 0},
    "wgan_gp": {"preset": "wgan_gp", "size": 8, "latent": 2, "widths": (2, 4), "depth": 0},
    "vae_gan": {"size": 8, "latent": 2, "widths": (2, 4), "depth": 0, "augmentation": ("colour",)},
    "redraw_gan": {"size": 8, "latent": 2, "widths": (2, 4), "hidden": 4, "null_rate": 0.5, "depth": 0},
}

# Small options of the learners that are slow, or learn slowly, with their usual ones.
SMALL: dict[str, dict] = {
    "amortised": {"test_steps": 0},
    "adjoint": {"steps": 3, "segment": 2},
    "imaml": {"steps": 5, "cg_steps": 3},
    "learned_optimiser": {"steps": 3, "hidden": 4},
    "leo": {"code": 3, "code_steps": 1, "widths": (2, 4)},
    "lstm": {"steps": 3, "hidden": 4},
    "memory": {"slots": 6, "code": 3, "adapted_params": ("biases",)},
    "task_embedding": {"code": 3, "uses": ("start", "gates", "step"), "optimiser": "sgd"},
    "meta_generator": {"rank": 1, "width": 8, "widths": (4, 8)},
}


def class_of(variant: str) -> type[Generator]:
    """The registered class of a generator that is named as in `VARIANTS`."""
    return generators["gan" if variant in PRESETS else variant]


def tiny_generator(name: str, **options) -> Any:
    """A small generator whose every weight is away from 0, so that all of it takes part."""
    generator = class_of(name)(**{**TINY[name], **options})
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return generator


def tiny_learner(learner: str, generator: str | None = None, double: bool = False, **options) -> Learner:
    """A learner over a small generator (the first that it takes), with those of the options that it knows."""
    cls = learners[learner]
    given = {**options, **SMALL.get(learner, {})}
    known = {name: value for name, value in given.items() if name in inspect.signature(cls).parameters}
    made = tiny_generator(generator or next(of for name, of in pairs() if name == learner))
    return cls(made.double() if double else made, **known)


def pairs() -> list[tuple[str, str]]:
    """Every registered learner with every variant of a generator that it takes; of GANs one, and all with MAML.

    To a learner they are alike, games of two players, and its tests of each would take long.
    """
    return [
        (learner, generator)
        for learner in learners
        for generator in VARIANTS
        if (learner == "maml" or generator == "wgan_gp" or not issubclass(class_of(generator), AdversarialGenerator))
        and _takes(learner, generator)
    ]


@cache
def _takes(learner: str, generator: str) -> bool:
    with torch.random.fork_rng():  # how many are registered is nothing to the weights that are drawn next
        try:
            learners[learner](class_of(generator)(**TINY[generator]), **SMALL.get(learner, {}))
        except MetagenError:
            return False
    return True


class Quadratic(Generator):
    """L(w; images) = 1/2 (w - m)^T A (w - m) with m the mean image: everything about it is known in closed form."""

    players: ClassVar[tuple[str, ...]] = ("quadratic",)
    size, channels = 2, 1

    def __init__(self, curvature: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, dtype=torch.float64))
        self.curvature = curvature

    def noise(self, n, draws):
        return {"none": draws.uniform(n)}

    def loss(self, player, images, noise, context):
        gap = self.weight - images.mean(0).flatten()
        return 0.5 * gap @ self.curvature @ gap

    def sample(self, noise, context):
        return self.weight.view(1, 1, 2, 2)


class Bilinear(Generator):
    """A zero-sum game: the second player minimises x^T B y + (x - y)^T m, the first one maximises it."""

    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")
    size, channels = 2, 1

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.discriminator = nn.ParameterDict({"y": torch.linspace(-1, 1, 4, dtype=torch.float64)})
        self.generator = nn.ParameterDict({"x": torch.linspace(2, 1, 4, dtype=torch.float64)})
        self.matrix = matrix

    def noise(self, n, draws):
        return {"none": draws.uniform(n)}

    def loss(self, player, images, noise, context):
        x, y, m = self.generator["x"], self.discriminator["y"], images.mean(0).flatten()
        value = x @ self.matrix @ y + (x - y) @ m
        return value if player == "generator" else -value

    def sample(self, noise, context):
        return self.generator["x"].view(1, 1, 2, 2)


class Blobs(TaskSet):
    """Each task is one blob somewhere, its images jittered: learnable in seconds."""

    def __init__(
        self, size: int = 28, channels: int = 1, invert: bool = False, tasks: int = 24, images: int = 10
    ) -> None:
        super().__init__(size, channels, invert)
        self.tasks, self.count = tasks, images
        names = tuple(f"blob-{i}" for i in range(tasks))
        self.split = Split(names[: tasks // 2], names[tasks // 2 : 3 * tasks // 4], names[3 * tasks // 4 :])

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        rng = torch.Generator().manual_seed(int(task.split("-")[1]))
        centre = 0.2 + 0.6 * torch.rand(2, generator=rng) + 0.05 * torch.randn(self.count, 2, generator=rng)
        axis = torch.linspace(0, 1, self.size)
        square = (axis - centre[:, :1])[:, None, :] ** 2 + (axis - centre[:, 1:])[:, :, None] ** 2
        images = (255 * (-square / 0.01).exp()).to(torch.uint8)[:, None].expand(-1, self.channels, -1, -1)
        return images if which is None else images[list(which)]


class BrokenBlobs(Blobs):
    """Blobs of which one train task holds an image that is no number (float images, as no real task set has)."""

    broken = "blob-3"

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        images = super().images(task, which).float()
        return images.fill_(torch.nan) if task == self.broken else images


class UntouchableBlobs(Blobs):
    """Blobs whose test tasks nobody may look at."""

    def images(self, task: str, which: Sequence[int] | None = None) -> torch.Tensor:
        if task in self.split.test:
            raise AssertionError(f"{task} is a test task")
        return super().images(task, which)


class InterruptAt(pl.Callback):
    """Presses Ctrl-C in the middle of a step."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        for _ in range(self.times if trainer.global_step + 1 == self.step else 0):
            os.kill(os.getpid(), signal.SIGINT)


class Recorder(pl.Callback):
    """Keeps the weights after every step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.weights.append({n: w.detach().clone() for n, w in pl_module.learner.named_parameters()})


def tiny_vae(**options) -> VAE:
    """A VAE of some 2,000 weights at 8 px."""
    return VAE(**{"size": 8, "latent": 2, "widths": (4, 8), **options})
