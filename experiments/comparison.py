"""Write docs/results.md from result files, so that no figure in them is typed.

    python scripts/make_results.py runs/*/evaluation*/result.json

A section of the page that no given file is of stays as it stands.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from metagen.evaluation.trial import MODEL_FREE
from metagen.report.result import Difference, Estimate, Result, read_result, row_named
from metagen.storage.strict_json import number

ROOT = Path(__file__).resolve().parent.parent
Columns = dict[str, tuple[str, int]]
COLUMNS: Columns = {
    "query_loss": ("query loss", 2),
    "fd": ("fd", 2),
    "recognisability": ("recognised %", 1),
    "diversity_relative": ("diversity % of human", 1),
    "copy_ratio": ("copy ratio", 2),
}
BESIDE: Columns = {
    "energy": ("energy", 2),
    "kid": ("kid", 3),
    "fd_task": ("fd by task", 2),
    "is": ("is", 1),
    "precision": ("precision %", 1),
    "recall": ("recall %", 1),
    "density": ("density", 2),
    "coverage": ("coverage %", 1),
    "near_copies": ("near copies %", 1),
    "originality_relative": ("originality % of human", 1),
    "pairwise_cluster": ("spread in clusters", 2),
}
PREAMBLE = """# Results

Made by `python scripts/make_results.py RESULT.json ...`, each section anew when its results are given; no figure here
is typed. The result files come from `metagen fit --config configs/quickstart.yaml` and `metagen evaluate
--model runs/quickstart/export --data.queries 14 --baselines true --out runs/quickstart/evaluation`, from
`bash scripts/omniglot.sh DIR`, DIR holding Omniglot, and from `python scripts/faces.py --root DIR --size 64`, DIR
holding one folder of photographs a person.

Every figure is of held-out test tasks, with its 95 % interval over tasks: a bootstrap for means over tasks, a jackknife
for `fd`, `kid` and `is`, which are of all tasks together. Every row of a table is judged by the same real images, which
no model was shown, through the same extractor, and makes as many images as the row *human* has real ones.

What each column means, and how it can fool you: [evaluation.md](evaluation.md). The query loss is what is minimised, in
nats per image: the negative ELBO; redraw counts its KL 3 times.

*Affine* is a random affine map of a support image (x1: up to 15 degrees, 15 % scale, 10 degrees shear, 8 % shift).
*Unadapted* has no step and no support; *scratch* is the same networks without meta-training, its rate and steps chosen
on val tasks; *joint + fine-tune* is trained on all train tasks mixed; *another task's support* shows how much the
support matters; *context only* takes no step, *adapted* is the model as it is used. The models of Omniglot and of faces
were trained side by side on two cores and measured beside other work, so their seconds are no speeds.
"""
COSTS = "## What adapting costs"
NAMED = re.compile(r"^- `(.+?)`", re.MULTILINE)  # the models of a section
FACES = """Colour photographs of people, split by identity as `scripts/faces.py` says. They may be measured on alone, so
neither images nor weights made of them stand in this project. On a CPU, and therefore at reduced length: small
networks, and no more meta-steps than are told here; the same configs with `--data.task_set celeba --data.episodes
10000` are for CelebA, of which nothing was measured. N was chosen on val people by Frechet distance, among those of the
curve and through another extractor. The GAN goes on from redraw, whose cost comes before its own; nothing that is
fine-tuned stands beside it.
"""


def figure(estimate: Estimate | None, digits: int) -> str:
    """A figure with its interval."""
    if estimate is None:
        return ""
    mean, low, high = number(estimate["mean"]), number(estimate["low"]), number(estimate["high"])
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" if math.isfinite(mean) else "not finite"


def bare(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures by the names of their columns: the first of each is that of the domain's extractor."""
    return {name.partition("[")[0]: each for name, each in reversed(figures.items())}


def table(rows: Iterable[tuple[str, Difference]], first: str, columns: Columns = COLUMNS) -> list[str]:
    """Lines of a table: a name and a row of a result each."""
    rows = [(name, {**row, "figures": bare(row["figures"])}) for name, row in rows]
    shown = {m: column for m, column in columns.items() if any(m in row["figures"] for _, row in rows)}
    lines = [
        f"| {first} | N | {' | '.join(heading for heading, _ in shown.values())} |",
        "|---" * (len(shown) + 2) + "|",
    ]
    for name, row in rows:
        steps = row.get("steps")
        cells = [figure(row["figures"].get(metric), digits) for metric, (_, digits) in shown.items()]
        name += f" ({row['diverged']} diverged: grey)" if row.get("diverged") else ""
        lines.append(f"| {name} | {'' if steps is None else steps} | {' | '.join(cells)} |")
    return lines


def model_line(name: str, result: Result) -> str:
    """The training of one model, and what it was measured on."""
    model, training = result["model"], result["model"]["training"]
    words = "" if result["data"]["task_set"] == "glyphs" else " --data.root DIR"
    if "partition" in result["data"]:
        words += f" --data.partition {result['data']['partition']}"
    if "initial" in training:
        words += f" --model.initial {training['initial']['name']}"
    return (
        f"- `{name}`: `metagen fit --config configs/{name}.yaml{words}`. "
        f"{training['meta_steps']} meta-steps of {training['tasks_per_step']} tasks in "
        f"{training['seconds']:.0f} s, seed {training['seed']} (training) and {result['seed']} (evaluation); "
        f"weights {model['weights_sha256'][:12]}; evaluated on "
        f"{result['environment']['hardware']}, torch {result['environment']['torch']}."
    )


def about(results: dict[str, Result]) -> str:
    """All that the results of a group share."""
    one = next(iter(results.values()))
    if (
        len(
            {
                (r["split_sha256"], r["tasks"], r["queries"], r["extractors"][0]["weights_sha256"])
                for r in results.values()
            }
        )
        > 1
    ):
        raise SystemExit(
            f"{', '.join(results)}: measured on other tasks or through other extractors; measure them alike"
        )
    seen = one["extractors"][0]
    test = seen["accuracy"]["test"]
    return (
        f"{one['tasks']} {one['split']} tasks (split {one['split_sha256'][:12]}), {one['queries']} images a task "
        f"beside the support, {one['real']} reference and {one['made']} made images. Extractor `{seen['name']}` "
        f"(weights {seen['weights_sha256'][:12]}, trained in {seen['training']['seconds']:.0f} s): "
        f"{100 * test['mean']:.1f} "
        f"[{100 * test['low']:.1f}, {100 * test['high']:.1f}] % right on real images of {test['tasks']} test tasks, "
        f"{test['ways']}-way 1-shot."
    )


def group_lines(title: str, results: dict[str, Result]) -> list[str]:
    """One task set at one number of shots: scorecard, differences, curves."""
    one = next(iter(results.values()))
    lines = [f"## {title}\n", about(results), ""]
    if one["data"]["task_set"] == "folder":
        lines.append(FACES)
    if one["data"]["task_set"] == "omniglot":
        named = sorted({task.partition("/")[0] for task in one["task_names"]})
        lines += [f"Test alphabets: {', '.join(named)}.", ""]
    lines += [model_line(name, result) for name, result in results.items()]
    if not any(result["fine_tuned"] for result in results.values()):
        lines += ["", "Rows that are fine-tuned (*scratch*, *joint + fine-tune*) were not measured."]
    rows = [(row["row"], row) for row in one["rows"] if row["row"] in MODEL_FREE]
    for name, result in results.items():
        rows += [(f"{name}: {row['row']}", row) for row in result["rows"] if row["row"] not in MODEL_FREE]
    lines += ["\n### Scorecard\n", *table(rows, "row"), "", *table(rows, "row", BESIDE)]
    rows = [(f"{name}: {row['row']}", row) for name, result in results.items() for row in result["differences"]]
    lines += ["\n### Differences, paired by task\n", *table(rows, "row"), "", *table(rows, "row", BESIDE)]
    return lines + curve_lines({name: result for name, result in results.items() if result["rows"][-1]["steps"]})


def curve_lines(results: dict[str, Result]) -> list[str]:
    """The curves of the models that take steps, by what is measured along them."""
    lines = []
    for criterion in dict.fromkeys(result["criterion"] for result in results.values()):
        alike = {name: result for name, result in results.items() if result["criterion"] == criterion}
        steps = [point["steps"] for point in next(iter(alike.values()))["curve"]]
        lines.append(f"\n### Adapted {criterion.replace('_', ' ')} against the number of inner steps N\n")
        lines.append(f"| model | {' | '.join(f'N = {n}' for n in steps)} |")
        lines.append("|---" * (len(steps) + 1) + "|")
        for name, result in alike.items():
            lines.append(f"| {name} | {' | '.join(figure(point, 2) for point in result['curve'])} |")
    return lines


def study_lines(results: dict[str, Result]) -> list[str]:
    """Log-likelihood, downstream gain and cost, of those results that have them."""
    by_study = {
        study: {n: r for n, r in results.items() if study in r["studies"]}
        for study in ("log_likelihood", "gain", "cost")
    }
    lines: list[str] = []
    for name, result in by_study["log_likelihood"].items():
        likelihood = result["studies"]["log_likelihood"]
        lines += [f"## Log p(x given k images): {name}\n", model_line(name, result), ""]
        lines += [
            f"{likelihood['rows'][0]['n']} test characters, {likelihood['images']} images each, {likelihood['unit']}, "
            f"{likelihood['samples']} importance samples. Published: {likelihood['source']}.",
            "",
        ]
        lines += ["| k | this model | gain over k = 0 | published |", "|---|---|---|---|"]
        for row in likelihood["rows"]:
            published = "" if row["published"] is None else row["published"]
            lines.append(f"| {row['shots']} | {figure(row, 1)} | {figure(row['gain'], 1)} | {published} |")
        lines += ["", swap_line(result), ""]
    for name, result in by_study["gain"].items():
        gain = result["studies"]["gain"]
        lines += [f"## Downstream gain: {name}, {gain['shots']} shots\n", model_line(name, result), ""]
        lines += [
            f"A classifier of {gain['ways']} new classes, {gain['accuracy']['real']['n']} draws of classes; "
            f"{gain['unit']}.",
            "",
            "| trained on | accuracy |",
            "|---|---|",
        ]
        lines += [f"| {arm} | {figure(each, 1)} |" for arm, each in {**gain["accuracy"], **gain["differences"]}.items()]
    if by_study["cost"]:
        lines += [
            f"{COSTS}\n",
            "| model | shots | N | seconds | peak MiB | bytes | images a second |",
            "|---" * 7 + "|",
        ]
    for name, result in by_study["cost"].items():
        cost = result["studies"]["cost"]
        cells = [
            figure(cost["seconds"], 4),
            figure(cost["peak_mib"], 2),
            f"{cost['adapted_bytes']:,}",
            figure(cost["images_a_second"], 0),
        ]
        lines.append(f"| {name} | {cost['shots']} | {cost['steps']} | {' | '.join(cells)} |")
    return lines


def swap_line(result: Result) -> str:
    """The gain of the own support over that of another task, in the query loss."""
    difference = row_named(result["differences"], "adapted - another task's support")
    less = figure(difference["figures"].get("query_loss"), 2)
    shots = f"{result['shots']} shot{'s' if result['shots'] > 1 else ''}"
    return (
        f"At {shots}, {result['tasks']} characters: query loss (nats per image) given the own support less that given "
        f"another character's: {less}."
    )


def page(text: str, results: dict[str, dict[str, Result]], studied: dict[str, Result]) -> str:
    """All of docs/results.md, whose text before this was `text`: what these results are of is new, all else kept."""
    lines = [line for title, group in results.items() for line in group_lines(title, group)]
    kept, made = (_sections(each) for each in (text, "\n".join([*lines, *study_lines(studied)])))
    if COSTS in kept and COSTS in made:
        rows = {line.split("|")[1]: line for line in (kept[COSTS] + made[COSTS]).splitlines() if line.startswith("|")}
        made[COSTS] = "\n".join([COSTS, "", *rows.values()]) + "\n"
    for heading in kept.keys() & made.keys():
        gone = set(re.findall(NAMED, kept[heading])) - set(re.findall(NAMED, made[heading]))
        if gone:
            raise SystemExit(f"{heading}: {', '.join(sorted(gone))} would go; give the results of all its models")
    return "\n".join([PREAMBLE, *(kept | made).values()])


def _sections(text: str) -> dict[str, str]:
    """The sections of a page by their headings."""
    parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0]: part.strip() + "\n" for part in parts}


def write(paths: Sequence[str], apart: str | None = None) -> None:
    """Rewrite the page; `apart` names a section of these models' own."""
    groups: dict[str, dict[str, Result]] = {}
    studied: dict[str, Result] = {}
    for path in paths:
        result = read_result(Path(path))
        if result["studies"]:
            studied[Path(path).parent.parent.name] = result
            continue
        shots = f"{result['shots']} shot{'s' if result['shots'] > 1 else ''}"
        size = "" if result["data"]["size"] == 28 else f" at {result['data']['size']} px"
        part = f" {result['data']['partition']}" if "partition" in result["data"] else ""
        title = f"{result['data']['task_set']}{part}{size}, {shots}, {result['tasks']} tasks"
        title += f": {apart}" if apart else ""
        groups.setdefault(title, {})[Path(path).parent.parent.name] = result
    place = ROOT / "docs" / "results.md"
    place.write_text(page(place.read_text(encoding="utf-8"), groups, studied), encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """The page of the result files that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", help="result files")
    parser.add_argument("--apart", help="the name of a section of their own")
    options = parser.parse_args(argv)
    write(options.results, options.apart)


if __name__ == "__main__":
    main()
