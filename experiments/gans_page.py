"""Write docs/gans.md and its pictures from what scripts/gans.py left in docs/gans, so that no figure in it is typed.

python scripts/make_gans.py [--root DIR]      # DIR holds Omniglot: then also the picture of samples, from runs/gans
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from gans import BEST, FIGR, KINDS, PLAIN, RUNS
from league_beside import wrapped
from make_league import DOCS, entry, in_lines
from matplotlib.figure import Figure

from metagen.evaluation.league import Entry, averaged, league
from metagen.evaluation.trial import MODEL_FREE
from metagen.model import Model, load
from metagen.report.result import Result, row_named
from metagen.report.tables import short
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import number, read_json
from metagen.training.episode_data import EpisodeData

PLACE = DOCS / "gans"
COLUMNS = {
    "fd": "Frechet",
    "energy": "energy",
    "coverage": "coverage %",
    "recall": "recall %",
    "recognisability": "recognised %",
    "diversity_relative": "diversity %",
    "copy_ratio": "copy ratio",
}
SHOWN = (0, 25, 50, 75)  # places of the test characters in the picture
ROWS = {"meta-learned": "adapted", "joint + fine-tune": "joint + fine-tune", "scratch": "scratch"}
HEAD = """# What meta-learning does for GANs

Made by `python scripts/make_gans.py`, and no figure here is typed; the columns are explained in
[evaluation.md](evaluation.md), the options in [learners.md](learners.md). All of it is of small networks and few
processor seconds, so it ranks methods under a small budget and not what they could be.
"""
CONTEST = """## FIGR, and a GAN of ours

`python scripts/gans.py --root DIR`, gathered at {revision}: FIGR (`configs/omniglot-figr.yaml`: WGAN-GP, Reptile, 10
inner SGD steps at 1e-3, outer Adam at 1e-4, 32 px, 4 shots; Clouatre 2019, arXiv:1901.02199) and *redraw-gan*
(`configs/omniglot-redraw-gan.yaml` at the same size and shots), each trained for {seconds:.0f} processor seconds of
one thread, one seed, the best of ten validations kept (by energy distance through an extractor that reports nothing),
then measured on the same {tasks} test characters at {shots} shots, {made} images made and as many real ones, through
`{extractor}` (trained at this size on train characters alone); {hardware}. FIGR publishes no figure and trained for
far longer in its paper, so this compares what a budget buys, not what FIGR could be. redraw-gan is shown the support
itself when it draws: beside it stand the support's copies and what else needs no meta-learning.
"""
STABILITY = """## Mode collapse and stability

The same script. One small R3 that was trained jointly (`configs/omniglot-r3-joint.yaml`) goes on for {seconds:.0f}
processor seconds, from each of {seeds} seeds, with Reptile (`configs/omniglot-r3-reptile.yaml`, *meta-learned*, 50
inner steps) or jointly as before (*joint + fine-tune*, its rate and steps tuned on val characters). *scratch* is the
same network, never trained, its rate and steps tuned likewise. {tasks} test characters at {shots} shots, through
`{extractor}`; figures are of the mean seed, ± half their 95 % interval over characters, differences paired by
character. *Diverged* are tasks whose samples are not finite, *collapsed* those whose diversity is below
{collapsed:.0%} of that of real images.
"""
PRACTICES = """## Few-shot practice

The same script: the first meta-learned R3 of the study above adapts once with each option ({steps} inner steps of Adam,
{tasks} test characters at {shots} shots, through `{extractor}`). Each row is one run of one model, and differences are
paired by character: they show what an option does to an adapted model that was trained without it. *latent alone* moves
the affine map of the latent, at a rate of 0.03.
"""


def read(name: str) -> dict[str, Any]:
    """The file that the script left."""
    part: dict[str, Any] = read_json(PLACE / f"{name}.json")
    return part


def protocol(study: dict[str, Any], result: Result, text: str, **more: object) -> str:
    """The circumstances of a measurement, in words."""
    details = {"extractor": result["extractors"][0]["name"], "hardware": result["environment"]["hardware"]}
    return wrapped(text.format(**{**study, **result, **details, **more}))


def table(entries: Sequence[Entry], by: str) -> list[str]:
    """Entries in order, what needs no model, and paired differences: * where an interval is clear of zero."""
    ranking = league(entries, by)
    columns = {
        figure: COLUMNS[bare] for figure in ranking["models"][0]["figures"] if (bare := _bare(figure)) in COLUMNS
    }
    lines = [f"| | {' | '.join(columns.values())} |", "|---" * (len(columns) + 1) + "|"]
    for row in (*ranking["models"], *ranking["model_free"], *ranking["differences"]):
        each = [row["figures"][figure] for figure in columns]
        cells = [short(figure) + " *" * figure.get("clear", False) for figure in each]
        lines.append(f"| {row['row']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _bare(figure: str) -> str:
    return figure.partition("[")[0]


def contest(study: dict[str, Any]) -> list[str]:
    """FIGR and ours."""
    rows = study["rows"]
    first = rows[FIGR]["result"]
    entries = [entry(name, kept, "adapted") for name, kept in rows.items()]
    lines = ["| | meta-steps | ms a meta-step | s by the clock | best at | s to adapt to all tasks, sample and look |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, kept in rows.items():
        of = kept["training"]
        took = row_named(kept["result"]["rows"], "adapted")["seconds"]
        cells = (of["meta_steps"], f"{1000 * of['step_seconds']:.0f}", f"{of['seconds']:.0f}", of["best_step"])
        lines.append(f"| {' | '.join(map(str, (name, *cells, f'{took:.1f}')))} |")
    baselines = [
        entry(row, rows[BEST], row) for row in ("unadapted", "scratch", "joint + fine-tune") if has(rows[BEST], row)
    ]
    words = protocol(study, first, CONTEST)
    own = [f"### {BEST} beside what needs less\n", *table([entries[list(rows).index(BEST)], *baselines], "fd")]
    return [words, *table(entries, "fd"), *own, "### Cost\n", *lines, "", "![Samples](gans-samples.png)\n"]


def has(kept: dict[str, Any], row: str) -> bool:
    """Whether a scorecard has that row."""
    return row_named(kept["result"]["rows"], row) is not None


def mean_seed(name: str, row_name: str, seeds: Sequence[dict[str, Any]]) -> Entry:
    """A row's mean over seeds, which are of the noise, too: rows without a model and the seed given are the first's."""
    each = [entry(name, kept, row_name) for kept in seeds]
    first = each[0].result
    shared = [row for free in MODEL_FREE if (row := row_named(first["rows"], free))]
    results = [{**e.result, "seed": first["seed"], "rows": [e.adapted, *shared]} for e in each]
    return averaged(name, [Entry(name, result, e.values) for result, e in zip(results, each, strict=True)])


def stability(study: dict[str, Any]) -> list[str]:
    """Meta-learned, joint and scratch."""
    seeds = list(study["seeds"].values())
    lines = ["| | diverged | collapsed | fd of each seed | coverage % of each seed |", "|---|---|---|---|---|"]
    for name, row in ROWS.items():
        rows = [row_named(kept["result"]["rows"], row) for kept in seeds]
        fd, coverage = (
            ", ".join(
                f"{next(number(v['mean']) for k, v in each['figures'].items() if k.startswith(f'{figure}[')):.1f}"
                for each in rows
            )
            for figure in ("fd", "coverage")
        )
        counts = [", ".join(str(each[key]) for each in rows) for key in ("diverged", "collapsed")]
        lines.append(f"| {name} | {counts[0]} | {counts[1]} | {fd} | {coverage} |")
    steps = {kind: "/".join(str(kept["training"][kind]["meta_steps"]) for kept in seeds) for kind in KINDS}
    tuned = "/".join(str(kept["result"]["fine_tuned"]["joint + fine-tune"]["steps"]) for kept in seeds)
    took = wrapped(
        f"Meta-steps of each seed: {steps['meta']} with Reptile, {steps['joint']} jointly. The inner steps of *joint + "
        f"fine-tune*, tuned by energy distance, are {tuned}, and those of *meta-learned* 50: what differs between "
        "the two rows may come of either."
    )
    words = protocol(study, seeds[0]["result"], STABILITY, seconds=study["seconds"] * study["share"], seeds=len(seeds))
    entries = [mean_seed(name, row, seeds) for name, row in ROWS.items()]
    picture = "![Losses, penalties and logits on val characters in training](gans.png)\n"
    return [words, *table(entries, "coverage"), *lines, "", took, "", picture]


def practice(study: dict[str, Any]) -> list[str]:
    """One option after the other."""
    entries = [entry(name, kept, "adapted") for name, kept in study["rows"].items()]
    result = study["rows"][PLAIN]["result"]
    words = protocol(study, result, PRACTICES, steps=entries[0].adapted["steps"])
    return [words, *table(entries, "energy")]


def curves(study: dict[str, Any]) -> Figure:
    """Logits, losses and the penalty on val tasks over a training, of each seed."""
    panels = {
        "logit of real less of made": lambda row: row["val/logit/real"] - row["val/logit/made"],
        "the critic's loss": lambda row: row["val/loss/discriminator"],
        "the generator's loss": lambda row: row["val/loss/generator"],
        "penalty": lambda row: row["val/penalty"],
    }
    figure = Figure(figsize=(12, 3.2), layout="constrained")
    for axes, (name, value) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        axes.set(title=name, xlabel="share of the budget")
        for kind, colour in zip(KINDS, ("C0", "C1"), strict=True):
            for seed, kept in enumerate(study["seeds"].values()):
                values = [value(row) for row in kept["told"][kind]]
                shares = [(n + 1) / len(values) for n in range(len(values))]
                axes.plot(shares, values, color=colour, linewidth=1, label=None if seed else kind)
    axes.legend()
    return figure


def samples(study: dict[str, Any], root: str) -> Figure:
    """The support of a few test characters, and under it what each makes of it."""
    first = study["rows"][FIGR]["result"]
    data = EpisodeData("omniglot", root, size=first["data"]["size"], shots=first["shots"], queries=4)
    episode = data.episodes.of("test", [place for place in SHOWN if place < len(data.task_set.split.test)])
    lines = {"support": episode.support, "real, not shown": episode.query[:, :4]}
    for name in study["rows"]:
        model = load(RUNS / name / "export")
        if isinstance(model, Model):
            lines[name] = model.adapt_many(episode.support).sample(4)
    return in_lines(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """The page, and the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", help="the folder that holds Omniglot")
    options = parser.parse_args(argv)
    played, study = read("contest"), read("stability")
    page = "\n".join([HEAD, *contest(played), *stability(study), *practice(read("practice"))])
    write_atomically(DOCS / "gans.md", page.encode())
    curves(study).savefig(DOCS / "gans.png", dpi=110)
    if options.root:
        samples(played, options.root).savefig(DOCS / "gans-samples.png", dpi=110)


if __name__ == "__main__":
    main()
