"""Write results/gans/README.md and its pictures from the files of experiments/gans.py.

python experiments/gans_page.py [--root DIR]      # DIR holds Omniglot; with it also a picture of samples from runs/gans
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.gans import BEST, FIGR, KINDS, PLAIN, RUNS
from experiments.pages import RESULTS, SAMPLES, entry, paragraphs, row_of, sample_rows, titles, write_page
from experiments.runs import parser
from metagen.evaluation.league import Entry, averaged, league
from metagen.evaluation.trial import MODEL_FREE
from metagen.report.headings import HEADINGS
from metagen.report.result import Result, row_named
from metagen.report.tables import by_column, difference_cell, markdown_table
from metagen.storage.strict_json import number, read_json
from metagen.training.episode_data import EpisodeData

COLUMNS = ("fd", "energy", "coverage", "recall", "recognisability", "diversity_relative", "copy_ratio")
SHOWN = (0, 25, 50, 75)  # places of the test characters in the picture
ROWS = {"meta-learned": "adapted", "joint + fine-tune": "joint + fine-tune", "scratch": "scratch"}
HEAD = """# What meta-learning does for GANs

Made by `python experiments/gans_page.py` from the JSON files beside it; the columns are explained in
[evaluation.md](../../docs/evaluation.md), the options in [learners.md](../../docs/learners.md). All of it is of small
networks and few processor seconds, so it ranks methods under a small budget and not what they could be.
"""
CONTEST = """## FIGR, and a GAN of ours

`python experiments/gans.py --root DIR`, gathered at {revision}: FIGR (`configs/omniglot/figr.yaml`: WGAN-GP, Reptile,
10 inner SGD steps at 1e-3, outer Adam at 1e-4, 32 px, 4 shots; Clouatre 2019, arXiv:1901.02199) and *redraw-gan*
(`configs/omniglot/redraw-gan.yaml` at the same size and shots), each trained for {seconds:.0f} processor seconds of one
thread, one seed, the best of ten validations kept (by energy distance through an extractor that reports nothing), then
measured on the same {tasks} test characters at {shots} shots, {made} images made and as many real ones, through
`{extractor}` (trained at this size on train characters alone); {hardware}. FIGR publishes no figure and trained for far
longer in its paper, so this compares what a budget buys, not what FIGR could be. redraw-gan is shown the support itself
when it draws: beside it stand the support's copies and what else needs no meta-learning.
"""
STABILITY = """## Mode collapse and stability

The same script. One small R3 that was trained jointly (`configs/omniglot/r3-joint.yaml`) goes on for {seconds:.0f}
processor seconds, from each of {seeds} seeds, with Reptile (`configs/omniglot/r3-reptile.yaml`, *meta-learned*, 50
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


def protocol(study: dict[str, Any], result: Result, text: str, **more: object) -> str:
    """The circumstances of a measurement, in words."""
    details = {"extractor": result["extractors"][0]["name"], "hardware": result["environment"]["hardware"]}
    return paragraphs(text.format(**{**study, **result, **details, **more}))


def table(entries: Sequence[Entry], by: str) -> list[str]:
    """Entries in order, what needs no model, and paired differences: * where an interval is clear of zero."""
    ranking = league(entries, by)
    rows = [*ranking["models"], *ranking["model_free"], *ranking["differences"]]
    named = [(row["row"], by_column(row["figures"])) for row in rows]
    columns = [column for column in COLUMNS if column in named[0][1]]
    cells = ([name, *(difference_cell(figures[column]) for column in columns)] for name, figures in named)
    return [*markdown_table(["", *titles(columns)], cells), ""]


def contest(study: dict[str, Any]) -> list[str]:
    """FIGR and ours."""
    rows = study["rows"]
    entries = [entry(name, kept) for name, kept in rows.items()]
    lines = []
    for name, kept in rows.items():
        of, adapted = kept["training"], row_of(kept["result"], "adapted")
        cells = (of["meta_steps"], f"{1000 * of['step_seconds']:.0f}", f"{of['seconds']:.0f}", of["best_step"])
        lines.append([name, *cells, f"{adapted['seconds']:.1f}"])
    baselines = ("unadapted", "scratch", "joint + fine-tune")
    measured = [row for row in baselines if row_named(rows[BEST]["result"]["rows"], row)]
    own = table([entries[list(rows).index(BEST)], *(entry(row, rows[BEST], row) for row in measured)], "fd")
    heads = ["meta-steps", "ms a meta-step", "s by the clock", "best at", "s to adapt to all tasks, sample and look"]
    return [
        *(protocol(study, rows[FIGR]["result"], CONTEST), *table(entries, "fd")),
        *(f"### {BEST} beside what needs less\n", *own, "### Cost\n", *markdown_table(["", *heads], lines)),
        f"\n![Samples]({SAMPLES})\n",
    ]


def mean_seed(name: str, row_name: str, seeds: Sequence[dict[str, Any]]) -> Entry:
    """A row's mean over seeds, which are of the noise, too: rows without a model and the seed given are the first's."""
    each = [entry(name, kept, row_name) for kept in seeds]
    first = each[0].result
    shared = [row for free in MODEL_FREE if (row := row_named(first["rows"], free))]
    results: list[Result] = [{**e.result, "seed": first["seed"], "rows": [e.adapted, *shared]} for e in each]
    return averaged(name, [Entry(name, result, e.values) for result, e in zip(results, each, strict=True)])


def stability(study: dict[str, Any]) -> list[str]:
    """Meta-learned, joint and scratch."""
    seeds, lines, spread = list(study["seeds"].values()), [], ("fd", "coverage")
    for name, row in ROWS.items():
        rows = [row_of(kept["result"], row) for kept in seeds]
        counts = [", ".join(str(each[key]) for each in rows) for key in ("diverged", "collapsed")]
        figures = [by_column(each["figures"]) for each in rows]
        means = [", ".join(f"{number(each[column]['mean']):.1f}" for each in figures) for column in spread]
        lines.append([name, *counts, *means])
    steps = {kind: "/".join(str(kept["training"][kind]["meta_steps"]) for kept in seeds) for kind in KINDS}
    tuned = "/".join(str(kept["result"]["fine_tuned"]["joint + fine-tune"]["steps"]) for kept in seeds)
    took = paragraphs(
        f"Meta-steps of each seed: {steps['meta']} with Reptile, {steps['joint']} jointly. The inner steps of *joint + "
        f"fine-tune*, tuned by energy distance, are {tuned}, and those of *meta-learned* 50: what differs between "
        "the two rows may come of either."
    )
    words = protocol(study, seeds[0]["result"], STABILITY, seconds=study["seconds"] * study["share"], seeds=len(seeds))
    entries = [mean_seed(name, row, seeds) for name, row in ROWS.items()]
    heads = ["", "diverged", "collapsed", *(f"{HEADINGS[column].title} of each seed" for column in spread)]
    picture = "![Losses, penalties and logits on val characters in training](training.png)\n"
    return [words, *table(entries, "coverage"), *markdown_table(heads, lines), "", took, picture]


def practice(study: dict[str, Any]) -> list[str]:
    """One option after the other."""
    entries = [entry(name, kept) for name, kept in study["rows"].items()]
    result = study["rows"][PLAIN]["result"]
    words = protocol(study, result, PRACTICES, steps=entries[0].adapted["steps"])
    return [words, *table(entries, "energy")]


def curves(study: dict[str, Any]) -> Figure:
    """Logits, losses and the penalty on val tasks over a training, of each seed."""
    panels: dict[str, Callable[[dict[str, float]], float]] = {
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


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page and the pictures."""
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=RESULTS / "gans", help="folder of the result")
    options.add_argument("--root", help="the folder that holds Omniglot")
    given = options.parse_args(argv)
    parts = {name: read_json(given.out / f"{name}.json") for name in ("contest", "stability", "practice")}
    pictures = {"training.png": curves(parts["stability"])}
    if given.root:
        first = parts["contest"]["rows"][FIGR]["result"]
        data = EpisodeData("omniglot", given.root, size=first["data"]["size"], shots=first["shots"], queries=4)
        exports = {name: RUNS / name / "export" for name in parts["contest"]["rows"]}
        pictures[SAMPLES] = sample_rows(data.episodes, SHOWN, exports, samples=4, real=True)
    lines = [HEAD, *contest(parts["contest"]), *stability(parts["stability"]), *practice(parts["practice"])]
    write_page(given.out, lines, pictures)


if __name__ == "__main__":
    main()
