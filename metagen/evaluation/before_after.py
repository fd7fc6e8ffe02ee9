"""Several models on the same held-out tasks, as before and after training, beside real images and affine copies."""

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
from metagen.report.result import Row
from metagen.storage.images import grid
from metagen.tasks.episodes import Episodes

FIGURES = ("recognisability", "diversity_relative", "near_copies", "fd")
TRIAL_ROWS = {"after": "adapted"}  # of a trial, which has that row always


def compare(
    models: Mapping[str, Learner], episodes: Episodes, limit: int, extractor: tuple[str, Extractor]
) -> list[Row]:
    """Measure models on test tasks, beside real images and affine copies.

    Args:
        models: by the names of their rows, one of them "after"; all over images of one size.
        episodes: of the tasks.
        limit: how many test tasks, chosen once and for all.
        extractor: its name, and the network.
    """
    extractors, tasks = dict([extractor]), episodes.held_out_numbers("test", limit)
    contenders = {TRIAL_ROWS.get(name, name): Contender(each, each.test_steps) for name, each in models.items()}
    trial = Trial(episodes, "test", tasks, contenders, (0, "test"), (), ByLoss(), extractors, episodes.queries // 2)
    results = from_tensors(ShardedTasks().over("tasks", tasks, lambda batch: to_tensors(trial.evaluate_batch(batch))))
    card = Scorecard(results, contenders, extractors, select_figures([*FIGURES], metrics, extractors))
    return [
        {
            "row": name,
            "steps": None,
            "seconds": None,
            "diverged": None,
            "figures": card.figures(TRIAL_ROWS.get(name, name)),
        }
        for name in ("human", "affine x1", *models)
    ]


def picture(models: Mapping[str, Learner], episodes: Episodes, tasks: int, generated: int = 6) -> torch.Tensor:
    """One row a test task: the image given, real ones, and images of each model by its name; [3, H, W] in [0, 1]."""
    episode = episodes.of("test", episodes.held_out_numbers("test", tasks))
    blocks = {"given": episode.support, "real, not shown": episode.query[:, :3]}
    for name, learner in models.items():
        adapted = adapt_tasks(learner, episode.to_like(learner).support, (0, "picture"), episode.numbers)
        rngs = [torch_rng(0, "picture", number, "sample") for number in episode.numbers]
        blocks[name] = adapted.sample(generated, rngs).to(episode.support)
    return labelled({heading: grid(block, pad=1) for heading, block in blocks.items()}, cell=episode.support.shape[-1])
