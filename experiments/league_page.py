"""Write docs/league.md from the files of the rows, so that no figure in it is typed; with --runs also docs/league.png.

Rows of another folder, docs/league/NAME, become docs/league-NAME.md.

python scripts/make_league.py [--rows docs/league/omniglot] [--runs runs/league --root DIR] [--keep NAME=FILE.json ...]

--keep takes a result that belongs beside the league, cut to what is shown, into docs/league/beside.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from league import PILOT, PILOT_TASKS, SUPPORT
from league_beside import FOLDER, JITTER, keep, other_results, plain, wrapped
from league_plans import kind_of, plans
from matplotlib.figure import Figure

from metagen.evaluation.league import Entry, averaged, league, markdown
from metagen.model import Model, load
from metagen.report.result import Result
from metagen.report.tables import short
from metagen.storage.files import write_atomically
from metagen.storage.images import grid
from metagen.storage.strict_json import number, read_json, to_json
from metagen.tasks.omniglot import Omniglot
from metagen.tasks.splits import SPLITS
from metagen.training.episode_data import EpisodeData

DOCS = Path(__file__).resolve().parent.parent / "docs"
MAIN = "omniglot"
OTHER = "another task's "
LOSS = "query_loss"  # the criterion of rows that name none
FIGURES = {
    "fd": "Frechet distance",
    "energy": "energy distance",
    "is": "Inception Score",
    "recognisability": "recognisability",
    LOSS: "query loss",
}
BESIDE = "its seconds up to five times those at rest, so that they rank nothing"
TIMED = "one task after the other in one sitting (`python scripts/time_league.py`), the median"
OLD = {"generator": "vae", "base": "omniglot-vae-joint", "asked": "--task_set omniglot"}  # of rows that do not say


def shots_of(row: dict[str, Any]) -> list[str]:
    """The numbers of shots that a row was measured at."""
    return list(row["seeds"][0]["shots"])


def one_of(row: dict[str, Any]) -> Result:
    """A result of a row: that of its first seed, at the most shots."""
    result: Result = row["seeds"][0]["shots"][shots_of(row)[-1]]["result"]
    return result


def searching(row: dict[str, Any]) -> tuple[int, int]:
    """Meta-steps of a cell of the search, and val tasks it was judged on."""
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

Made by `{made}`; no figure here is typed. The rows come from `{league}` at {revision}, DIR holding the images, and lie
in [{place}]({place}), one file each.{absent}

Every learner began from the same generator, a {kind} that was trained jointly (`configs/{base}.yaml`, weights
{weights}), and was meta-trained at {support} shots for as many meta-steps, of {batch} tasks each, as have
meta-gradients of {seconds:.0f} processor seconds of one thread of {hardware}, that is {fewest} to {many}; {seeds}.
Before that each had the same small search: {cells} cells of what moves and how fast{most}, {pilot} meta-steps each, the
best by {criterion} on {pilot_tasks} val characters. All were then measured on the same {tasks} test characters (split
{split}) at {shots} shots, through `{extractor}`.{missing} A figure is that of {mean}, ± half its 95 % interval over
characters; a difference is paired by character, and * says that its interval is clear of zero: of twenty such intervals
one is by chance. What the columns mean: [evaluation.md](evaluation.md); when to use which: [learners.md](learners.md).
*scratch* is the same network never trained before; *joint* went on with joint training and is fine-tuned.
"""


def read(folder: Path) -> list[dict[str, Any]]:
    """The rows, by name; only such as can stand in one table."""
    rows = [{**OLD, **read_json(path), "slug": path.stem} for path in sorted(folder.glob("*.json"))]
    if not rows:
        raise SystemExit(f"{folder}: holds no row; run scripts/league.py first")
    for name, of in ALIKE.items():
        if len(different := {str(of(row)) for row in rows}) > 1:
            raise SystemExit(f"{folder}: expected rows with the same {name}, got {', '.join(sorted(different))}")
    return rows


def entries(rows: Iterable[dict[str, Any]], shots: str) -> list[Entry]:
    """Every learner's mean seed; and what was never trained, of the row that has it."""
    contenders = []
    for row in rows:
        each = [seed["shots"][shots] for seed in row["seeds"]]
        contenders.append(averaged(row["name"], [entry(row["name"], one, "adapted") for one in each]))
        if any(key.startswith("scratch/") for key in each[0]["values"]):
            contenders.append(entry("scratch", each[0], "scratch"))
    return contenders


def entry(name: str, kept: dict[str, Any], row: str) -> Entry:
    """A row of a result as a contender of its own."""
    values = {key: torch.tensor(value, dtype=torch.float64) for key, value in kept["values"].items()}
    own = {f"adapted/{key.partition('/')[2]}": v for key, v in values.items() if key.startswith(f"{row}/")}
    scales = {key: value for key, value in values.items() if key.startswith("scale/")}
    rows = [r for r in kept["result"]["rows"] if r["row"] != "adapted" or row == "adapted"]
    rows = [{**r, "row": "adapted"} if r["row"] == row else r for r in rows]
    return Entry(name, {**kept["result"], "rows": rows}, {**own, **scales})


def verdicts(contenders: Sequence[Entry], kind: str) -> list[str]:
    """Who leads by each figure that all have, and who is not significantly behind the leader."""
    lines = []
    known = set.intersection(*({bare(figure) for figure in each.adapted["figures"]} for each in contenders))
    for by, name in ((by, name) for by, name in FIGURES.items() if by in known):
        table = league(contenders, by)
        figure, leader = table["by"], table["models"][0]["row"]
        behind = {row["row"].removesuffix(f" - {leader}"): row for row in table["differences"][: len(contenders) - 1]}
        level = [other for other, row in behind.items() if not row["figures"][figure]["clear"]]
        said = f"not significantly behind: {'; '.join(level)}" if level else "every other one is significantly behind"
        mean = number(table["models"][0]["figures"][figure]["mean"])
        lines.append(f"- By {name}, **{leader}** leads ({mean:.4g}); {said}.")
    return [*lines, beside_jitter(contenders, kind)]


def bare(figure: str) -> str:
    """A figure's name without its extractor."""
    return figure.partition("[")[0]


def beside_jitter(contenders: Sequence[Entry], kind: str) -> str:
    """Whether any learner's images are nearer to the real ones than jittered copies of the support."""
    figure = next(name for name in contenders[0].adapted["figures"] if name.startswith("fd["))
    jitter = contenders[0].figures(JITTER, [figure])[figure]["mean"]
    means = {each.name: number(each.adapted["figures"][figure]["mean"]) for each in contenders}
    better = [name for name, mean in means.items() if mean < number(jitter)]
    nearer = f"nearer are {', '.join(better)}" if better else f"no learner of this small {kind} comes near"
    return (
        f"- The support's own images, jittered ({JITTER}), have a Frechet distance of {number(jitter):.4g}: {nearer}."
    )


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
                f"{name} {number(of[other][figure]['mean']):.4g} in place of "
                f"{number(of['adapted'][figure]['mean']):.4g}"
                + (f" (own less that: {short(gained[figure])})" if figure in gained else "")
                for figure in of[other]
                if (name := FIGURES.get(bare(figure)))
            ]
            read = other.removeprefix(OTHER)
            lines.append(f"- {row['name']}, given the {read} of another character (seed 0): {', '.join(changes)}.")
    return lines


def timed(folder: Path) -> dict[str, Any] | None:
    """The file of scripts/time_league.py, if it was run."""
    place = folder.with_name(f"{folder.name}-adapting.json")
    return read_json(place) if place.is_file() else None


def costs(rows: Iterable[dict[str, Any]], adapting: dict[str, Any] | None) -> list[str]:
    """The cost of training and of adapting: in one sitting, where that was timed, else beside other work."""
    heads = (
        "",
        "chosen on val",
        "meta-steps",
        "best at",
        "s to train",
        "ms a meta-step",
        "MiB of one",
        "ms to adapt",
        "MiB of that",
        "bytes kept",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        chosen = ", ".join(f"{key} {plain(value)}" for key, value in row["options"].items() if key != "layers")
        steps = "/".join(str(seed["training"]["meta_steps"]) for seed in row["seeds"])
        took = "/".join(f"{seed['training']['seconds']:.0f}" for seed in row["seeds"])
        best = "/".join(str(seed["training"]["best_step"]) for seed in row["seeds"])
        cost, training = one_of(row)["studies"]["cost"], row["training_cost"]
        seconds = cost["seconds"]["median"] if adapting is None else adapting["median_seconds"].get(row["name"])
        cells = (
            *(
                row["name"],
                chosen,
                steps,
                best,
                took,
                f"{1000 * training['step_seconds']:.0f}",
                f"{training['step_peak_mib']:.0f}",
            ),
            *("" if seconds is None else f"{1000 * seconds:.1f}", f"{cost['peak_mib']['mean']:.1f}"),
            str(cost["adapted_bytes"]),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def curves(rows: Sequence[dict[str, Any]], shots: str) -> list[str]:
    """The criterion against N, the mean of the seeds."""
    steps = [point["steps"] for point in rows[0]["seeds"][0]["shots"][shots]["result"]["curve"]]
    lines = [f"| | {' | '.join(f'N = {n}' for n in steps)} |", "|---" * (len(steps) + 1) + "|"]
    for row in rows:
        each = [seed["shots"][shots]["result"]["curve"] for seed in row["seeds"]]
        means = [sum(number(curve[n]["mean"]) for curve in each) / len(each) for n in range(len(steps))]
        cells = [f"{mean:.1f}" if math.isfinite(mean) else "diverged" for mean in means]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return lines


def spread_of_seeds(rows: Iterable[dict[str, Any]], shots: str) -> list[str]:
    """The distance of two seeds of a learner, beside which differences have to be seen."""
    lines = ["| | fd of each seed |", "|---|---|"]
    for row in rows:
        each = [entry("", seed["shots"][shots], "adapted").adapted["figures"] for seed in row["seeds"]]
        means = [number(next(f["mean"] for name, f in figures.items() if name.startswith("fd["))) for figures in each]
        lines.append(f"| {row['name']} | {', '.join(f'{mean:.1f}' for mean in means)} |")
    return lines


def _name(folder: Path) -> str:
    return "league" if folder.name == MAIN else f"league-{folder.name}"


def called(figure: str) -> str:
    """A figure in words: "energy distance through `omniglot-select`"."""
    name, _, extractor = figure.removesuffix("]").partition("[")
    return f"{FIGURES[name]} through `{extractor}`" if extractor else FIGURES[name]


def preamble(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """All that the rows share."""
    first, one, place = rows[0], one_of(rows[0]), folder.resolve().relative_to(DOCS)
    kind, names = kind_of(first["generator"]), [row["name"] for row in rows]
    cells = {row["name"]: len(row["search"]["cells"]) for row in rows}
    least, most, seeds = min(cells.values()), max(cells.values()), len(first["seeds"])
    trained = [seed["training"]["meta_steps"] for row in rows for seed in row["seeds"]]
    absent = [name for name in plans(kind) if name not in names]
    pilot, pilot_tasks = searching(first)
    text = PREAMBLE.format(
        kind=kind.name,
        made=_words("python scripts/make_league.py", "" if folder.name == MAIN else f"--rows docs/{place}"),
        league=_words("python scripts/league.py", first["asked"], "--root DIR"),
        revision=" and ".join(sorted({row["revision"] for row in rows})),
        place=place,
        absent=f" Without a row: {'; '.join(absent)}." if absent else "",
        base=first["base"],
        weights=first["base_sha256"][:12],
        support=SUPPORT,
        batch=first["seeds"][0]["training"]["tasks_per_step"],
        seconds=first["seconds"],
        hardware=one["environment"]["hardware"],
        fewest=min(trained),
        many=max(trained),
        seeds=f"from each of {seeds} seeds" if seeds > 1 else "once, so that no interval speaks of another training",
        cells=least,
        most=f" ({most} for joint, the baseline)" if most > least else "",
        pilot=pilot,
        criterion=called(first["seeds"][0]["training"].get("chosen_by", LOSS)),
        pilot_tasks=pilot_tasks,
        tasks=one["tasks"],
        split=one["split_sha256"][:12],
        shots=" and at ".join(shots_of(first)),
        extractor=one["extractors"][0]["name"],
        missing=_missing(one["data"]["task_set"]),
        mean="the mean seed" if seeds > 1 else "that training",
    )
    return wrapped(text)


def _words(*words: str) -> str:
    return " ".join(filter(None, words))


def _missing(task_set: str) -> str:
    path = FOLDER / "data.json"
    if task_set != "omniglot" or not path.is_file():
        return ""
    data = read_json(path)
    return f" Of Omniglot's {data['characters']} characters {data['missing']} were not at hand."


def keep_data(root: str) -> None:
    """Put beside the league how much of Omniglot was there."""
    task_set = EpisodeData("omniglot", root).task_set
    missing = len(task_set.missing) if isinstance(task_set, Omniglot) else 0
    data = {"missing": missing, "characters": missing + sum(len(task_set.split[part]) for part in SPLITS)}
    write_atomically(FOLDER / "data.json", (to_json(data) + "\n").encode())


def page(rows: Sequence[dict[str, Any]], folder: Path) -> str:
    """The whole of docs/league.md."""
    kind, every = kind_of(rows[0]["generator"]).name, shots_of(rows[0])
    adapting = timed(folder)
    lines = [preamble(rows, folder)]
    for shots in every:
        lines += [
            f"## In short, {shots} shot{'s' * (shots != '1')}\n",
            *verdicts(entries(rows, shots), kind),
            *with_another(rows, shots),
            "",
        ]
    lines += [f"![Support, then what each learner makes of it]({_name(folder)}.png)\n"]
    for shots in every:
        table = markdown(league(entries(rows, shots), "fd"))
        table = re.sub(r"^(#+)", r"\1#", table, flags=re.MULTILINE).replace(
            "## League table", f"## {shots}-shot table", 1
        )
        lines += [table]
    lines += [
        "## What it costs\n",
        *costs(rows, adapting),
        "",
        wrapped(
            "One thread, while other rows were made beside on the other core, so that seconds are more than on a "
            "machine at rest; a meta-step is one meta-gradient, the mean over the progress of a training; *s to train* "
            "is by the clock, with all that belongs to a run; val tasks were looked at three times, and the weights "
            f"kept are those of *best at*; adapting is at {every[-1]} shots, {TIMED if adapting else BESIDE}."
        ),
    ]
    criterion = called(one_of(rows[0]).get("criterion", LOSS))
    for shots in every:
        lines += [
            f"## {criterion[0].upper()}{criterion[1:]} against the number of inner steps, {shots}-shot\n",
            *curves(rows, shots),
            "",
        ]
    if len(rows[0]["seeds"]) > 1:
        lines += [f"## Seeds, {every[-1]}-shot\n", *spread_of_seeds(rows, every[-1]), ""]
    lines += other_results() if folder.name == MAIN else []
    return "\n".join(lines) + "\n"


def in_lines(lines: Mapping[str, torch.Tensor]) -> Figure:
    """Images [T, n, 1, H, W] of the same tasks under each other, a line a name."""
    image = grid(torch.stack([images.flatten(0, 1) for images in lines.values()]))
    figure = Figure(figsize=(9, 0.5 * len(lines)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(image[0], cmap="gray", extent=(0, 1, len(lines), 0), aspect="auto")
    axes.set_yticks([n + 0.5 for n in range(len(lines))], list(lines))
    axes.set_xticks([])
    return figure


def picture(rows: Sequence[dict[str, Any]], runs: Path, root: str | None) -> Figure:
    """The support of a few test characters, and under it what each learner makes of it."""
    tasks = one_of(rows[0])["data"]
    data = EpisodeData(tasks["task_set"], root, shots=SUPPORT, queries=5)
    episode = data.episodes.of("test", [place for place in SHOWN if place < len(data.task_set.split.test)])
    lines = {"support": episode.support}
    for row in rows:
        model = load(runs / row["slug"] / "seed-0" / "export")
        if isinstance(model, Model):
            lines[row["name"]] = model.adapt_many(episode.support).sample(5)
    return in_lines(lines)


def main(argv: Sequence[str] | None = None) -> None:
    """The page, and the picture where the models are at hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=DOCS / "league" / "omniglot")
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--root")
    parser.add_argument("--keep", nargs="*", default=[], metavar="NAME=FILE.json")
    options = parser.parse_args(argv)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for named in options.keep:
        keep(named)
    if options.root and options.rows.name == MAIN:
        keep_data(options.root)
    rows = read(options.rows)
    write_atomically(DOCS / f"{_name(options.rows)}.md", page(rows, options.rows).encode())
    if options.runs:
        picture(rows, options.runs, options.root).savefig(DOCS / f"{_name(options.rows)}.png", dpi=110)


if __name__ == "__main__":
    main()
