"""Write README.md of a league from the files of its rows; with --runs also a picture of samples.

python experiments/league_page.py [--out results/league] [--runs runs/league --root DIR]
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.league import PILOT, PILOT_TASKS, SUPPORT, plain
from experiments.league_plans import kind_of, plans
from experiments.pages import JITTER, RESULTS, SAMPLES, entry, paragraphs, sample_rows, write_page
from experiments.runs import config_of, parser
from metagen.evaluation.league import Entry, averaged, league, markdown
from metagen.report.headings import HEADINGS
from metagen.report.next_steps import counted
from metagen.report.result import Result
from metagen.report.tables import by_column, markdown_table, short
from metagen.storage.strict_json import number, read_json
from metagen.training.episode_data import EpisodeData

MAIN = RESULTS / "league"
OTHER = "another task's "
LOSS = "query_loss"  # the criterion of rows that name none
FIGURES = ("fd", "energy", "is", "recognisability", LOSS)
UNTIMED = "its seconds up to five times those at rest, so that they rank nothing"
TIMED = "one task after the other in one sitting (`python benchmarks/league_adapting.py --root DIR`), the median"
OLD = {"generator": "vae", "base": "omniglot-vae-joint", "asked": ""}  # of rows that do not say


def shots_of(row: dict[str, Any]) -> list[str]:
    """The numbers of shots that a row was measured at."""
    return list(row["seeds"][0]["shots"])


def one_of(row: dict[str, Any]) -> Result:
    """A result of a row: that of its first seed, at the most shots."""
    result: Result = row["seeds"][0]["shots"][shots_of(row)[-1]]["result"]
    return result


def searching(row: dict[str, Any]) -> tuple[int, int]:
    """Meta-steps of a cell of the search, and the val tasks that scored it."""
    return row["search"].get("steps", PILOT), row["search"].get("val_tasks", PILOT_TASKS)


ALIKE: dict[str, Callable[[dict[str, Any]], object]] = {
    "shared generator": lambda row: row["base_sha256"],
    "seconds": lambda row: row["seconds"],
    "tasks a meta-step": lambda row: row["seeds"][0]["training"]["tasks_per_step"],
    "search": searching,
    "seeds": lambda row: [seed["seed"] for seed in row["seeds"]],
    "shots": shots_of,
    "hardware": lambda row: one_of(row)["environment"]["hardware"],
    "split": lambda row: one_of(row)["split_sha256"],
    "extractor": lambda row: one_of(row)["extractors"],
}
SHOWN = (0, 40, 80)  # places of the test characters in the picture
PREAMBLE = """# The league, from one {kind}

A ranking of learners over a plain {kind} with a small budget. Its samples are blurs: see how far every row is from
*human*, and take it for a ranking of what {seconds:.0f} seconds buy, not of what a learner can do.

Made by `{made}` from the files of the rows in [rows](rows), and these by `{league}` at {revision}, DIR holding the
images.{absent}

Every learner began from the same generator, a {kind} that was trained jointly (`{base}`, weights
{weights}), and was meta-trained at {support} shots for as many meta-steps, of {batch} tasks each, as have
meta-gradients of {seconds:.0f} processor seconds of one thread of {hardware}, that is {steps}; {seeds}.
Before that each had the same small search: {cells} of what moves and how fast{most}, {pilot} meta-steps each, the
best by {criterion} on {pilot_tasks} val characters. All were then measured on the same {tasks} test characters (split
{split}) at {shots} shots, through `{extractor}`. A figure is that of {mean}, ± half its 95 % interval over
characters; a difference is paired by character, and * says that its interval is clear of zero: of twenty such intervals
one is by chance. The columns are explained in [evaluation.md](../../docs/evaluation.md), the learners in
[learners.md](../../docs/learners.md). *scratch* is the same network never trained before; *joint* went on with joint
training and is fine-tuned.
"""
COSTS = """One thread, while other rows were made beside on the other core, so that seconds are more than on a machine
at rest; a meta-step is one meta-gradient, the mean over the progress of a training; *s to train* is by the clock, with
all that belongs to a run; val tasks were looked at three times, and the weights kept are those of *best at*; adapting
is at {shots} shots, {timed}.
"""


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows, by name; only such as can stand in one table."""
    rows = [{**OLD, **read_json(path), "slug": path.stem} for path in sorted((folder / "rows").glob("*.json"))]
    if not rows:
        raise SystemExit(f"{folder}: holds no row; run experiments/league.py first")
    for name, of in ALIKE.items():
        if len(different := {str(of(row)) for row in rows}) > 1:
            raise SystemExit(f"{folder}: expected rows with the same {name}, got {', '.join(sorted(different))}")
    return rows


def entries(rows: Iterable[dict[str, Any]], shots: str) -> list[Entry]:
    """Every learner's mean seed; and *scratch*, of the row that has it."""
    contenders = []
    for row in rows:
        each = [seed["shots"][shots] for seed in row["seeds"]]
        contenders.append(averaged(row["name"], [entry(row["name"], one) for one in each]))
        if any(key.startswith("scratch/") for key in each[0]["values"]):
            contenders.append(entry("scratch", each[0], "scratch"))
    return contenders


def verdicts(contenders: Sequence[Entry], kind: str) -> list[str]:
    """Who leads by each figure that all have, and who is not significantly behind the leader."""
    lines = []
    known = set.intersection(*({*by_column(each.adapted["figures"])} for each in contenders))
    for by in (by for by in FIGURES if by in known):
        table = league(contenders, by)
        figure, leader = table["by"], table["models"][0]["row"]
        behind = {row["row"].removesuffix(f" - {leader}"): row for row in table["differences"][: len(contenders) - 1]}
        level = [other for other, row in behind.items() if not row["figures"][figure]["clear"]]
        said = f"not significantly behind: {'; '.join(level)}" if level else "every other one is significantly behind"
        mean = number(table["models"][0]["figures"][figure]["mean"])
        lines.append(f"- By {HEADINGS[by].title}, **{leader}** leads ({mean:.4g}); {said}.")
    return [*lines, against_jitter(contenders, kind)]


def against_jitter(contenders: Sequence[Entry], kind: str) -> str:
    """Whether any learner's images are nearer to the real ones than jittered copies of the support."""
    figure = next(name for name in contenders[0].adapted["figures"] if name.startswith("fd["))
    jitter = number(contenders[0].figures(JITTER, [figure])[figure]["mean"])
    means = {each.name: number(each.adapted["figures"][figure]["mean"]) for each in contenders}
    better = [name for name, mean in means.items() if mean < jitter]
    nearer = f"nearer are {', '.join(better)}" if better else f"no learner of this small {kind} comes near"
    return f"- The support's own images, jittered ({JITTER}), have a Frechet distance of {jitter:.4g}: {nearer}."


def with_another(rows: Iterable[dict[str, Any]], shots: str) -> list[str]:
    """The figures of a learner that reads something from the support when it is given that of another task."""
    lines = []
    for row in rows:
        result = row["seeds"][0]["shots"][shots]["result"]
        of = {each["row"]: each["figures"] for each in result["rows"]}
        lost = {each["row"]: each["figures"] for each in result.get("differences", [])}
        for other in (name for name in of if name.startswith(OTHER) and name != f"{OTHER}support"):
            gained = lost.get(f"adapted - {other}", {})
            changes = [
                f"{HEADINGS[column].title} {number(of[other][figure]['mean']):.4g} in place of "
                f"{number(of['adapted'][figure]['mean']):.4g}"
                + (f" (own less that: {short(gained[figure])})" if figure in gained else "")
                for figure in of[other]
                if (column := figure.partition("[")[0]) in FIGURES
            ]
            read = other.removeprefix(OTHER)
            lines.append(f"- {row['name']}, given the {read} of another character (seed 0): {', '.join(changes)}.")
    return lines


def timed(folder: Path) -> dict[str, Any] | None:
    """The file of benchmarks/league_adapting.py, if it was run."""
    place = folder / "adapting.json"
    return read_json(place) if place.is_file() else None


def costs(rows: Iterable[dict[str, Any]], adapting: dict[str, Any] | None) -> list[str]:
    """The cost of training and of adapting: in one sitting, where that was timed, else beside other work."""
    training = ("meta-steps", "best at", "s to train", "ms a meta-step", "MiB of one")
    return markdown_table(
        ["", "chosen on val", *training, "ms to adapt", "MiB of that", "bytes kept"],
        (_cost(row, adapting) for row in rows),
    )


def _cost(row: dict[str, Any], adapting: dict[str, Any] | None) -> list[object]:
    chosen = ", ".join(f"{key} {plain(value)}" for key, value in row["options"].items() if key != "layers")
    trainings, cost, step = [s["training"] for s in row["seeds"]], one_of(row)["studies"]["cost"], row["training_cost"]
    steps, best = ("/".join(str(each[key]) for each in trainings) for key in ("meta_steps", "best_step"))
    took = "/".join(f"{each['seconds']:.0f}" for each in trainings)
    seconds = cost["seconds"]["median"] if adapting is None else adapting["median_seconds"].get(row["name"])
    return [
        *(row["name"], chosen, steps, best, took, f"{1000 * step['step_seconds']:.0f}", f"{step['step_peak_mib']:.0f}"),
        *("" if seconds is None else f"{1000 * seconds:.1f}", f"{number(cost['peak_mib']['mean']):.1f}"),
        cost["adapted_bytes"],
    ]


def curves(rows: Sequence[dict[str, Any]], shots: str) -> list[str]:
    """The criterion against N, the mean of the seeds."""
    steps = [point["steps"] for point in rows[0]["seeds"][0]["shots"][shots]["result"]["curve"]]
    lines = []
    for row in rows:
        each = [seed["shots"][shots]["result"]["curve"] for seed in row["seeds"]]
        means = [sum(number(curve[n]["mean"]) for curve in each) / len(each) for n in range(len(steps))]
        lines.append([row["name"], *(f"{mean:.1f}" if math.isfinite(mean) else "diverged" for mean in means)])
    return markdown_table(["", *(f"N = {n}" for n in steps)], lines)


def spread_of_seeds(rows: Iterable[dict[str, Any]], shots: str) -> list[str]:
    """The Frechet distances of the seeds of each learner, to compare differences with."""
    lines = []
    for row in rows:
        each = [by_column(entry("", seed["shots"][shots]).adapted["figures"])["fd"] for seed in row["seeds"]]
        lines.append([row["name"], ", ".join(f"{number(fd['mean']):.1f}" for fd in each)])
    return markdown_table(["", f"{HEADINGS['fd'].title} of each seed"], lines)


def in_words(figure: str) -> str:
    """A figure in words: "energy through `omniglot-select`"."""
    name, _, extractor = figure.removesuffix("]").partition("[")
    return f"{HEADINGS[name].title} through `{extractor}`" if extractor else HEADINGS[name].title


def preamble(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """All that the rows share."""
    first, one = rows[0], one_of(rows[0])
    kind, names = kind_of(first["generator"]), [row["name"] for row in rows]
    cells = {len(row["search"]["cells"]) for row in rows}
    trained, seeds = [seed["training"]["meta_steps"] for row in rows for seed in row["seeds"]], len(first["seeds"])
    absent, (pilot, pilot_tasks) = [name for name in plans(kind) if name not in names], searching(first)
    search, training = {"pilot": pilot, "pilot_tasks": pilot_tasks}, first["seeds"][0]["training"]
    shared = {"base": config_of(first["base"]), "seconds": first["seconds"], "tasks": one["tasks"], "support": SUPPORT}
    text = PREAMBLE.format(
        **{**search, **shared, "kind": kind.name, "batch": training["tasks_per_step"]},
        made=_words("python experiments/league_page.py", "" if folder == MAIN else f"--out {folder}"),
        league=_words("python experiments/league.py", first["asked"], "--root DIR"),
        revision=" and ".join(sorted({row["revision"] for row in rows})),
        absent=f" Without a row: {'; '.join(absent)}." if absent else "",
        weights=first["base_sha256"][:12],
        hardware=one["environment"]["hardware"],
        steps=f"{min(trained)} to {max(trained)}",
        seeds=f"from each of {seeds} seeds" if seeds > 1 else "once, so that no interval speaks of another training",
        cells=f"{min(cells)} cells",
        most=f" ({max(cells)} for joint, the baseline)" if len(cells) > 1 else "",
        criterion=in_words(training.get("chosen_by", LOSS)),
        split=one["split_sha256"][:12],
        shots=" and at ".join(shots_of(first)),
        extractor=one["extractors"][0]["name"],
        mean="the mean seed" if seeds > 1 else "that training",
    )
    return paragraphs(text)


def _words(*words: str) -> str:
    return " ".join(filter(None, words))


def page_lines(rows: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """The page of a league."""
    kind, every = kind_of(rows[0]["generator"]).name, shots_of(rows[0])
    adapting, lines = timed(folder), [preamble(rows, folder)]
    for shots in every:
        contenders = entries(rows, shots)
        lines += [f"## In short, {counted(int(shots), 'shot')}\n", *verdicts(contenders, kind)]
        lines += [*with_another(rows, shots), ""]
    lines += [f"![Support, then what each learner makes of it]({SAMPLES})\n"]
    for shots in every:
        table = re.sub(r"^(#+)", r"\1#", markdown(league(entries(rows, shots), "fd")), flags=re.MULTILINE)
        lines += [table.replace("## League table", f"## {shots}-shot table", 1)]
    words = COSTS.format(shots=every[-1], timed=TIMED if adapting else UNTIMED)
    lines += ["## What it costs\n", *costs(rows, adapting), "", paragraphs(words)]
    criterion = in_words(one_of(rows[0]).get("criterion", LOSS))
    for shots in every:
        title = f"## {criterion[0].upper()}{criterion[1:]} against the number of inner steps, {shots}-shot\n"
        lines += [title, *curves(rows, shots), ""]
    if len(rows[0]["seeds"]) > 1:
        lines += [f"## Seeds, {every[-1]}-shot\n", *spread_of_seeds(rows, every[-1])]
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, and the picture where the models are at hand."""
    options = parser(__doc__)
    options.add_argument("--out", type=Path, default=MAIN, help="folder of the result")
    options.add_argument("--runs", type=Path, help="folder of the trained models")
    options.add_argument("--root", help="the folder that holds Omniglot")
    given = options.parse_args(argv)
    rows, pictures = read(given.out), {}
    if given.runs:
        data = EpisodeData("omniglot", given.root, shots=SUPPORT, queries=5)
        exports = {row["name"]: given.runs / row["slug"] / "seed-0" / "export" for row in rows}
        pictures = {SAMPLES: sample_rows(data.episodes, SHOWN, exports, samples=5)}
    write_page(given.out, page_lines(rows, given.out), pictures)


if __name__ == "__main__":
    main()
