"""The seconds that every learner of a league takes to adapt, in one sitting: docs/league/NAME-adapting.json.

    python scripts/time_league.py --root DIR --rows docs/league/omniglot --runs runs/league     # on a machine at rest

Rows are made beside other work, so their own seconds cannot be compared. Here learners take turns, one task at a time
on one thread, and what counts is each one's median. `make_league.py` shows it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from making import revision

from metagen.distributed.environment import environment
from metagen.learners import adapt_tasks
from metagen.model import Model, load_base
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json
from metagen.training.episode_data import EpisodeData

SHOTS, TASKS, ROUNDS = 5, 8, 5


def model_of(row: dict[str, Any], place: Path) -> Model | None:
    """The model that a row's first seed is of; None, and a word, where another one lies there."""
    model = load_base(place)
    wanted = row["seeds"][0]["shots"][str(SHOTS)]["result"]["model"]["weights_sha256"]
    if model.weights_hash != wanted:
        print(f"{row['name']}: not timed, since {place} is not the model with weights {wanted[:12]}")
        return None
    return model


def seconds(model: Model, supports: torch.Tensor) -> list[float]:
    """Seconds of adapting to each of some supports [T, k, C, H, W], after one that does not count."""
    taken = []
    for number in (0, *range(len(supports))):
        started = time.perf_counter()
        adapt_tasks(model.learner, supports[number : number + 1], (0, "test"), [number])
        taken.append(time.perf_counter() - started)
    return taken[1:]


def main(argv: Sequence[str] | None = None) -> None:
    """Time the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="the folder that holds the images")
    parser.add_argument("--rows", type=Path, default=Path("docs/league/omniglot"))
    parser.add_argument("--runs", type=Path, default=Path("runs/league"))
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    models = {}
    for path in sorted(options.rows.glob("*.json")):
        row = read_json(path)
        model = model_of(row, options.runs / path.stem / "seed-0" / "export")
        if model is not None:
            models[row["name"]] = model
    supports = EpisodeData("omniglot", options.root, shots=SHOTS).episodes.first("test", TASKS).support
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(ROUNDS):
        for name, model in models.items():
            taken[name] += seconds(model, supports)
    result = {"revision": revision(), **environment(torch.device("cpu")), "shots": SHOTS, "tasks": TASKS}
    result |= {"rounds": ROUNDS, "median_seconds": {name: statistics.median(each) for name, each in taken.items()}}
    write_atomically(options.rows.with_name(f"{options.rows.name}-adapting.json"), to_json(result, indent=1).encode())


if __name__ == "__main__":
    main()
