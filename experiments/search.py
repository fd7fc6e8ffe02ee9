"""Whether an architecture that was found beats random ones of the same space, all trained alike; on Omniglot.

    python scripts/search.py --root DIR [--out runs/search] [--searching 400] [--training 600]

Searches by MAML, by FOMAML, and by MAML with sampled choices; what each found, and three random
architectures, trained from the same seed for the same number of meta-steps and evaluated on held-out characters at 5
shots: nats per image, and the differences paired by character from the mean of the random ones. What is there is not
made again.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from making import made, revision
from safetensors.torch import load_file

from metagen.generators import SearchVAE
from metagen.generators.networks import OPERATIONS
from metagen.learners.model_files import load_model
from metagen.metrics.intervals import over_tasks_interval
from metagen.report.result import read_result
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import to_json

SEARCHES: dict[str, list[object]] = {
    "relaxed, second order": [],
    "relaxed, first order": ["--model.learner", "FOMAML"],
    "sampled, second order": ["--model.generator.choice", "sampled"],
}
RANDOM = 3
PLACES = 4
LIMITS = {"val": 100, "test": 200}  # characters


def fit(config: str, run: Path, options: argparse.Namespace, episodes: int, *more: object) -> Path:
    """Meta-train, unless that was done: the folder of the export."""
    data = ("--data.root", options.root, "--data.tasks", options.tasks, "--data.episodes", episodes)
    trainer = ("--trainer.val_check_interval", episodes, "--trainer.enable_progress_bar", "false")
    where = ("--run_dir", run, "--overwrite", "true")
    return made(run / "export", ["fit", "--config", f"configs/{config}.yaml", *data, *trainer, *where, *more])


def searched(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """The architecture of each search, by its name: the operations, and the share of each in the trained mixtures."""
    searches = {}
    for name, more in SEARCHES.items():
        run = options.out / name.replace(", ", "-").replace(" ", "-")
        generator = load_model(fit("omniglot-search", run, options, options.searching, *more))[0].generator
        if not isinstance(generator, SearchVAE):
            raise SystemExit(f"{run}: holds no search")
        shares = [(mixed.architecture / mixed.temperature).softmax(0).tolist() for mixed in generator.mixtures.values()]
        searches[name] = {"blocks": generator.searched["blocks"], "shares": shares}
    return searches


def drawn(seed: int) -> tuple[str, ...]:
    """A random architecture."""
    return tuple(random.Random(seed).choices(list(OPERATIONS), k=PLACES))  # noqa: S311


def query_losses(blocks: tuple[str, ...], options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Train one architecture; its query loss on each held-out character, by split."""
    run = options.out / "trained" / "-".join(blocks)
    export = fit(
        *("omniglot-vae-maml", run, options, options.training),
        *("--model.generator.depth", 0, "--model.generator.blocks", to_json(blocks)),
    )
    weights, losses = read_config(export)["weights_sha256"], {}
    for split, limit in LIMITS.items():
        out = run / split
        words = [
            *("evaluate", "--model", export, "--data.root", options.root, "--split", split, "--out", out),
            *("--extractor", "none", "--baselines", "false", "--curve", "[]", "--limit", limit),
            *("--data.shots", 5, "--data.queries", 14, "--overwrite", "true"),
        ]
        made(out / "result.json", words, weights)
        losses[split] = load_file(out / "values.safetensors")["adapted/query_loss"]
    return losses


def main(argv: Sequence[str] | None = None) -> None:
    """Search, train, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="holds images_background and images_evaluation")
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--searching", type=int, default=400, help="meta-steps of a search")
    parser.add_argument("--training", type=int, default=600, help="meta-steps of every training")
    parser.add_argument("--tasks", type=int, default=8, help="train tasks a meta-step")
    options = parser.parse_args(argv)
    searches = searched(options)
    architectures = {f"random {seed}": drawn(seed) for seed in range(RANDOM)}
    architectures |= {name: tuple(each["blocks"]) for name, each in searches.items()}
    losses = {name: query_losses(blocks, options) for name, blocks in architectures.items()}
    settings = {name: getattr(options, name) for name in ("searching", "training", "tasks")}
    one = next((options.out / "trained").glob("*/test/result.json"))
    environment = read_result(one)["environment"]
    result: dict[str, Any] = {**settings, "limits": LIMITS, "environment": environment, "revision": revision()}
    result |= {"searches": searches, "architectures": architectures}
    for split in LIMITS:
        mean = torch.stack([losses[f"random {seed}"][split] for seed in range(RANDOM)]).mean(0)
        of = {name: each[split] for name, each in losses.items()}
        result[split] = {
            "query_loss": {name: asdict(over_tasks_interval(loss)) for name, loss in of.items()},
            "minus_random": {name: asdict(over_tasks_interval(of[name] - mean)) for name in searches},
        }
    write_atomically(options.out / "result.json", (to_json(result, indent=1) + "\n").encode())
    print(to_json(result, indent=1))


if __name__ == "__main__":
    main()
