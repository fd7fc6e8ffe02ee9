"""Architecture search against random architectures of the same space, all trained alike; on Omniglot.

    python experiments/search.py --root DIR [--out results/search] [--searching 400] [--training 600]

Searches by MAML, by FOMAML, and by MAML with sampled choices. The architectures of these and three random ones are
trained from the same seed for the same number of meta-steps and evaluated on held-out characters at 5 shots: nats per
image, and the differences paired by character from the mean of the random ones. Runs that are there are reused.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from experiments.pages import RESULTS, paragraphs, write_page
from experiments.runs import evaluated, fitted, parser, revision
from metagen.generators import SearchVAE
from metagen.generators.networks import OPERATIONS
from metagen.learners.model_files import load_model
from metagen.metrics.intervals import over_tasks_interval
from metagen.report.result import read_result
from metagen.report.tables import markdown_table, with_ends
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page, to_json

SEARCHES: dict[str, list[object]] = {
    "relaxed, second order": [],
    "relaxed, first order": ["--model.learner", "FOMAML"],
    "sampled, second order": ["--model.generator.choice", "sampled"],
}
RANDOM = 3
PLACES = 4
LIMITS = {"val": 100, "test": 200}  # characters
HEAD = """# Architecture search

`python experiments/search.py --root DIR --searching {searching} --training {training} --tasks {tasks}`
({hardware}, seed 0), DIR holding Omniglot: searched for {searching} and retrained for {training} meta-steps of {tasks}
train characters, 5 shots. Query loss in nats per image on {val} val and {test} test characters, and the difference from
the mean of the random architectures of the same space, paired by character. The intervals are over characters, not over
searches or trainings: each was run once, and the trainings are short. All figures: [result.json](result.json).
"""


def fit(config: str, run: Path, options: argparse.Namespace, episodes: int, *more: object) -> Path:
    """Meta-train by a config of Omniglot; the folder of the export."""
    data = ("--data.root", options.root, "--data.tasks", options.tasks, "--data.episodes", episodes)
    return fitted(
        run, "--config", f"configs/omniglot/{config}.yaml", *data, "--trainer.val_check_interval", episodes, *more
    )


def searched(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The architecture of each search, by its name: the operations, and the share of each in the trained mixtures."""
    searches = {}
    for name, more in SEARCHES.items():
        run = options.runs / name.replace(", ", "-").replace(" ", "-")
        generator = load_model(fit("search", run, options, options.searching, *more))[0].generator
        if not isinstance(generator, SearchVAE):
            raise SystemExit(f"{run}: holds no search")
        shares = [(mixed.architecture / mixed.temperature).softmax(0).tolist() for mixed in generator.mixtures.values()]
        searches[name] = {"blocks": generator.searched["blocks"], "shares": shares}
    return searches


def random_blocks(seed: int) -> tuple[str, ...]:
    """A random architecture."""
    return tuple(random.Random(seed).choices(list(OPERATIONS), k=PLACES))  # noqa: S311


def query_losses(blocks: tuple[str, ...], options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Train one architecture; its query loss on each held-out character, by split."""
    run, losses = options.runs / "trained" / "-".join(blocks), {}
    more = ("--model.generator.depth", 0, "--model.generator.blocks", to_json(blocks))
    export = fit("vae-maml", run, options, options.training, *more)
    for split, limit in LIMITS.items():
        words = ["--data.root", options.root, "--split", split, "--limit", limit, "--data.shots", 5]
        words += ["--data.queries", 14, "--extractor", "none", "--baselines", "false", "--curve", "[]"]
        result = evaluated(export, run / split, *words)
        losses[split] = load_file(result.with_name("values.safetensors"))["adapted/query_loss"]
    return losses


def estimates(losses: dict[str, dict[str, torch.Tensor]], searches: Sequence[str], split: str) -> dict[str, Any]:
    """Each architecture's query loss, and that of each search less the mean of the random architectures."""
    of = {name: each[split] for name, each in losses.items()}
    mean = torch.stack([of[f"random {seed}"] for seed in range(RANDOM)]).mean(0)
    return {
        "query_loss": {name: asdict(over_tasks_interval(loss)) for name, loss in of.items()},
        "minus_random": {name: asdict(over_tasks_interval(of[name] - mean)) for name in searches},
    }


def page_lines(result: dict[str, Any]) -> list[str]:
    """The page of a result."""
    head = HEAD.format(**{**result, **result["limits"], "hardware": result["environment"]["hardware"]})
    rows = []
    for name, blocks in result["architectures"].items():
        losses = (with_ends(result[split]["query_loss"][name]) for split in LIMITS)
        rows.append([f"{name}: {', '.join(blocks)}", *losses, with_ends(result["test"]["minus_random"].get(name))])
    return [paragraphs(head), *markdown_table(["architecture", *LIMITS, "test, minus the mean of random"], rows)]


def main(argv: Sequence[str] | None = None) -> None:
    """Search, train, measure; write result.json and README.md."""
    options = parser(__doc__, root="holds images_background and images_evaluation")
    options.add_argument("--out", type=Path, default=RESULTS / "search", help="folder of the result")
    options.add_argument("--runs", type=Path, default=Path("runs/search"))
    options.add_argument("--searching", type=int, default=400, help="meta-steps of a search")
    options.add_argument("--training", type=int, default=600, help="meta-steps of every training")
    options.add_argument("--tasks", type=int, default=8, help="train tasks a meta-step")
    given = options.parse_args(argv)
    searches = searched(given)
    architectures = {f"random {seed}": random_blocks(seed) for seed in range(RANDOM)}
    architectures |= {name: tuple(each["blocks"]) for name, each in searches.items()}
    losses = {name: query_losses(blocks, given) for name, blocks in architectures.items()}
    result: dict[str, Any] = {name: getattr(given, name) for name in ("searching", "training", "tasks")}
    one = read_result(next((given.runs / "trained").glob("*/test/result.json")))
    result |= {"limits": LIMITS, "environment": one["environment"], "revision": revision()}
    result |= {"searches": searches, "architectures": architectures}
    result |= {split: estimates(losses, list(searches), split) for split in LIMITS}
    write_page(given.out, page_lines(result))
    write_atomically(given.out / "result.json", page(result))


if __name__ == "__main__":
    main()
