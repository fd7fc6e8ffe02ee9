"""Write README.md of a folder of results from result files of `metagen evaluate`: tables, differences, curves, studies.

    python experiments/comparison.py --out results/NAME runs/*/evaluation*/result.json

Results on the same tasks at the same number of shots share a section. A model is named by the folder of its run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments.pages import paragraphs, result_table, write_page
from experiments.runs import config_of, parser
from metagen.evaluation.trial import MODEL_FREE
from metagen.report.next_steps import counted
from metagen.report.result import Difference, Result, read_result, row_named
from metagen.report.tables import markdown_table, with_ends

COLUMNS = ("query_loss", "fd", "recognisability", "diversity_relative", "copy_ratio")
MORE = (
    *("energy", "kid", "fd_task", "is", "precision", "recall", "density", "coverage", "near_copies"),
    *("originality_relative", "pairwise_cluster"),
)
HEAD = """# {title}

Made by `python experiments/comparison.py --out {out} RESULT.json ...` from result files of `metagen evaluate`.

Every figure is of held-out test tasks, with its 95 % interval over tasks: a bootstrap for means over tasks, a jackknife
for *Frechet*, *kernel* and *IS*, which are of all tasks together. Every row of a table is measured against the same
real images, which no model was shown, through the same extractor, and makes as many images as the row *human* has real
ones. The columns and rows are explained in [evaluation.md](../../docs/evaluation.md). *Affine x1* turns a support image
by up to 15 degrees, scales it by 15 %, shears it by 10 degrees and shifts it by 8 %. The query loss is what is
minimised, in nats per image: the negative ELBO; redraw counts its KL 3 times.
"""


def model_line(name: str, result: Result) -> str:
    """The training of one model, and the hardware it was evaluated on."""
    model, data, environment = result["model"], result["data"], result["environment"]
    training = model["training"]
    words = "" if data["task_set"] == "glyphs" else " --data.root DIR"
    words += f" --data.partition {data['partition']}" if "partition" in data else ""
    words += f" --model.initial {training['initial']['name']}" if "initial" in training else ""
    return (
        f"- `{name}`: `metagen fit --config {config_of(name)}{words}`. "
        f"{training['meta_steps']} meta-steps of {training['tasks_per_step']} tasks in {training['seconds']:.0f} s, "
        f"seed {training['seed']} (training) and {result['seed']} (evaluation); "
        f"weights {model['weights_sha256'][:12]}; evaluated on {environment['hardware']}, torch {environment['torch']}."
    )


def circumstances(results: Mapping[str, Result]) -> str:
    """The tasks and the extractor of a section.

    Raises:
        SystemExit: the results differ in them.
    """
    one = next(iter(results.values()))
    measured = [(r["split_sha256"], r["queries"], r["extractors"][:1]) for r in results.values()]
    if any(each != measured[0] for each in measured):
        raise SystemExit(f"{', '.join(results)}: other tasks or other extractors; measure them alike")
    lines = [
        f"{one['tasks']} {one['split']} tasks (split {one['split_sha256'][:12]}), {one['queries']} images a task "
        f"beside the support, {one['real']} reference and {one['made']} made images."
    ]
    for seen in one["extractors"][:1]:
        test = seen["accuracy"]["test"]
        right = with_ends({"mean": 100 * test["mean"], "low": 100 * test["low"], "high": 100 * test["high"]}, 1)
        lines.append(
            f"Extractor `{seen['name']}` (weights {seen['weights_sha256'][:12]}): {right} % right on real images of "
            f"{test['tasks']} test tasks, {test['ways']}-way 1-shot."
        )
    return " ".join(lines)


def section(title: str, results: Mapping[str, Result]) -> list[str]:
    """One task set at one number of shots: rows, differences, curves."""
    one = next(iter(results.values()))
    lines = [f"## {title}\n", circumstances(results), "", *(model_line(*named) for named in results.items())]
    rows: list[tuple[str, Difference]] = [(row["row"], row) for row in one["rows"] if row["row"] in MODEL_FREE]
    for name, result in results.items():
        rows += [(f"{name}: {row['row']}", row) for row in result["rows"] if row["row"] not in MODEL_FREE]
    less = [(f"{name}: {row['row']}", row) for name, result in results.items() for row in result["differences"]]
    for heading, of in (("Scorecard", rows), ("Differences, paired by task", less)):
        lines += [f"\n### {heading}\n", *result_table(of, COLUMNS), "", *result_table(of, MORE)]
    for criterion in dict.fromkeys(result["criterion"] for result in results.values()):
        alike = {n: r["curve"] for n, r in results.items() if r["criterion"] == criterion and r["rows"][-1]["steps"]}
        if steps := [point["steps"] for curve in [*alike.values()][:1] for point in curve]:
            lines.append(f"\n### Adapted {criterion.replace('_', ' ')} against the number of inner steps N\n")
            curves = ([name, *map(with_ends, curve)] for name, curve in alike.items())
            lines += markdown_table(["model", *(f"N = {n}" for n in steps)], curves)
    return [*lines, ""]


def log_likelihood(name: str, result: Result) -> list[str]:
    """The study `log_likelihood`, and the gain of the own support over that of another task."""
    study = result["studies"]["log_likelihood"]
    less = row_named(result["differences"], "adapted - another task's support")
    table = [
        [row["shots"], with_ends(row, 1), with_ends(row["gain"], 1), row["published"] or ""] for row in study["rows"]
    ]
    return [
        f"## Log p(x given k images): {name}\n",
        model_line(name, result),
        f"\n{study['rows'][0]['n']} test tasks, {study['images']} images each, {study['unit']}, {study['samples']} "
        f"importance samples. Published: {study['source']}.\n",
        *markdown_table(["k", "this model", "gain over k = 0", "published"], table),
        f"\nQuery loss at {counted(result['shots'], 'shot')}, {result['tasks']} tasks: given the own support less "
        f"given another task's: {with_ends(less and less['figures'].get('query_loss'))}.\n",
    ]


def gain(name: str, result: Result) -> list[str]:
    """The study `gain`."""
    study = result["studies"]["gain"]
    arms = {**study["accuracy"], **study["differences"]}
    return [
        f"## Downstream gain: {name}, {study['shots']} shots\n",
        model_line(name, result),
        f"\nA classifier of {study['ways']} new classes, {study['accuracy']['real']['n']} draws of classes; "
        f"{study['unit']}.\n",
        *markdown_table(["trained on", "accuracy"], ([arm, with_ends(each, 1)] for arm, each in arms.items())),
        "",
    ]


def costs(results: Mapping[str, Result]) -> list[str]:
    """The study `cost` of several models."""
    rows = []
    for name, cost in ((name, result["studies"]["cost"]) for name, result in results.items()):
        seconds, peak, rate = (with_ends(cost["seconds"], 4), with_ends(cost["peak_mib"]), cost["images_a_second"])
        rows.append(
            [name, cost["shots"], cost["steps"], seconds, peak, f"{cost['adapted_bytes']:,}", with_ends(rate, 0)]
        )
    heads = ["model", "shots", "N", "seconds", "peak MiB", "bytes", "images a second"]
    return ["## What adapting costs\n", *markdown_table(heads, rows)]


STUDIES: dict[str, Callable[[str, Result], list[str]]] = {"log_likelihood": log_likelihood, "gain": gain}


def title_of(result: Result) -> str:
    """The title of a result's section."""
    data = result["data"]
    part = f" {data['partition']}" if "partition" in data else ""
    size = "" if data["size"] == 28 else f" at {data['size']} px"
    return f"{data['task_set']}{part}{size}, {counted(result['shots'], 'shot')}, {result['tasks']} tasks"


def page_lines(results: Sequence[tuple[str, Result]], title: str, out: Path) -> list[str]:
    """The page of named results."""
    sections: dict[str, dict[str, Result]] = {}
    studied: dict[str, dict[str, Result]] = {study: {} for study in (*STUDIES, "cost")}
    for name, result in results:
        for study in result["studies"]:
            studied[study][name] = result
        if not result["studies"]:
            sections.setdefault(title_of(result), {})[name] = result
    lines = [paragraphs(HEAD.format(title=title, out=out))]
    lines += [line for named in sections.items() for line in section(*named)]
    lines += [line for study, of in STUDIES.items() for named in studied[study].items() for line in of(*named)]
    return lines + (costs(studied["cost"]) if studied["cost"] else [])


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page of the result files."""
    options = parser(__doc__)
    options.add_argument("results", nargs="+", type=Path, help="result files, runs/NAME/.../result.json")
    options.add_argument("--out", type=Path, required=True, help="folder of the page")
    options.add_argument("--title", default="Results", help="of the page")
    given = options.parse_args(argv)
    results = [(path.parent.parent.name, read_result(path)) for path in given.results]
    write_page(given.out, page_lines(results, given.title, given.out))


if __name__ == "__main__":
    main()
