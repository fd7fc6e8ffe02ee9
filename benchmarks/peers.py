"""The same meta-gradients by other means: a plain loop, `torch.func` by hand, higher, TorchOpt and learn2learn.

Each function takes a `Problem` and returns a step that gives the gradient of every weight, by name. Packages that are
not installed are passed over: `pip install higher torchopt graphviz`. Of learn2learn, whose package does not build on
Python 3.11, the source is enough: LEARN2LEARN names its folder.
"""

from __future__ import annotations

import copy
import importlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.func import functional_call, grad, vjp, vmap

from metagen.adaptation import TaskBatch
from metagen.core.functional import Weights
from metagen.generators import VAE
from metagen.generators.base import Normal

Step = Callable[[], Weights]


class Loss(nn.Module):
    """A VAE as a plain module that returns its loss, which other packages differentiate; weights are named alike."""

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.encoder, self.decoder, self.bound = *copy.deepcopy((vae.encoder, vae.decoder)), vae.bound

    def forward(self, images: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        """The negative ELBO of images [n, C, H, W] at latent noise [n, latent]."""
        posterior = Normal.of(self.encoder(images))
        return self.bound(images, posterior, self.decoder(posterior.draw(latent)))


class Problem(NamedTuple):
    """The work: "maml", "fomaml" or "reptile" of a loss on a batch of tasks."""

    kind: str
    loss: Loss
    batch: TaskBatch
    steps: int
    rate: float

    def tasks(self) -> Iterator[tuple[list[tuple[torch.Tensor, torch.Tensor]], tuple[torch.Tensor, torch.Tensor]]]:
        """Of each task: the support and its noise at each step; the query and its noise."""
        inner, outer = self.batch.support_noise["vae"]["latent"], self.batch.query_noise["vae"]["latent"]
        for t, support in enumerate(self.batch.support):
            yield [(support, inner[t, step, 0]) for step in range(self.steps)], (self.batch.query[t], outer[t])

    def mean(self, of_tasks: list[Any]) -> Weights:
        """The mean of tasks' gradients, each in the order of the weights."""
        names = [name for name, _ in self.loss.named_parameters()]
        each = zip(*of_tasks, strict=True)
        return dict(zip(names, (torch.stack(g).mean(0).detach() for g in each), strict=True))


def plain(problem: Problem) -> Step:
    """As written by hand: torch.autograd.grad, one task after the other."""
    names, leaves = zip(*problem.loss.named_parameters(), strict=True)
    second = problem.kind == "maml"

    def of_task(support: Any, query: Any) -> Any:  # noqa: ANN401
        fast = leaves if second else [w.detach().requires_grad_() for w in leaves]
        for seen in support:
            loss = functional_call(problem.loss, dict(zip(names, fast, strict=True)), seen)
            fast = [w - problem.rate * g for w, g in zip(fast, _gradients(loss, fast, second), strict=True)]
            fast = fast if second else [w.detach().requires_grad_() for w in fast]
        if problem.kind == "reptile":
            return [w - f for w, f in zip(leaves, fast, strict=True)]
        loss = functional_call(problem.loss, dict(zip(names, fast, strict=True)), query)
        return _gradients(loss, leaves if second else fast)

    return lambda: problem.mean([of_task(*task) for task in problem.tasks()])


def _gradients(loss: torch.Tensor, weights: Any, create_graph: bool = False) -> Any:  # noqa: ANN401
    return torch.autograd.grad(loss, list(weights), create_graph=create_graph)


def by_vmap(problem: Problem) -> Step:
    """As written by hand with `torch.func`, all tasks at once."""
    weights = {name: w.detach() for name, w in problem.loss.named_parameters()}
    batch = problem.batch
    inner, outer = batch.support_noise["vae"]["latent"], batch.query_noise["vae"]["latent"]

    def loss_of(weights: Weights, images: torch.Tensor, latent: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = functional_call(problem.loss, weights, (images, latent))
        return loss

    def adapted(weights: Weights, support: torch.Tensor, latent: torch.Tensor) -> Weights:
        for step in range(problem.steps):
            gradients = grad(loss_of)(weights, support, latent[step, 0])
            weights = {name: w - problem.rate * gradients[name] for name, w in weights.items()}
        return weights

    def first_order(support: torch.Tensor, latent: torch.Tensor, query: torch.Tensor, other: torch.Tensor) -> Weights:
        moved = adapted(weights, support, latent)
        if problem.kind == "reptile":
            return {name: w - moved[name] for name, w in weights.items()}
        gradients: Weights = grad(loss_of)(moved, query, other)
        return gradients

    def outer_loss(weights: Weights) -> torch.Tensor:
        def one(support: torch.Tensor, latent: torch.Tensor, query: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            return loss_of(adapted(weights, support, latent), query, other)

        return vmap(one)(batch.support, inner, batch.query, outer).mean()

    def step() -> Weights:
        if problem.kind == "maml":
            _, pull_back = vjp(outer_loss, weights)  # type: ignore[misc]
            return dict(pull_back(torch.ones(()))[0])
        gradients = vmap(first_order)(batch.support, inner, batch.query, outer)
        return {name: g.mean(0) for name, g in gradients.items()}

    return step


def by_higher(problem: Problem) -> Step:
    """By higher (Grefenstette 2019, arXiv:1910.01727)."""
    higher = importlib.import_module("higher")
    loss, second, leaves = problem.loss, problem.kind == "maml", list(problem.loss.parameters())
    inner = torch.optim.SGD(leaves, lr=problem.rate)

    def of_task(support: Any, query: Any) -> Any:  # noqa: ANN401
        context = higher.innerloop_ctx(loss, inner, copy_initial_weights=False, track_higher_grads=second)
        with context as (fast, optimiser):
            for seen in support:
                optimiser.step(fast(*seen))
            ended = list(fast.parameters())
            if problem.kind == "reptile":
                return [w.detach() - f.detach() for w, f in zip(leaves, ended, strict=True)]
            return _gradients(fast(*query), leaves if second else ended)

    return lambda: problem.mean([of_task(*task) for task in problem.tasks()])


def by_torchopt(problem: Problem) -> Step:
    """By TorchOpt (Ren 2023, arXiv:2211.06934): its MetaSGD, which knows no first order, so there its plain sgd."""
    torchopt = importlib.import_module("torchopt")
    loss, leaves = problem.loss, list(problem.loss.parameters())
    names = [name for name, _ in loss.named_parameters()]
    second = problem.kind == "maml"
    inner = torchopt.MetaSGD(loss, lr=problem.rate)
    sgd = torchopt.sgd(problem.rate)

    def second_order(support: Any, query: Any) -> Any:  # noqa: ANN401
        before = [torchopt.extract_state_dict(each, by="reference") for each in (loss, inner)]
        for seen in support:
            inner.step(loss(*seen))
        gradients = _gradients(loss(*query), leaves)
        for each, state in zip((loss, inner), before, strict=True):
            torchopt.recover_state_dict(each, state)
        return gradients

    def first_order(support: Any, query: Any) -> Any:  # noqa: ANN401
        fast = tuple(w.detach().clone().requires_grad_() for w in leaves)
        state = sgd.init(fast)
        for seen in support:
            gradients = _gradients(functional_call(loss, dict(zip(names, fast, strict=True)), seen), fast)
            updates, state = sgd.update(gradients, state, params=fast, inplace=True)
            fast = torchopt.apply_updates(fast, updates, inplace=True)
        if problem.kind == "reptile":
            return [w.detach() - f.detach() for w, f in zip(leaves, fast, strict=True)]
        return _gradients(functional_call(loss, dict(zip(names, fast, strict=True)), query), fast)

    of_task = second_order if second else first_order
    return lambda: problem.mean([of_task(*task) for task in problem.tasks()])


def by_learn2learn(problem: Problem) -> Step:
    """By learn2learn (Arnold 2020, arXiv:2008.12284), whose MAML has a switch for first order."""
    maml = _learn2learn()(problem.loss, lr=problem.rate, first_order=problem.kind != "maml")
    leaves = list(problem.loss.parameters())

    def of_task(support: Any, query: Any) -> Any:  # noqa: ANN401
        learner = maml.clone()
        for seen in support:
            learner.adapt(learner(*seen))
        if problem.kind == "reptile":
            return [w.detach() - f.detach() for w, f in zip(leaves, learner.parameters(), strict=True)]
        return _gradients(learner(*query), leaves)

    return lambda: problem.mean([of_task(*task) for task in problem.tasks()])


def _learn2learn() -> Any:  # noqa: ANN401
    """Its MAML, without what the package imports beside: gym and data sets."""
    source = os.environ.get("LEARN2LEARN", "")
    if not source:
        raise ImportError("LEARN2LEARN is not set")
    for name in ("learn2learn", "learn2learn.algorithms"):
        package: Any = types.ModuleType(name)
        package.__path__ = [os.path.join(source, *name.split("."))]
        sys.modules.setdefault(name, package)
    utilities = importlib.import_module("learn2learn.utils")
    root: Any = sys.modules["learn2learn"]
    root.utils = utilities
    for name in ("clone_module", "update_module", "detach_module", "clone_parameters"):
        setattr(root, name, getattr(utilities, name))
    return importlib.import_module("learn2learn.algorithms.maml").MAML


PEERS: dict[str, Callable[[Problem], Step]] = {
    "plain loop": plain,
    "higher": by_higher,
    "TorchOpt": by_torchopt,
    "learn2learn": by_learn2learn,
    "vmap by hand": by_vmap,
}
