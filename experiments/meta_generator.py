"""The effect of a zoo of models, and of steps that follow, on a network that writes weights: docs/meta-generator.md.

    python scripts/meta_generator.py --root DIR      # DIR holds Omniglot; some fifteen minutes on one core

It begins from the jointly trained VAE of configs/omniglot-vae-joint.yaml, in runs/omniglot-vae-joint/export. What was
made by the same words is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from league_beside import wrapped
from make_league import DOCS
from make_results import figure
from making import made, revision

from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.learners import MetaGenerator
from metagen.metrics.intervals import over_tasks_interval
from metagen.model import load_base
from metagen.report.result import Result, read_result, row_named
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import to_json
from metagen.training.episode_data import EpisodeData

RUNS = Path("runs/meta-generator")
BASE = "runs/omniglot-vae-joint/export"
ZOO = RUNS / "zoo"
CONFIG = "configs/omniglot-vae-meta-generator.yaml"
TAUGHT = {"no zoo": None, "zoo, regress 1": 1, "zoo, regress 10": 10}
BEGUN, REFINED = "zoo, regress 1", "then refined by MAML"
STEPS = 3  # inner ones
RATES = (1e-4, 3e-4, 1e-3)  # of the inner steps
ALL_VAL = 158  # characters: few of them might not show that a rate is too high for some
SHOTS, QUERIES = 5, 14
FIGURES = {
    "query_loss": "query loss",
    "fd[omniglot-report]": "Frechet",
    "recognisability[omniglot-report]": "recognised %",
}
METRICS = [*(name for name in FIGURES if name != "query_loss"), "cost"]  # that one is always measured
ROWS = {"unadapted": "the base", "another task's weights": "written from another task's support"}
HEAD = """# A network that writes weights, and a zoo

Made by `python scripts/meta_generator.py --root DIR` at {revision}, DIR holding Omniglot; no figure here is typed.
Hardware: {hardware}; seed 0, one training each.

The base is the jointly trained VAE (`configs/omniglot-vae-joint.yaml`, weights {base}), and stays as it is. A zoo holds
{zoo} models of train characters (`metagen zoo`: low-rank deltas of the decoder). `{config}` was
trained for {episodes} meta-steps of {shots} shots without it, and with it, where what is written is also to be near the
zoo's deltas, `regress` times a relative squared error; then one of them went on for {more} meta-steps with {steps}
inner steps after what is written, refined by MAML, at the rate of {rates} that was best on all val characters: {rate}.

Measured on {tasks} test characters, {shots} shots, through `omniglot-report`; 95 % intervals over characters. Query
loss: nats per image. Differences are paired by character: adapted less the base, less what is written from another
character's support, and less what is written where the sketches of the weights (or these and all that tells layers
apart) are put to 0: below 0, they are used.
"""


def refined(args: argparse.Namespace) -> Path:
    """The export of the refined learner whose inner rate was the best on val characters."""
    every = [trained(f"{REFINED} {rate}", args, rate) for rate in RATES]
    return min(every, key=lambda export: read_config(export)["info"]["training"]["best_val"])


def trained(name: str, args: argparse.Namespace, rate: float | None = None) -> Path:
    """The export of one of the learners, refined at an inner rate where one is given."""
    run = RUNS / name.replace(" ", "-").replace(",", "")
    words: list[object] = ["fit", "--config", CONFIG, "--data.root", args.root, "--run_dir", run]
    words += ["--overwrite", "true", "--trainer.enable_progress_bar", "false"]
    words += ["--trainer.val_check_interval", min(100, args.episodes if rate is None else args.more)]
    if rate is not None:
        words += ["--model.initial", trained(BEGUN, args), "--data.episodes", args.more, "--data.val_tasks", ALL_VAL]
        words += ["--model.learner.steps", STEPS, "--model.learner.rate", rate]
    else:
        regress = TAUGHT[name]
        words += ["--model.initial", BASE, "--data.episodes", args.episodes]
        words += [] if regress is None else ["--model.zoo", zoo(args), "--model.regress", regress]
    return made(run / "export", words, read_config(Path(BASE))["weights_sha256"])


def zoo(args: argparse.Namespace) -> Path:
    """The zoo, of the base."""
    words: list[object] = ["zoo", "--model", BASE, "--data.root", args.root, "--tasks", args.zoo_tasks, "--rank", 4]
    words += ["--layers", "[decoder.*]", "--out", ZOO, "--overwrite"]
    return made(ZOO, words, read_config(Path(BASE))["weights_sha256"])


def evaluated(export: Path, args: argparse.Namespace) -> Result:
    """The result of a learner on test characters."""
    out = export.parent / "evaluation"
    words = ["evaluate", "--model", export, "--data.root", args.root, "--data.shots", SHOTS]
    words += ["--data.queries", QUERIES, "--limit", args.tasks, "--metrics", to_json(METRICS)]
    words += ["--curve", "[]", "--baselines", "false"]
    place = made(out / "result.json", [*words, "--out", out, "--overwrite"], read_config(export)["weights_sha256"])
    return read_result(place)


def query_losses(
    export: Path, args: argparse.Namespace, change: Callable[[MetaGenerator], None] | None = None
) -> torch.Tensor:
    """Of a learner, or of one that was changed first, on each test character: nats per image."""
    learner = load_base(export).learner
    assert isinstance(learner, MetaGenerator)  # noqa: S101
    if change is not None:
        change(learner)
    data = EpisodeData("omniglot", args.root, shots=SHOTS, queries=QUERIES)
    learner.requires_grad_(False).eval()
    options = EvaluationOptions(limit=args.tasks, curve=(), baselines=False)
    return measure(learner, data.episodes, options).values["adapted/query_loss"]


def no_sketches(learner: MetaGenerator) -> None:
    """Put to 0 what is read of the weights."""
    learner.writer.reads.weight.data.zero_()


def no_layers(learner: MetaGenerator) -> None:
    """Put to 0 all that tells one layer's token from another's."""
    no_sketches(learner)
    for vector in learner.writer.layers.parameters():
        vector.data.zero_()


def row(name: str, export: Path, args: argparse.Namespace) -> str:
    """A learner's line."""
    result = evaluated(export, args)
    adapted = row_named(result["rows"], "adapted")
    against = {each["row"].removeprefix("adapted - "): each["figures"] for each in result["differences"]}
    cells = [figure(adapted["figures"][name], 2) for name in FIGURES]
    cells += [figure(against[other]["query_loss"], 2) for other in ROWS]
    own = query_losses(export, args)
    cells += [str(over_tasks_interval(own - query_losses(export, args, c))) for c in (no_sketches, no_layers)]
    cost = result["studies"]["cost"]
    cells.append(f"{1000 * cost['seconds']['median']:.0f} ms, {cost['adapted_bytes'] / 1000:.0f} kB")
    return f"| {name} | {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> None:
    """The page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder that holds Omniglot")
    parser.add_argument("--episodes", type=int, default=1200, help="meta-steps of a training")
    parser.add_argument("--more", type=int, default=300, help="meta-steps of a refinement")
    parser.add_argument("--zoo_tasks", type=int, default=300, help="models of the zoo")
    parser.add_argument("--tasks", type=int, default=100, help="test characters")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = [row(name, trained(name, args), args) for name in TAUGHT]
    best = refined(args)
    rows.append(row(REFINED, best, args))
    first = evaluated(trained(BEGUN, args), args)
    base = row_named(first["rows"], "unadapted")
    details = {"revision": revision(), "hardware": first["environment"]["hardware"], "zoo": args.zoo_tasks}
    details |= {"base": read_config(Path(BASE))["weights_sha256"][:12], "config": CONFIG, "episodes": args.episodes}
    details |= {
        "more": args.more,
        "steps": STEPS,
        "rates": ", ".join(f"{rate:g}" for rate in RATES),
        "tasks": args.tasks,
        "shots": SHOTS,
    }
    details["rate"] = f"{read_config(best)['learner']['rate']:g}"
    less = [f"less {meaning}" for meaning in (*ROWS.values(), "without sketches of the weights", "without layers")]
    lines = [wrapped(HEAD.format(**details)), f"| | {' | '.join((*FIGURES.values(), *less, 'adapting'))} |"]
    lines += ["|---" * (len(FIGURES) + len(less) + 2) + "|"]
    lines += [f"| the base | {' | '.join(figure(base['figures'][name], 2) for name in FIGURES)} |" + " |" * 5, *rows]
    write_atomically(DOCS / "meta-generator.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
