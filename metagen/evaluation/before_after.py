"""Two models on the same held-out tasks: before and after training, beside real images and affine copies."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from metagen.core.seeding import torch_rng
from metagen.distributed.sharding import ShardedTasks
from metagen.evaluation.contenders import Contender
from metagen.evaluation.criterion import ByLoss
from metagen.evaluation.scorecard import Scorecard
from metagen.evaluation.task_results import from_tensors, to_tensors
from metagen.evaluation.trial import Trial
from metagen.learners import Learner, adapt_tasks
from metagen.metrics import Extractor, metrics, select_figures
from metagen.report.plots import labelled
from metagen.report.tables import short
from metagen.storage.images import grid
from metagen.tasks.episodes import Episodes

# The figures shown, by the names of their columns: a heading, and a clause for who has never seen it.
FIGURES = {
    "recognisability": (
        "recognised %",
        "drawings nearer to their own letter than to 19 others, as a network sees them",
    ),
    "diversity_relative": ("variety %", "how much the drawings of a letter differ; real ones are 100"),
    "near_copies": ("near copies %", "drawings as close to the given one as 1 in 20 real ones; 5 would be right"),
    "fd": ("distance", "of all drawings together from real ones, in that network's eyes; less is better"),
}
ROWS = {"human": "real drawings", "affine x1": "moved copies", "before": "before", "adapted": "after"}


def compare(
    before: Learner, after: Learner, episodes: Episodes, limit: int, extractor: tuple[str, Extractor]
) -> dict[str, dict[str, str]]:
    """Measure both models on test tasks: the figures with half the width of their intervals, by heading, by row.

    Args:
        before: a model.
        after: another one, over images of the same size.
        episodes: of the tasks.
        limit: how many test tasks, chosen once and for all.
        extractor: its name, and the network.
    """
    extractors, tasks = dict([extractor]), episodes.held_out_numbers("test", limit)
    rows = {"before": Contender(before, before.test_steps), "adapted": Contender(after, after.test_steps)}
    trial = Trial(episodes, "test", tasks, rows, (0, "test"), (), ByLoss(), extractors, episodes.queries // 2)
    results = from_tensors(ShardedTasks().over("tasks", tasks, lambda batch: to_tensors(trial.evaluate_batch(batch))))
    card = Scorecard(results, rows, extractors, select_figures([*FIGURES], metrics, extractors))
    return {
        name: {
            heading: short(card.figures(row)[f"{column}[{extractor[0]}]"]) for column, (heading, _) in FIGURES.items()
        }
        for row, name in ROWS.items()
    }


def picture(models: Mapping[str, Learner], episodes: Episodes, tasks: int, generated: int = 6) -> torch.Tensor:
    """One row a test task: the image given, real ones, and images of each model by its name; [3, H, W] in [0, 1]."""
    episode = episodes.of("test", episodes.held_out_numbers("test", tasks))
    blocks = {"given": episode.support, "real, not shown": episode.query[:, :3]}
    for name, learner in models.items():
        adapted = adapt_tasks(learner, episode.to_like(learner).support, (0, "picture"), episode.numbers)
        rngs = [torch_rng(0, "picture", number, "sample") for number in episode.numbers]
        blocks[name] = adapted.sample(generated, rngs).to(episode.support)
    return labelled({heading: grid(block, pad=1) for heading, block in blocks.items()}, cell=episode.support.shape[-1])
