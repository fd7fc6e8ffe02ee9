"""The schema of result.json, which `metagen evaluate` writes, and of the league that `metagen compare` makes of some.

They are dictionaries, so that files are written and read key for key. A number that is not finite is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, cast

from metagen.distributed.environment import Environment
from metagen.errors import MetagenError
from metagen.metrics.intervals import Interval
from metagen.storage.strict_json import read_json

if TYPE_CHECKING:
    from typing_extensions import NotRequired

Steps = int | Literal["auto"] | None


class Estimate(TypedDict):
    """A figure with the ends of its 95 % interval."""

    mean: float | None
    low: float | None
    high: float | None


class TaskEstimate(Estimate):
    """A figure over tasks.

    Attributes:
        tasks: how many.
        clear: of a difference in a league, whether zero lies outside its interval.
    """

    tasks: int
    clear: NotRequired[bool]


class StudyEstimate(Estimate):
    """A figure of a study, over n tasks or draws; `median` of seconds alone."""

    n: int
    median: NotRequired[float]


class Difference(TypedDict):
    """One row less another, paired by task: `row` is "ONE - OTHER"."""

    row: str
    figures: dict[str, TaskEstimate]


class Row(Difference):
    """A row of the scorecard, with its figures by name.

    Attributes:
        steps: inner steps N; null of a row that no model makes.
        seconds: of adapting and sampling, all tasks together.
        diverged: of how many tasks some sample is not finite; null where nothing is sampled.
    """

    steps: Steps
    seconds: float | None
    diverged: int | None


class CurvePoint(TaskEstimate):
    """The criterion after so many inner steps, over the tasks on which it is finite."""

    steps: int


class ExtractorInfo(TypedDict):
    """An extractor; a trained one also tells its data, training and accuracy."""

    name: str
    weights_sha256: str
    data: NotRequired[dict[str, Any]]
    training: NotRequired[dict[str, Any]]
    accuracy: NotRequired[dict[str, dict[str, Any]]]


class ModelInfo(TypedDict):
    """The model that was measured, with all that its config.json tells of it."""

    weights_sha256: str
    data: NotRequired[dict[str, Any]]
    training: NotRequired[dict[str, Any]]
    sampling: NotRequired[dict[str, Any]]


class FineTuned(TypedDict):
    """The rate and the number of steps of a baseline, chosen on val tasks."""

    rate: float | dict[str, float]  # of a game by player
    steps: int
    chosen_on: str


class LogLikelihoodRow(StudyEstimate):
    """The log-likelihood at k = `shots`, its gain over k = 0 and the published value."""

    shots: int
    gain: StudyEstimate
    published: float | None


class LogLikelihood(TypedDict):
    """The study `log_likelihood`."""

    unit: str
    samples: int
    images: int
    rows: list[LogLikelihoodRow]
    source: str | None


class Gain(TypedDict):
    """The study `gain`."""

    unit: str
    ways: int
    limited_by_tasks: bool
    shots: int
    generated: int
    queries: int
    steps: int
    accuracy: dict[str, StudyEstimate]
    differences: dict[str, StudyEstimate]


class Cost(TypedDict):
    """The study `cost`."""

    steps: int
    shots: int
    seconds: StudyEstimate
    peak_mib: StudyEstimate
    peak_method: str
    images_a_second: StudyEstimate
    images_at_once: int
    adapted_bytes: int


class Studies(TypedDict, total=False):
    """The studies that were asked for."""

    log_likelihood: LogLikelihood
    gain: Gain
    cost: Cost


class Scores(TypedDict):
    """The measurements of one model: all of result.json that does not say of which.

    Attributes:
        criterion: the figure of the curve, and by which baselines are tuned; `unit` is its unit.
        images_crc32: of all support and query images.
        real: reference images, all tasks together; `made` as many of each row.
        not_measured: figures that do not fit these tasks or extractors.
        differences: of the adapted row from each other one.
    """

    criterion: str
    unit: str
    split: str
    split_sha256: str
    images_crc32: int
    shots: int
    queries: int
    tasks: int
    task_names: list[str]
    real: int
    made: int
    seed: int
    environment: Environment
    fine_tuned: dict[str, FineTuned]
    rows: list[Row]
    not_measured: list[str]
    differences: list[Difference]
    curve: list[CurvePoint]


class Result(Scores):
    """All of result.json; `notes` tell which numbers are not finite."""

    model: ModelInfo
    extractors: list[ExtractorInfo]
    data: dict[str, Any]
    studies: Studies
    notes: NotRequired[list[str]]


class LeagueRow(TypedDict):
    """A row of a league: figures, and of a model also its steps and weights."""

    row: str
    figures: dict[str, TaskEstimate]
    steps: NotRequired[Steps]
    weights_sha256: NotRequired[str | None]


class League(TypedDict):
    """League.json: models in order, rows without a model, and paired differences.

    Attributes:
        by: the figure of the order.
        best: "low", "high", or "human": as real images have it.
        measured: what is equal of all models, as messages call it, and the extractors.
    """

    by: str
    best: str
    measured: dict[str, Any]
    models: list[LeagueRow]
    model_free: list[LeagueRow]
    differences: list[LeagueRow]
    notes: NotRequired[list[str]]


AnyRow = TypeVar("AnyRow", bound=Mapping[str, Any])


def estimate(interval: Interval) -> TaskEstimate:
    """An interval as it is written."""
    return cast(TaskEstimate, asdict(interval))


def row_named(rows: Iterable[AnyRow], name: str) -> AnyRow | None:
    """The row of this name; None where there is none."""
    return next((row for row in rows if row["row"] == name), None)


def read_result(path: Path) -> Result:
    """A result.json; one of an earlier version may lack keys.

    Raises:
        MetagenError: it cannot be read.
    """
    try:
        result = read_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise MetagenError(f"{path}: cannot be read ({type(error).__name__}); evaluate again") from error
    return cast(Result, result if isinstance(result, dict) else {})
