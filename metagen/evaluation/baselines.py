"""Baselines that are fine-tuned, their rate and number of steps chosen on val tasks: from scratch, and joint."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from metagen.core.seeding import seeded
from metagen.distributed.sharding import ShardedTasks
from metagen.evaluation.contenders import criterion_after
from metagen.evaluation.criterion import Criterion
from metagen.generators import Generator, generators
from metagen.learners import Joint, Learner
from metagen.tasks.episodes import Episodes

Grid = Sequence[tuple[float, int]]  # of rates and numbers of steps
TUNING_TASKS = 8  # val tasks on which a baseline's rate and steps are chosen
TUNED_AT_ONCE = 2  # of them, so that several processes share them
# 150 steps at lower rates gained nothing over these on val tasks of Omniglot, at 1 and 5 shots.
SCRATCH_GRID = tuple((rate, steps) for rate in (3e-3, 1e-2) for steps in (20, 60))
JOINT_GRID = tuple((rate, steps) for rate in (1e-4, 1e-3) for steps in (5, 20, 50))


def fine_tuned_baselines(
    learner: Learner,
    joint: Learner | None,
    episodes: Episodes,
    criterion: Criterion,
    seed: int = 0,
    sharded: ShardedTasks | None = None,
) -> dict[str, Joint]:
    """The baselines of a model, by the names of their rows.

    Args:
        learner: the model; "scratch" has its networks without meta-training.
        joint: a model trained jointly, for "joint + fine-tune"; None for the model itself where it was trained
            without steps, and for no such row otherwise.
        episodes: whose val tasks decide.
        criterion: by which the rate and the number of steps are chosen.
        seed: of the noise, and of the networks from scratch.
        sharded: shares the val tasks by processes.
    """
    scratch = tuned("scratch", untrained(learner, seed), SCRATCH_GRID, episodes, criterion, seed, sharded)
    if joint is None and not learner.steps and not learner.conditioned:
        joint = learner  # trained without steps is trained jointly
    if joint is None:
        return {"scratch": scratch}
    tuned_joint = tuned("joint", joint.generator, JOINT_GRID, episodes, criterion, seed, sharded)
    return {"scratch": scratch, "joint + fine-tune": tuned_joint}


def tuned(
    name: str,
    generator: Generator,
    grid: Grid,
    episodes: Episodes,
    criterion: Criterion,
    seed: int = 0,
    sharded: ShardedTasks | None = None,
) -> Joint:
    """Fine-tuning of a generator with Adam: rate and number of steps chosen from a grid on val tasks by the criterion.

    A candidate that diverges on a task is out.
    """
    candidates = [Joint(generator, rate=rate, test_steps=steps).requires_grad_(False).eval() for rate, steps in grid]

    def losses(tasks: list[int]) -> dict[str, torch.Tensor]:
        episode = episodes.of("val", tasks).to_like(generator)
        key = (seed, "val")
        return {str(n): criterion_after(c, episode, key, c.test_steps, criterion) for n, c in enumerate(candidates)}

    tasks = episodes.held_out_numbers("val", TUNING_TASKS)
    by_candidate = (sharded or ShardedTasks()).over(name, tasks, losses, TUNED_AT_ONCE)
    means = [float(by_candidate[str(n)].mean().nan_to_num(nan=math.inf)) for n in range(len(candidates))]
    return candidates[means.index(min(means))]


def untrained(learner: Learner, seed: int = 0) -> Generator:
    """The same networks without meta-training, on the same device, and without what a learner adds to them.

    What is frozen is kept: meta-training has not made it.
    """
    trained = learner.generator
    with seeded(seed):
        fresh = generators.build(generators.describe(trained))
    frozen = {name: w for name, w in trained.state_dict().items() if trained.is_frozen(name)}
    fresh.load_state_dict(frozen, strict=False)  # all the rest is as it was drawn
    return fresh.to(next(learner.parameters()))
