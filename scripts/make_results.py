"""Write docs/results.md from result files, so that no figure in it is typed.

python scripts/make_results.py runs/*/evaluation/result.json > docs/results.md
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("<!-- quickstart table -->", "<!-- end -->")
PREAMBLE = """# Results

Made by `python scripts/make_results.py {names}`; no figure here is typed.

The query loss is the negative evidence lower bound of images that were not shown, in nats per image, on held-out test
tasks: whole scripts that no train task comes from. Every figure is a mean over tasks with its 95 % bootstrap interval
over tasks. *Scratch* is the same networks without meta-training, its rate and number of steps chosen on val tasks.
A difference below zero favours the adapted model; its interval is of the paired differences.
"""


def figure(row: dict[str, Any]) -> str:
    """A mean with its interval."""
    return f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def model_line(name: str, result: dict[str, Any]) -> str:
    """How one model was made, and the command."""
    model, training = result["model"], result["model"]["training"]
    return (
        f"- `{name}`: `metagen fit --config configs/{name}.yaml`, then `metagen evaluate --model "
        f"runs/{name}/export --out runs/{name}/evaluation`. "
        f"{training['meta_steps']} meta-steps of {training['tasks_per_step']} tasks in "
        f"{training['seconds']:.0f} s, seed {training['seed']} (training) and {result['seed']} (evaluation); "
        f"weights {model['weights_sha256'][:12]}; evaluated on "
        f"{result['environment']['hardware']}, torch {result['environment']['torch']}."
    )


def page(results: dict[str, dict[str, Any]]) -> str:
    """All of docs/results.md."""
    lines = [PREAMBLE.format(names=" ".join(f"runs/{name}/evaluation/result.json" for name in results))]
    lines += [model_line(name, result) for name, result in results.items()]
    first = next(iter(results.values()))
    lines.append(
        f"\n## Query loss on {first['split']} tasks, {first['shots']} shots, {first['queries']} queries a task\n"
    )
    lines.append("| model | tasks | unadapted | scratch | adapted (N) | adapted - unadapted | adapted - scratch |")
    lines.append("|---" * 7 + "|")
    for name, result in results.items():
        rows = {row["row"]: row for row in result["rows"] + result["differences"]}
        cells = [figure(rows["unadapted"]), figure(rows["scratch"])]
        cells.append(f"{figure(rows['adapted'])} (N = {rows['adapted']['steps']})")
        cells += [figure(rows[f"adapted - {other}"]) for other in ("unadapted", "scratch")]
        lines.append(f"| {name} | {rows['adapted']['tasks']} | {' | '.join(cells)} |")
    steps = [point["steps"] for point in first["curve"]]
    lines.append("\n## Adapted query loss against the number of inner steps N\n")
    lines.append(f"| model | {' | '.join(f'N = {n}' for n in steps)} |")
    lines.append("|---" * (len(steps) + 1) + "|")
    for name, result in results.items():
        lines.append(f"| {name} | {' | '.join(figure(point) for point in result['curve'])} |")
    return "\n".join(lines) + "\n"


def short_table(result: dict[str, Any]) -> str:
    """The README's table of one model."""
    tasks = result["rows"][0]["tasks"]
    about = f"{result['shots']} shots, {tasks} {result['split']} letters, seed {result['seed']}"
    lines = [f"| {about} | inner steps | query loss, nats per image [95 % interval over tasks] |", "|---|---|---|"]
    for row in result["rows"] + result["differences"]:
        lines.append(f"| {row['row']} | {row.get('steps', '')} | {figure(row)} |")
    return "\n".join(lines) + "\n"


def main(paths: list[str]) -> None:
    """Rewrite the page, and what stands between the README's marks."""
    results = {Path(p).parent.parent.name: json.loads(Path(p).read_text(encoding="utf-8")) for p in paths}
    (ROOT / "docs" / "results.md").write_text(page(results), encoding="utf-8")
    before, _, rest = (ROOT / "README.md").read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    table = short_table(results["quickstart"])
    (ROOT / "README.md").write_text(f"{before}{MARKS[0]}\n{table}{MARKS[1]}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
