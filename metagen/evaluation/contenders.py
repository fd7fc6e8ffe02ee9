"""Models as rows of the scorecard: which support each is given, and in how many steps it adapts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from metagen.evaluation.criterion import Criterion
from metagen.learners import Adapted, Joint, Learner, adapt_each, adapt_tasks, auto_steps
from metagen.tasks.episodes import Episode


@dataclass(frozen=True)
class Contender:
    """A model as one row of the table.

    Attributes:
        learner: the model.
        steps: N, or "auto" for the number that each task's support asks for (see `auto_steps`).
        sees: whose support it is given: each task's "own", another task's ("other"), or "none".
        reads: whose support its step reads its rule from: each task's "own", or another task's ("other").
    """

    learner: Learner
    steps: int | Literal["auto"]
    sees: Literal["own", "other", "none"] = "own"
    reads: Literal["own", "other"] = "own"

    def adapted(self, episode: Episode, others: torch.Tensor, key: tuple[int | str, ...]) -> Adapted:
        """Adapt to each task of an episode; `others` are supports of as many others, and the key names the noise."""
        support = {"own": episode.support, "other": others, "none": episode.support[:, :0]}[self.sees]
        if self.steps == "auto":
            chosen = auto_steps(self.learner, support, (*key, "auto"), episode.numbers).steps
            return adapt_each(self.learner, support, key, chosen, episode.numbers)
        read = others if self.reads == "other" else None
        return adapt_tasks(self.learner, support, key, episode.numbers, self.steps, read)


def contenders(learner: Learner, fine_tuned: Mapping[str, Joint], auto: bool = False) -> dict[str, Contender]:
    """The rows that a model makes, with those of `fine_tuned` baselines among them; the adapted one last."""
    uses_support, steps = learner.generator.uses_support, learner.test_steps
    rows = {"unadapted": Contender(learner, 0, "none")}
    rows |= {name: Contender(each, each.test_steps) for name, each in fine_tuned.items()}
    rows["another task's support"] = Contender(learner, steps, "other")
    if learner.reads:
        rows[f"another task's {learner.reads}"] = Contender(learner, steps, reads="other")
    if (uses_support or learner.conditioned) and steps:
        rows["context only"] = Contender(learner, 0)
    if auto:
        rows["auto steps"] = Contender(learner, "auto")
    return {**rows, "adapted": Contender(learner, steps)}


def criterion_after(
    learner: Learner, episode: Episode, key: tuple[int | str, ...], steps: int, criterion: Criterion
) -> torch.Tensor:
    """The criterion of a learner on each task [T] after N inner steps."""
    adapted = Contender(learner, steps).adapted(episode, episode.support, key)
    return criterion(adapted, episode.query, key, episode.numbers)
