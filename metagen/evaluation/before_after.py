"""Several models on the same held-out tasks, as before and after training, beside real images and affine copies."""

from __future__ import annotations

from collections.abc import Mapping

from metagen.distributed.sharding import ShardedTasks
from metagen.evaluation.contenders import Contender
from metagen.evaluation.criterion import ByLoss
from metagen.evaluation.scorecard import Scorecard
from metagen.evaluation.task_results import from_tensors, to_tensors
from metagen.evaluation.trial import Trial
from metagen.learners import Learner
from metagen.metrics import Extractor, metrics, select_figures
from metagen.report.result import Row
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
