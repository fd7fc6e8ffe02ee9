"""A learned optimiser against tuned SGD and Adam: same start, same moving weights, same noise, at N to 4 N steps.

    python benchmarks/learned_optimiser.py MODEL --root DIR [--split test] [--limit 100] [--out results/NAME]

MODEL is an exported learner with inner steps; DIR holds the images of the task set that it was trained on. Rates of SGD
and Adam are tuned on val tasks by query loss, twice: at 4 N steps, and at the best of all steps up to there. Losses are
those of held-out tasks, the query's and the support's own, in the generator's units (nats per image), with 95 %
intervals over tasks; differences are paired.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from experiments.pages import paragraphs, write_page
from experiments.runs import parser
from metagen.adaptation import Optimiser, PlayerNoise, Step, draw_noise, fixed_rate_step, trajectory
from metagen.core.functional import over_tasks, with_weights
from metagen.distributed.environment import environment
from metagen.learners import Learner
from metagen.learners.model_files import load_model
from metagen.metrics.intervals import over_tasks_interval
from metagen.report.tables import markdown_table, with_ends
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page
from metagen.tasks.episodes import Episode, Episodes
from metagen.training.episode_data import EpisodeData

RATES: dict[Optimiser, list[float]] = {"sgd": [2.0**-i for i in range(9)], "adam": [2.0**-i for i in range(2, 11)]}
SIDES = ("query", "support")
TIMES = 4  # how much longer than it was trained for
HEAD = """# A learned optimiser at {times} times the steps it was trained for

`python benchmarks/learned_optimiser.py {model} --root DIR --split {split} --limit {limit}` (seed {seed}, torch {torch};
rates of SGD and Adam tuned on val tasks; all begin at the same start and move the same weights). All figures:
[result.json](result.json).
"""


def losses(learner: Learner, step: Step, episode: Episode, steps: int, seed: int) -> torch.Tensor:
    """Loss of every task after each of 0 to `steps` steps of a rule, on query and support: [T, steps + 1, 2].

    All rules begin at the learner's start, move its moving weights and meet the same noise.
    """
    generator, key, numbers = learner.generator, (seed, "benchmark"), episode.numbers
    shots, queries = episode.support.shape[1], episode.query.shape[1]
    inner = draw_noise(generator, (*key, "support"), numbers, shots, steps)
    outer = draw_noise(generator, (*key, "query"), numbers, queries)
    again = draw_noise(generator, (*key, "judged support"), numbers, shots)

    def one_task(
        support: torch.Tensor, query: torch.Tensor, inner: PlayerNoise, outer: PlayerNoise, again: PlayerNoise
    ) -> torch.Tensor:
        start, rows = learner.start(), []
        for moved, _ in trajectory(learner, support, inner, steps):
            at, players = with_weights(generator, {**start, **moved}), generator.players
            by_query = [at.query_loss(p, query, outer[p], support) for p in players]
            by_support = [at.support_loss(p, support, again[p]) for p in players]
            rows.append(torch.stack([torch.stack(each).sum() for each in (by_query, by_support)]))
        return torch.stack(rows)

    own, learner.step = learner.step, step
    try:
        with torch.no_grad():
            noise = tree_map(lambda x: x.to(episode.support), (inner, outer, again))
            return over_tasks(one_task, shared=0)(episode.support, episode.query, *noise).double().cpu()
    finally:
        learner.step = own


def over(learner: Learner, step: Step, episodes: Iterable[Episode], steps: int, seed: int) -> torch.Tensor:
    """The losses of every task of several episodes, [T, steps + 1, 2]."""
    return torch.cat([losses(learner, step, each.to_like(learner), steps, seed) for each in episodes])


def one_rate(kind: Optimiser, learner: Learner, rate: float) -> Step:
    """The inner optimiser at the same rate for every weight that adapts."""
    return fixed_rate_step(kind, dict.fromkeys(learner.adapted_names, rate))


def tuned(
    kind: Optimiser, learner: Learner, episodes: Sequence[Episode], steps: int, seed: int
) -> dict[str, tuple[float, int]]:
    """Rate and number of steps with the least mean query loss: at the last step, and at any."""
    curves = {}
    for rate in RATES[kind]:
        mean = over(learner, one_rate(kind, learner, rate), episodes, steps, seed)[..., 0].mean(0)
        curves[rate] = mean.nan_to_num(torch.inf, torch.inf)
        ends, best = float(curves[rate][-1]), float(curves[rate].min())
        print(f"  {kind} at {rate:<9.5g} {ends:10.2f} after {steps} steps, {best:10.2f} at best")
    at_last = min(curves, key=lambda rate: float(curves[rate][-1]))
    at_best = min(curves, key=lambda rate: float(curves[rate].min()))
    for rate in {at_last, at_best} & {RATES[kind][0], RATES[kind][-1]}:
        print(f"  {kind}: {rate:g} is at the edge of the grid")
    return {"same steps": (at_last, steps), "best steps": (at_best, int(curves[at_best].argmin()))}


def intervals(values: torch.Tensor) -> dict[str, Any]:
    """Mean and interval over tasks of values [T, 2], by side."""
    return {side: asdict(over_tasks_interval(values[:, i])) for i, side in enumerate(SIDES)}


def measured(learner: Learner, episodes: Episodes, options: argparse.Namespace) -> dict[str, Any]:
    """Every row and every paired difference from the learner at 4 N steps."""
    trained, steps = learner.steps, TIMES * learner.steps
    val = list(episodes.held_out("val", options.batch, options.tuning))
    test = list(episodes.held_out(options.split, options.batch, options.limit))
    mine = over(learner, learner.step, test, steps, options.seed)
    last = mine[:, steps]
    rows = {"not adapted": mine[:, 0], f"learned, {trained} steps": mine[:, trained], f"learned, {steps} steps": last}
    chosen: dict[str, tuple[float, int]] = {}
    for kind in RATES:
        for how, (rate, count) in tuned(kind, learner, val, steps, options.seed).items():
            name = f"{kind} at {rate:g}, {count} steps ({how})"
            chosen[name] = (rate, count)
            rows[name] = over(learner, one_rate(kind, learner, rate), test, count, options.seed)[:, count]
    return {
        "rows": {name: intervals(values) for name, values in rows.items()},
        "differences": {name: intervals(last - values) for name, values in rows.items() if values is not last},
        "tuned": chosen,
        "curve": {side: mine[..., i].mean(0).tolist() for i, side in enumerate(SIDES)},
    }


def page_lines(result: Mapping[str, Any]) -> list[str]:
    """The page of a result."""
    headings = [f"{side} loss" for side in SIDES]
    last = f"learned, {TIMES * result['steps']} steps"
    tables = [
        markdown_table([first, *headings], ([name, *map(with_ends, sides.values())] for name, sides in rows.items()))
        for first, rows in (("", result["rows"]), (f"{last}, less ...", result["differences"]))
    ]
    return [paragraphs(HEAD.format(**result, times=TIMES)), *tables[0], "", *tables[1]]


def main(argv: Sequence[str] | None = None) -> None:
    """Tune, measure, compare."""
    options = parser(__doc__)
    options.add_argument("model", type=Path)
    options.add_argument("--root", help="where the images lie")
    options.add_argument("--split", default="val", choices=("val", "test"))
    options.add_argument("--limit", type=int, help="held-out tasks; all by default")
    options.add_argument("--tuning", type=int, default=40, help="val tasks on which rates are tuned")
    options.add_argument("--shots", type=int, default=5)
    options.add_argument("--queries", type=int, default=10)
    options.add_argument("--batch", type=int, default=20, help="tasks at once")
    options.add_argument("--seed", type=int, default=0, help="of the noise")
    options.add_argument("--device", default="cpu")
    options.add_argument("--out", type=Path, help="folder of the result")
    given = options.parse_args(argv)
    learner, info, weights = load_model(given.model)
    if not learner.steps:
        options.error(f"{given.model}: was trained with no inner step")
    about = {"task_set": "omniglot", **info.get("data", {}), "root": given.root}
    about |= {"shots": given.shots, "queries": given.queries}
    data = EpisodeData(**{name: value for name, value in about.items() if value is not None})
    settings = {name: value for name, value in vars(given).items() if name not in ("root", "out")}
    settings |= {"model": str(given.model), "weights_sha256": weights, "steps": learner.steps}
    settings |= {"torch": torch.__version__, "hardware": environment(torch.device(given.device))["hardware"]}
    result = {**settings, **measured(learner.to(given.device), data.episodes, given)}
    lines = page_lines(result)
    print("\n".join(lines))
    if given.out:
        write_page(given.out, lines)
        write_atomically(given.out / "result.json", page(result))


if __name__ == "__main__":
    main()
