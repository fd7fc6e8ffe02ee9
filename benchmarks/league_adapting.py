"""Time the adaptation of every learner of a league in one sitting: adapting.json in the league's folder.

    python benchmarks/league_adapting.py --root DIR --out results/league --runs runs/league     # on a machine at rest

Rows are made beside other work, so their own seconds cannot be compared. Here learners take turns, one task at a time
on one thread, and the median of each counts. `experiments/league_page.py` shows it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.pages import RESULTS
from experiments.runs import parser, revision
from metagen.distributed.environment import environment
from metagen.learners import adapt_tasks
from metagen.model import Model, load_base
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page, read_json
from metagen.training.episode_data import EpisodeData

SHOTS, TASKS, ROUNDS = 5, 8, 5


def models(out: Path, runs: Path) -> dict[str, Model]:
    """The models of the rows' first seeds, without those whose weights are others by now."""
    known = {}
    for path in sorted((out / "rows").glob("*.json")):
        row, place = read_json(path), runs / path.stem / "seed-0" / "export"
        model, wanted = load_base(place), row["seeds"][0]["shots"][str(SHOTS)]["result"]["model"]["weights_sha256"]
        if model.weights_hash == wanted:
            known[row["name"]] = model
        else:
            print(f"{row['name']}: not timed, since {place} is not the model with weights {wanted[:12]}")
    return known


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
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--out", type=Path, default=RESULTS / "league", help="folder of the league's result")
    options.add_argument("--runs", type=Path, default=Path("runs/league"))
    given = options.parse_args(argv)
    torch.set_num_threads(1)
    supports = EpisodeData("omniglot", given.root, shots=SHOTS).episodes.first("test", TASKS).support
    known = models(given.out, given.runs)
    taken: dict[str, list[float]] = {name: [] for name in known}
    for _ in range(ROUNDS):
        for name, model in known.items():
            taken[name] += seconds(model, supports)
    result = {"revision": revision(), **environment(torch.device("cpu")), "shots": SHOTS, "tasks": TASKS}
    result |= {"rounds": ROUNDS, "median_seconds": {name: statistics.median(each) for name, each in taken.items()}}
    write_atomically(given.out / "adapting.json", page(result))


if __name__ == "__main__":
    main()
