"""Stopping by itself: for each task the number of inner steps after which support images that were left out fit best.

The support is cut into folds (Stone 1974, "Cross-validatory choice and assessment of statistical predictions"); the
learner adapts to all images but those of one fold, and the left-out ones judge it on the way. Nothing but the support
is looked at. Few left-out images are a noisy judge, so the learner's own number stays unless another one is better by
more than chance would have it (Breiman 1984, "Classification and Regression Trees", the rule of one standard error).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation import TaskBatch, draw_noise, trajectory
from metagen.core.energy_distance import blurred, energy_score
from metagen.core.functional import Weights, over_tasks, with_weights
from metagen.core.philox import Draws, rows_of
from metagen.core.seeding import torch_rng
from metagen.core.warps import DRAWS, random_affine
from metagen.generators import Noise
from metagen.learners.base import Learner
from metagen.learners.batched import Adapted, adapt_tasks, by_chunks

CANDIDATES = (0, 1, 2, 3, 5, 8, 12, 20, 30, 50)
FOLDS = 5
SAMPLES = 8  # images drawn of every fold at every candidate, to see whether they are copies
MARGIN = 1.0  # standard errors, over folds, by which the learner's own number of steps has to be beaten
COPYING = 0.5  # the copy ratio below which samples are taken for copies; 1 is as far as real images
TINY = 1e-6  # a distance: where all images are the same, the ratio is 1


class StepChoice(NamedTuple):
    """The number of inner steps of each of T tasks, and what it was chosen by.

    Attributes:
        steps: N of each task.
        candidates: what was chosen from, c numbers.
        losses: of left-out images [T, c]: their mean loss, summed over players, in the generator's units; of a game,
            whose losses say little, the energy score of samples for them.
        copy_ratios: how far samples are from the nearest image adapted to, over how far left-out images are [T, c].
    """

    steps: tuple[int, ...]
    candidates: tuple[int, ...]
    losses: torch.Tensor
    copy_ratios: torch.Tensor

    def of(self, task: int) -> dict[str, Any]:
        """One task's choice as JSON-ready data."""
        steps, losses, ratios = self.steps[task], self.losses[task].tolist(), self.copy_ratios[task].tolist()
        place = self.candidates.index(steps)
        held_out = {"held_out_loss": losses[place], "held_out_loss_at_0": losses[self.candidates.index(0)]}
        return {"steps": steps, "steps_chosen": "auto", **held_out, "copy_ratio": ratios[place]}


def auto_steps(
    learner: Learner,
    support: torch.Tensor,
    key: Sequence[int | str],
    tasks: Sequence[int] | None = None,
    candidates: tuple[int, ...] = CANDIDATES,
    margin: float = MARGIN,
) -> StepChoice:
    """Choose N for each task: the learner's own, or that with the least loss of left-out images if clearly better.

    Leave-one-out up to 5 shots, five folds beyond. A single image cannot be left out: 5 random affine maps of it stand
    for the left-out ones, which tells whether a drawing of the same hand moved a little is still understood, and not
    whether another hand's would be.

    No number is taken, nor any beyond it, at which samples are copies of what was adapted to: there their mean distance
    to the nearest such image, in lightly blurred pixels, is below half of that of left-out images.

    Args:
        learner: the trained model; one of which nothing moves stays at 0.
        support: [T, k, C, H, W] in [0, 1], k at least 1.
        key: names the noise.
        tasks: each task's number, which names its noise too; 0 to T - 1 if None.
        candidates: numbers of steps to choose from, rising from 0, beside the learner's own.
        margin: standard errors over folds by which the learner's own has to be beaten.
    """
    candidates = tuple(sorted({*candidates, learner.test_steps})) if learner.adapted_names else (0,)
    numbers = range(len(support)) if tasks is None else tasks
    with torch.inference_mode(False), torch.no_grad():
        folds = _folds(learner, support.clone(), key, numbers, candidates[-1])
        measured = _measured(learner, folds, candidates)
    sizes = torch.tensor([_left_out(fold) for fold in folds]).to(measured)
    losses, made, real = ((measured * sizes[:, None, None]).sum(1) / sizes.sum()).unbind(-1)
    ratios = (made + TINY) / (real + TINY)
    copied = (ratios < COPYING).cumsum(-1) > 0
    copied[:, 0] = False  # nothing was adapted yet
    allowed = losses.masked_fill(copied | ~losses.isfinite(), torch.inf)
    best, own = allowed.argmin(-1), candidates.index(learner.test_steps)
    chosen = torch.where(_clearly_better(measured[..., 0], allowed, best, own, margin), best, own)
    return StepChoice(tuple(candidates[place] for place in chosen.tolist()), candidates, losses, ratios)


def _clearly_better(
    folds: torch.Tensor, allowed: torch.Tensor, best: torch.Tensor, own: int, margin: float
) -> torch.Tensor:
    """Of each task: is `best` [T] better than `own` by the margin? Losses of folds [T, F, c]; `allowed` [T, c]."""
    rows = torch.arange(len(best), device=best.device)
    gain = folds[..., own] - folds[rows, :, best]
    chance = margin * gain.std(-1) / gain.shape[-1] ** 0.5
    refused = ~allowed[:, own].isfinite()  # copies, or has diverged
    return refused | (allowed[:, own] - allowed[rows, best] > chance)


def adapt_each(
    learner: Learner,
    support: torch.Tensor,
    key: Sequence[int | str],
    steps: Sequence[int],
    tasks: Sequence[int] | None = None,
) -> Adapted:
    """`adapt_tasks` with a number of steps for each task."""
    numbers = range(len(support)) if tasks is None else tasks
    groups = [[t for t, own in enumerate(steps) if own == n] for n in sorted(set(steps))]
    parts = [adapt_tasks(learner, support[g], key, [numbers[t] for t in g], steps[g[0]]) for g in groups]
    order = torch.tensor([t for group in groups for t in group]).argsort()
    difference = {  # none of a part that took no step
        name: torch.cat([part.difference.get(name, d.new_zeros(len(part), *d.shape[1:])) for part in parts])[order]
        for name, d in parts[-1].difference.items()
    }
    return Adapted(learner.generator, difference, support)


class _Fold(NamedTuple):
    """All tasks with one fold of their support left out, leading axis T."""

    task: TaskBatch  # its query is the left-out images
    draws: Noise  # of the samples


def _folds(
    learner: Learner, support: torch.Tensor, key: Sequence[int | str], tasks: Sequence[int], steps: int
) -> list[_Fold]:
    folds = []
    for number, (kept, left_out) in enumerate(_cut(support, key, tasks)):
        own, generator = (*key, "fold", number), learner.generator
        inner = draw_noise(generator, (*own, "support"), tasks, kept.shape[1], steps)
        outer = draw_noise(generator, (*own, "query"), tasks, left_out.shape[1])
        draws = generator.noise(SAMPLES, Draws((*own, "sample"), rows_of(tasks)))
        inner, outer, draws = tree_map(lambda x: x.to(support), (inner, outer, draws))
        folds.append(_Fold(TaskBatch(kept, left_out, inner, outer, {}, {}), draws))
    return folds


def _cut(
    support: torch.Tensor, key: Sequence[int | str], tasks: Sequence[int]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of each fold: the images adapted to and those left out, [T, ..., C, H, W]."""
    shots = support.shape[1]
    if shots == 1:
        uniform = [torch.rand(FOLDS, DRAWS, generator=torch_rng(*key, task, "affine")) for task in tasks]
        copies = support.repeat_interleave(FOLDS, 1).flatten(0, 1)
        moved = random_affine(copies, torch.cat(uniform).to(support)).unflatten(0, (-1, FOLDS))
        return [(support, moved[:, fold : fold + 1]) for fold in range(FOLDS)]
    fold_of = torch.arange(shots) * min(shots, FOLDS) // shots
    return [(support[:, fold_of != fold], support[:, fold_of == fold]) for fold in range(min(shots, FOLDS))]


def _measured(learner: Learner, folds: list[_Fold], candidates: tuple[int, ...]) -> torch.Tensor:
    """The means over each fold's left-out images, [T, F, c, 3]: see `_loss_and_distances`."""

    def along(fold: _Fold) -> torch.Tensor:
        start, path = learner.start(), trajectory(learner, fold.task.support, fold.task.support_noise, candidates[-1])
        passed = [{**start, **moved} for index, (moved, _) in enumerate(path) if index in candidates]
        return torch.stack([_loss_and_distances(learner, weights, fold) for weights in passed])

    of_fold: dict[int, torch.Tensor] = {}
    for size in sorted(set(map(_left_out, folds))):
        group = [n for n, fold in enumerate(folds) if _left_out(fold) == size]
        together = tree_map(lambda *each: torch.cat(each), *(folds[n] for n in group))
        parts = by_chunks(over_tasks(along, shared=0), together).unflatten(0, (len(group), -1))
        of_fold |= dict(zip(group, parts, strict=True))
    return torch.stack([of_fold[n] for n in range(len(folds))], 1)


def _left_out(fold: _Fold) -> int:
    return fold.task.query.shape[1]


def _loss_and_distances(learner: Learner, weights: Weights, fold: _Fold) -> torch.Tensor:
    """At these weights: the loss of left-out images, and how far samples and left-out images are from the others."""
    task = fold.task
    made = with_weights(learner.generator, weights).generate(fold.draws, task.support)
    if learner.generator.comparable:
        loss = torch.stack(list(learner.query_losses(weights, task).values())).sum()
    else:
        loss = energy_score(blurred(made), blurred(task.query)).to(made)
    return torch.stack([loss, _distance(made, task.support), _distance(task.query, task.support)])


def _distance(images: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """The mean distance of images [n, C, H, W] to the nearest of the support, in lightly blurred pixels."""
    ours, theirs = blurred(images), blurred(support)
    return (ours[:, None] - theirs).square().sum(-1).sqrt().amin(-1).mean()
