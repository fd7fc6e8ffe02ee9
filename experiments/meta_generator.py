"""The effect of a zoo of models, and of further steps, on a network that writes weights: results/meta-generator.

    python experiments/meta_generator.py --root DIR      # DIR holds Omniglot; some fifteen minutes on one core

It begins from the jointly trained VAE of configs/omniglot/vae-joint.yaml, in runs/omniglot-vae-joint/export. Runs of
the same options are reused.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from experiments.pages import RESULTS, paragraphs, titles, write_page
from experiments.runs import evaluated, fitted, made, parser, revision, weights
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.learners import MetaGenerator
from metagen.metrics.intervals import over_tasks_interval
from metagen.model import load_base
from metagen.report.headings import HEADINGS
from metagen.report.result import Difference, Result, read_result, row_named
from metagen.report.tables import by_column, markdown_table, with_ends
from metagen.storage.artifacts import read_config
from metagen.storage.strict_json import to_json
from metagen.training.episode_data import EpisodeData

RUNS = Path("runs/meta-generator")
BASE = Path("runs/omniglot-vae-joint/export")
ZOO = RUNS / "zoo"
CONFIG = "configs/omniglot/vae-meta-generator.yaml"
TAUGHT = {"no zoo": None, "zoo, regress 1": 1, "zoo, regress 10": 10}
BEGUN, REFINED = "zoo, regress 1", "then refined by MAML"
STEPS = 3  # inner ones
RATES = (1e-4, 3e-4, 1e-3)  # of the inner steps
ALL_VAL = 158  # characters: few of them might not show that a rate is too high for some
SHOTS, QUERIES = 5, 14
COLUMNS = ("query_loss", "fd", "recognisability")
METRICS = [*COLUMNS[1:], "cost"]  # the query loss is always measured
ROWS = {"unadapted": "the base", "another task's weights": "written from another task's support"}
HEAD = """# A network that writes weights, and a zoo

Made by `python experiments/meta_generator.py --root DIR` at {revision}, DIR holding Omniglot. Hardware: {hardware};
seed 0, one training each.

The base is the jointly trained VAE (`configs/omniglot/vae-joint.yaml`, weights {base}), and stays as it is. A zoo holds
{zoo} models of train characters (`metagen zoo`: low-rank deltas of the decoder). `{config}` was trained for {episodes}
meta-steps of {shots} shots without it, and with it, where what is written is also to be near the zoo's deltas,
`regress` times a relative squared error; then one of them went on for {more} meta-steps with {steps} inner steps after
what is written, refined by MAML, at the rate of {rates} that was best on all val characters: {rate}.

Measured on {tasks} test characters, {shots} shots, through `omniglot-report`; 95 % intervals over characters. Query
loss: nats per image. Differences are paired by character: adapted less the base, less what is written from another
character's support, and less what is written where the sketches of the weights (or these and all that tells layers
apart) are put to 0: below 0, they are used.
"""


def refined(args: argparse.Namespace) -> Path:
    """The export of the refined learner whose inner rate was the best on val characters."""
    every = [trained(f"{REFINED} {rate}", args, rate) for rate in RATES]
    return min(every, key=lambda export: float(read_config(export)["info"]["training"]["best_val"]))


def trained(name: str, args: argparse.Namespace, rate: float | None = None) -> Path:
    """The export of one of the learners, refined at an inner rate where one is given."""
    episodes = args.episodes if rate is None else args.more
    words = ["--config", CONFIG, "--data.root", args.root, "--data.episodes", episodes]
    words += ["--trainer.val_check_interval", min(100, episodes)]
    if rate is not None:
        words += ["--model.initial", trained(BEGUN, args), "--data.val_tasks", ALL_VAL]
        words += ["--model.learner.steps", STEPS, "--model.learner.rate", rate]
    else:
        regress = TAUGHT[name]
        words += ["--model.initial", BASE]
        words += [] if regress is None else ["--model.zoo", zoo(args), "--model.regress", regress]
    return fitted(RUNS / name.replace(" ", "-").replace(",", ""), *words, of=weights(BASE))


def zoo(args: argparse.Namespace) -> Path:
    """The zoo, of the base."""
    words = ("--tasks", args.zoo_tasks, "--rank", 4, "--layers", "[decoder.*]", "--out", ZOO, "--overwrite")
    return made(ZOO, ["zoo", "--model", BASE, "--data.root", args.root, *words], weights(BASE))


def result_of(export: Path, args: argparse.Namespace) -> Result:
    """The result of a learner on test characters."""
    words = ["--data.root", args.root, "--data.shots", SHOTS, "--data.queries", QUERIES, "--limit", args.tasks]
    words += ["--metrics", to_json(METRICS), "--curve", "[]", "--baselines", "false"]
    return read_result(evaluated(export, export.parent / "evaluation", *words))


def query_losses(
    export: Path, args: argparse.Namespace, change: Callable[[MetaGenerator], None] | None = None
) -> torch.Tensor:
    """The query loss of a learner, changed first where a change is given, on each test character: nats per image."""
    learner = load_base(export).learner
    assert isinstance(learner, MetaGenerator)  # noqa: S101
    if change is not None:
        change(learner)
    data = EpisodeData("omniglot", args.root, shots=SHOTS, queries=QUERIES)
    learner.requires_grad_(False).eval()
    options = EvaluationOptions(limit=args.tasks, curve=(), baselines=False)
    return measure(learner, data.episodes, options).values["adapted/query_loss"]


def no_sketches(learner: MetaGenerator) -> None:
    """Set to 0 what is read of the weights."""
    learner.writer.reads.weight.data.zero_()


def no_layers(learner: MetaGenerator) -> None:
    """Set to 0 all that tells one layer's token from another's."""
    no_sketches(learner)
    for vector in learner.writer.layers.parameters():
        vector.data.zero_()


def cells(row: Difference | None) -> list[str]:
    """The figures of a row."""
    figures = by_column(row["figures"] if row else {})
    return [with_ends(figures.get(column), HEADINGS[column].digits) for column in COLUMNS]


def row(name: str, export: Path, args: argparse.Namespace) -> list[str]:
    """A learner's line."""
    result = result_of(export, args)
    less = (row_named(result["differences"], f"adapted - {other}") for other in ROWS)
    line = [name, *cells(row_named(result["rows"], "adapted")), *(cells(each)[0] for each in less)]
    own = query_losses(export, args)
    line += [str(over_tasks_interval(own - query_losses(export, args, c))) for c in (no_sketches, no_layers)]
    cost = result["studies"]["cost"]
    return [*line, f"{1000 * cost['seconds']['median']:.0f} ms, {cost['adapted_bytes'] / 1000:.0f} kB"]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure and write the page."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--out", type=Path, default=RESULTS / "meta-generator", help="folder of the result")
    options.add_argument("--episodes", type=int, default=1200, help="meta-steps of a training")
    options.add_argument("--more", type=int, default=300, help="meta-steps of a refinement")
    options.add_argument("--zoo_tasks", type=int, default=300, help="models of the zoo")
    options.add_argument("--tasks", type=int, default=100, help="test characters")
    args = options.parse_args(argv)
    torch.set_num_threads(1)
    best = refined(args)
    exports = {name: trained(name, args) for name in TAUGHT} | {REFINED: best}
    first = result_of(exports[BEGUN], args)
    details = {
        "revision": revision(),
        "hardware": first["environment"]["hardware"],
        "zoo": args.zoo_tasks,
        "base": weights(BASE)[:12],
        "config": CONFIG,
        "episodes": args.episodes,
        "more": args.more,
        "steps": STEPS,
        "rates": ", ".join(f"{rate:g}" for rate in RATES),
        "tasks": args.tasks,
        "shots": SHOTS,
        "rate": f"{read_config(best)['learner']['rate']:g}",
    }
    less = [f"less {meaning}" for meaning in (*ROWS.values(), "without sketches of the weights", "without layers")]
    headings = ["", *titles(COLUMNS), *less, "adapting"]
    base = ["the base", *cells(row_named(first["rows"], "unadapted")), *[""] * (len(less) + 1)]
    table = markdown_table(headings, [base, *(row(name, export, args) for name, export in exports.items())])
    write_page(args.out, [paragraphs(HEAD.format(**details)), *table])


if __name__ == "__main__":
    main()
