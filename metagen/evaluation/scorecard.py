"""The scorecard of a model: rows, differences and the curve over N, every figure with its interval over tasks."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import torch

from metagen.distributed.environment import environment
from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation.baselines import fine_tuned_baselines
from metagen.evaluation.contenders import Contender, contenders
from metagen.evaluation.criterion import ByLoss, BySamples, Criterion
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.task_results import TaskResults, from_tensors, to_tensors
from metagen.evaluation.trial import MODEL_FREE, RECONSTRUCTION, Trial
from metagen.generators import Generator
from metagen.learners import Joint, Learner
from metagen.metrics import Column, Extractor, QueryLoss, RealFeatures, metrics, select_figures
from metagen.metrics.intervals import over_tasks_interval
from metagen.report.next_steps import FEWEST_QUERIES, FEWEST_TASKS
from metagen.report.result import CurvePoint, Difference, FineTuned, Row, Scores, TaskEstimate, estimate
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import HELD_OUT


class Measurement(NamedTuple):
    """The scorecard of a model.

    Attributes:
        result: JSON-ready; each row and difference has `figures`: by name, a figure with its interval.
        values: the values that figures are made of, by "ROW/FIGURE" and "scale/FIGURE": paired differences need no
            more.
    """

    result: Scores
    values: dict[str, torch.Tensor]


def measure(
    learner: Learner,
    episodes: Episodes,
    options: EvaluationOptions,
    extractors: Mapping[str, Extractor] | None = None,
    figures: Mapping[str, tuple[str, str]] | None = None,
    joint: Learner | None = None,
    sharded: ShardedTasks | None = None,
) -> Measurement:
    """Measure a model on held-out tasks: rows, differences of the adapted row from the others, and the curve over N.

    The query is cut in two: the reference that distances are from, and the human half; every row makes as many images
    as that half holds. Everything is measured where the learner lies. The curve is of the query loss or, of generators
    whose loss says little, of the energy distance through the first extractor.

    Args:
        learner: the model.
        episodes: its tasks.
        options: what is named in them (extractors, metrics, joint, steps, batch) is not read here, but taken as
            objects.
        extractors: by name; None for the query loss alone.
        figures: the columns and extractors to measure with, by name (see `select_figures`); None for the usual ones.
        joint: a model trained jointly on the same train tasks, to be fine-tuned for its row; None for no such row, but
            of a model that was trained without steps.
        sharded: shares the tasks by processes, and keeps them.

    Raises:
        MetagenError: an option is out of range, or there are too few tasks or queries for a metric.
    """
    extractors, sharded = dict(extractors or {}), sharded or ShardedTasks()
    split, seed = options.split, options.seed
    tasks = check_options(episodes, options, bool(extractors))
    criterion = _criterion(learner.generator, extractors)
    fine_tuned: dict[str, Joint] = {}
    if options.baselines:
        fine_tuned = fine_tuned_baselines(learner, joint, episodes, criterion, seed, sharded)
    rows, half = contenders(learner, fine_tuned, options.auto), episodes.queries // 2 if extractors else 0
    trial = Trial(episodes, split, tasks, rows, (seed, split), options.curve, criterion, extractors, half)
    results = from_tensors(sharded.over("tasks", tasks, lambda batch: to_tensors(trial.evaluate_batch(batch))))
    if figures is None:
        figures = select_figures(None, metrics, extractors)
    card = Scorecard(results, rows, extractors, figures)
    scores: Scores = {
        "criterion": criterion.figure,
        "unit": criterion.unit,
        "split": split,
        "split_sha256": episodes.task_set.split.hash,
        "images_crc32": zlib.crc32(results.checksums.numpy().tobytes()),
        "shots": episodes.shots,
        "queries": episodes.queries,
        "tasks": len(tasks),
        "task_names": [episodes.task_set.split[split][number] for number in tasks],
        "real": half * len(tasks),
        "made": half * len(tasks),
        "seed": seed,
        "environment": environment(next(learner.parameters()).device),
        "fine_tuned": {name: _fine_tuned(each) for name, each in fine_tuned.items()},
        "rows": card.rows(),
        "not_measured": card.unfit,
        "differences": card.differences(),
        "curve": [_point(n, results.curve[n]) for n in options.curve],
    }
    return Measurement(scores, card.values)


def _criterion(generator: Generator, extractors: Mapping[str, Extractor]) -> Criterion:
    if generator.comparable:
        return ByLoss()
    if not extractors:
        raise MetagenError(
            f"{type(generator).__name__}: what its players lose says nothing of its images, so there is nothing to "
            "measure without an extractor; name one with --extractor"
        )
    name = next(iter(extractors))
    return BySamples(name, extractors[name].of)


def check_options(episodes: Episodes, options: EvaluationOptions, with_extractor: bool = False) -> list[int]:
    """The numbers of the tasks that the options mean; `with_extractor` says whether samples are measured.

    Raises:
        MetagenError: an option is out of range, or there are too few tasks or images.
    """
    split, limit, curve = options.split, options.limit, options.curve
    if split not in HELD_OUT:
        raise MetagenError(f"split: expected one of {', '.join(HELD_OUT)}, got {split!r}")
    if (limit is not None and limit < 1) or min(curve, default=0) < 0:
        raise MetagenError(
            f"expected a limit of 1 or more and a curve of 0 or more steps, got {limit} and {list(curve)}"
        )
    tasks = episodes.held_out_numbers(split, limit)
    if with_extractor and episodes.queries < FEWEST_QUERIES:
        fewest = f"{FEWEST_QUERIES} or more images a task"
        raise MetagenError(f"data.queries: a scorecard needs {fewest}, got {episodes.queries}")
    if with_extractor and len(tasks) < FEWEST_TASKS:
        raise MetagenError(f"limit: a scorecard needs {FEWEST_TASKS} tasks or more, got {len(tasks)}")
    return tasks


class Scorecard:
    """The rows of one table, all judged by the same real images through the same extractors.

    Args:
        results: of `Trial.evaluate_batch`, of all tasks.
        rows: the models.
        extractors: by name.
        figures: the column and the extractor of each figure.

    Attributes:
        values: what figures are made of, by "ROW/FIGURE", and what they are divided by, by "scale/FIGURE".
        unfit: figures that could not be measured here, such as an Inception Score without classes.
    """

    def __init__(
        self,
        results: TaskResults,
        rows: Mapping[str, Contender],
        extractors: Mapping[str, Extractor],
        figures: Mapping[str, tuple[str, str]],
    ) -> None:
        self.results, self.contenders = results, rows
        self.unfit: list[str] = []
        reconstructed = [RECONSTRUCTION] if RECONSTRUCTION in results.diverged else []
        self.names = [*(MODEL_FREE if extractors else ()), *reconstructed, *rows]
        self.columns: dict[str, Column] = {"query_loss": QueryLoss()} if results.losses else {}
        self.values = {f"{name}/query_loss": loss.double() for name, loss in results.losses.items()}
        self.tasks = len(results.checksums)
        for figure, (column, extractor) in figures.items():
            features = results.features[extractor]
            support, reference, human = (features[name] for name in ("support", "reference", "human"))
            real = RealFeatures(support, reference, human, extractors[extractor].probabilities)
            self._add(figure, metrics[column], features, real)

    def _add(self, figure: str, column: Column, features: Mapping[str, torch.Tensor], real: RealFeatures) -> None:
        if not column.fits(real):
            self.unfit.append(figure)
            return
        self.columns[figure] = column
        scale = column.scale(real)
        self.values |= {} if scale is None else {f"scale/{figure}": scale}
        self.values |= {f"{name}/{figure}": column.values(features[name], real) for name in self.names}

    def rows(self) -> list[Row]:
        """Every row with its figures."""
        return [self._row(name) for name in self.names]

    def _row(self, name: str) -> Row:
        contender, diverged = self.contenders.get(name), self.results.diverged.get(name)
        return {
            "row": name,
            "steps": contender.steps if contender else None,
            "seconds": float(self.results.seconds[name].sum()) if contender else None,
            "diverged": None if diverged is None else int(diverged.sum()),
            "figures": self.figures(name),
        }

    def differences(self) -> list[Difference]:
        """The adapted row less each other one, paired by task."""
        others = [name for name in self.names if name not in ("adapted", "human")]
        return [{"row": f"adapted - {name}", "figures": self.figures("adapted", name)} for name in others]

    def figures(self, name: str, against: str | None = None) -> dict[str, TaskEstimate]:
        """The figures of a row, or of its difference from another one."""
        figures: dict[str, TaskEstimate] = {}
        for figure, column in self.columns.items():
            values, others = self.values.get(f"{name}/{figure}"), self.values.get(f"{against}/{figure}")
            if values is not None and (against is None or others is not None):
                paired = values if others is None else values - others
                interval = column.interval(paired, self.tasks, self.values.get(f"scale/{figure}"))
                figures[figure] = estimate(interval)
        return figures


def _fine_tuned(baseline: Joint) -> FineTuned:
    return {"rate": baseline.rate, "steps": baseline.test_steps, "chosen_on": "val"}


def _point(steps: int, values: torch.Tensor) -> CurvePoint:
    """The criterion after so many steps, over the tasks that did not diverge, and how many those are."""
    finite = values[values.isfinite()]
    interval = over_tasks_interval(finite if len(finite) else values)
    return {"steps": steps, "tasks": interval.tasks, **estimate(interval)}
