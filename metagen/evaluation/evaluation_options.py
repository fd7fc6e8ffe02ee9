"""The options of `metagen evaluate`, declared here alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HeldOutSplit = Literal["val", "test"]


@dataclass(frozen=True)
class EvaluationOptions:
    """Which held-out tasks a model is measured on, by which figures, and beside which baselines.

    Attributes:
        split: "test" or "val".
        limit: take only this many tasks, chosen once and for all; null for all.
        extractor: what the measures look through: a folder, or the name of one bundled with metagen; by default
            the one of the task set ("glyphs-report", "omniglot-report"); "none" to measure the query loss alone.
        inception: for FID, Inception Score and KID as they are published: the weights file of torch-fidelity, or
            "download" to fetch it.
        lpips: for the diversity of a task's samples by LPIPS: torchvision's weights file alexnet-owt-7be5be79.pth, or
            "download" to fetch it.
        metrics: names of figures, such as fd or fd[omniglot-report], and of studies (log_likelihood, gain, cost); by
            default every figure that is quickly measured, also beside studies.
        full: let studies take all images, and all tasks within the limit.
        joint: a model trained jointly on the same tasks (learner Joint), for the row "joint + fine-tune" among the
            baselines; a model that was trained without steps is its own.
        baselines: measure the rows that are fine-tuned, too, scratch and joint; they are the same for all models over
            one generator, and take most of the time.
        steps: inner steps in which the model adapts, in place of its own number; choose them on val tasks.
        auto: measure a row, too, whose number of steps is chosen for each task by its support.
        curve: the numbers of inner steps at which the adapted loss is measured.
        seed: of the noise.
        batch: tasks at once; figures depend on it by rounding alone.
    """

    split: HeldOutSplit = "test"
    limit: int | None = 100
    extractor: str | None = None
    inception: str | None = None
    lpips: str | None = None
    metrics: list[str] | None = None
    full: bool = False
    joint: str | None = None
    baselines: bool = False
    steps: int | None = None
    auto: bool = False
    curve: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50)
    seed: int = 0
    batch: int = 8
