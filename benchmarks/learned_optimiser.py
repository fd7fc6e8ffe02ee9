"""A learned optimiser against tuned SGD and Adam: same start, same moving weights, same noise, at N to 4 N steps.

    python scripts/benchmark_learned_optimiser.py MODEL --root DIR [--split test] [--limit 100] [--out FILE.json]

MODEL is an exported learner with inner steps; DIR holds the images of the task set that it was trained on. Rates of SGD
and Adam are tuned on val tasks by query loss, twice: at 4 N steps, and at the best of all steps up to there. Losses are
those of held-out tasks, the query's and the support's own, in the generator's units (nats per image), with 95 %
intervals over tasks; differences are paired.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation import Optimiser, PlayerNoise, Step, draw_noise, fixed_rate_step, trajectory
from metagen.core.functional import over_tasks, with_weights
from metagen.learners import Learner
from metagen.learners.model_files import load_model
from metagen.metrics.intervals import over_tasks_interval
from metagen.storage.strict_json import to_json
from metagen.tasks.episodes import Episode, Episodes
from metagen.training.episode_data import EpisodeData

RATES: dict[Optimiser, list[float]] = {"sgd": [2.0**-i for i in range(9)], "adam": [2.0**-i for i in range(2, 11)]}
SIDES = ("query", "support")
TIMES = 4  # how much longer than it was trained for


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
        start, found = learner.start(), []
        for moved, _ in trajectory(learner, support, inner, steps):
            at = {**start, **moved}
            by_query = sum(
                with_weights(generator, at).query_loss(p, query, outer[p], support) for p in generator.players
            )
            by_support = sum(with_weights(generator, at).support_loss(p, support, again[p]) for p in generator.players)
            found.append(torch.stack([by_query, by_support]))
        return torch.stack(found)

    own, learner.step = learner.step, step
    try:
        with torch.no_grad():
            noise = tree_map(lambda x: x.to(episode.support), (inner, outer, again))
            return over_tasks(one_task, shared=0)(episode.support, episode.query, *noise).double().cpu()
    finally:
        learner.step = own


def over(learner: Learner, step: Step, found: Sequence[Episode], steps: int, seed: int) -> torch.Tensor:
    """The losses of every task of several episodes, [T, steps + 1, 2]."""
    return torch.cat([losses(learner, step, each.to_like(learner), steps, seed) for each in found])


def one_rate(kind: Optimiser, learner: Learner, rate: float) -> Step:
    """The inner optimiser at the same rate for every weight that adapts."""
    return fixed_rate_step(kind, dict.fromkeys(learner.adapted_names, rate))


def tuned(
    kind: Optimiser, learner: Learner, found: Sequence[Episode], steps: int, seed: int
) -> dict[str, tuple[float, int]]:
    """Rate and number of steps with the least mean query loss: at the last step, and at any."""
    curves = {}
    for rate in RATES[kind]:
        mean = over(learner, one_rate(kind, learner, rate), found, steps, seed)[..., 0].mean(0)
        curves[rate] = mean.nan_to_num(torch.inf, torch.inf)
        ends, best = float(curves[rate][-1]), float(curves[rate].min())
        print(f"  {kind} at {rate:<9.5g} {ends:10.2f} after {steps} steps, {best:10.2f} at best")
    at_last = min(curves, key=lambda rate: float(curves[rate][-1]))
    at_best = min(curves, key=lambda rate: float(curves[rate].min()))
    for rate in {at_last, at_best} & {RATES[kind][0], RATES[kind][-1]}:
        print(f"  {kind}: {rate:g} is at the edge of the grid")
    return {"same steps": (at_last, steps), "best steps": (at_best, int(curves[at_best].argmin()))}


def intervals(values: torch.Tensor) -> dict[str, object]:
    """Mean and interval over tasks of values [T, 2], by side."""
    return {side: asdict(over_tasks_interval(values[:, i])) for i, side in enumerate(SIDES)}


def measured(learner: Learner, episodes: Episodes, options: argparse.Namespace) -> dict[str, object]:
    """Every row and every paired difference from the learner at 4 N steps."""
    trained, steps = learner.steps, TIMES * learner.steps

    def of(split: str, limit: int | None) -> list[Episode]:
        return list(episodes.held_out(split, options.batch, limit))

    val, found = of("val", options.tuning), of(options.split, options.limit)
    mine = over(learner, learner.step, found, steps, options.seed)
    rows = {"not adapted": mine[:, 0], f"learned, {trained} steps": mine[:, trained]}
    rows[f"learned, {steps} steps"] = last = mine[:, steps]
    chosen: dict[str, tuple[float, int]] = {}
    for kind in RATES:
        for how, (rate, count) in tuned(kind, learner, val, steps, options.seed).items():
            name = f"{kind} at {rate:g}, {count} steps ({how})"
            chosen[name] = (rate, count)
            rows[name] = over(learner, one_rate(kind, learner, rate), found, count, options.seed)[:, count]
    differences = {name: intervals(last - values) for name, values in rows.items() if values is not last}
    return {
        "rows": {name: intervals(values) for name, values in rows.items()},
        "differences": differences,
        "tuned": chosen,
        "curve": {side: mine[..., i].mean(0).tolist() for i, side in enumerate(SIDES)},
    }


def shown(result: dict[str, dict[str, dict[str, dict[str, float]]]], last: str) -> None:
    """The tables of a result."""

    def line(name: str, sides: dict[str, dict[str, float]]) -> str:
        cells = (f"{s['mean']:8.2f} [{s['low']:8.2f}, {s['high']:8.2f}]" for s in (sides[side] for side in SIDES))
        return f"{name:44} {'   '.join(cells)}"

    print(f"\n{'loss':44} {'query':>28}   {'support':>28}")
    for name, sides in result["rows"].items():
        print(line(name, sides))
    print(f"\n{last}, less ...")
    for name, sides in result["differences"].items():
        print(line(name, sides))


def main(argv: Sequence[str] | None = None) -> None:
    """Tune, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--root", help="where the images lie")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--limit", type=int, help="held-out tasks; all by default")
    parser.add_argument("--tuning", type=int, default=40, help="val tasks on which rates are tuned")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20, help="tasks at once")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args(argv)
    learner, info, weights = load_model(options.model)
    if not learner.steps:
        parser.error(f"{options.model}: was trained with no inner step")
    about = {"task_set": "omniglot", **info.get("data", {}), "root": options.root}
    about |= {"shots": options.shots, "queries": options.queries}
    data = EpisodeData(**{name: value for name, value in about.items() if value is not None})
    result = measured(learner.to(options.device), data.episodes, options)
    shown(result, f"learned, {TIMES * learner.steps} steps")
    if options.out:
        gpu = torch.cuda.get_device_name() if options.device != "cpu" else None
        machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "gpu": gpu}
        settings = {name: str(v) if isinstance(v, Path) else v for name, v in vars(options).items() if name != "root"}
        settings |= {"weights_sha256": weights, "steps": learner.steps, "torch": torch.__version__, "hardware": machine}
        options.out.write_text(to_json({**settings, **result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
