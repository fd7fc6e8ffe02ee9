"""Write results/performance/README.md from the files of `benchmarks/`.

python -m experiments.performance_page     # where meta_gradients.json, growth.json and everyday.json are
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.pages import RESULTS, write_page
from experiments.runs import parser
from metagen.report.tables import markdown_table
from metagen.storage.strict_json import read_json

FOLDER = RESULTS / "performance"
HEAD = """# How fast is it?

Made by `python -m experiments.performance_page` from the JSON files beside it; what it means is in
[performance.md](../../docs/performance.md). All of it was measured on {hardware}, torch {torch}, with nothing else at
work. Rates are medians; in brackets, the least and the most.
"""
META = """## Meta-gradients

`python -m benchmarks.meta_gradients --out results/performance`, {repeats} turns: tasks a second of one meta-gradient,
{tasks} tasks of 5 support and 15 query images, a convolutional VAE at 28 px, all weights moving, and the ratio to the
best of the plain loop, higher, TorchOpt and learn2learn. All gradients agree. Memory is what tensors held at once.
"""
ROOFLINE = """## What the processor can do

`python -m benchmarks.roofline --out results/performance`; memory {bandwidth:.0f} GB/s, {threads} threads.
"""
GROWTH = """## Growth

`python -m benchmarks.growth --out results/performance`: seconds of a meta-step against one size at a time, the others
at {middle}. A slope of 1 is proportional.

![Seconds of a meta-step by tasks, steps, size and parameters](growth.png)
"""
PROCESSES = """## Two processes

`python -m benchmarks.processes --out results/performance`: a meta-step of MAML (16 tasks, 5 steps, one thread each)
takes {one:.3f} s with one process and {two:.3f} s with two, which share the tasks: {ratio:.2f} times as fast, the
median of the turns [{least:.2f}, {most:.2f}].
"""
EVERYDAY = """## Everyday

`python -m benchmarks.everyday --root .data --out results/performance`: seconds.
"""


def meta_rows(found: dict[str, Any]) -> list[str]:
    """A table for each kind of learner: ways by numbers of inner steps, and memory at the most steps."""
    lines: list[str] = []
    rows = found["rows"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        own = [row for row in rows if row["kind"] == kind]
        steps = sorted({row["steps"] for row in own})
        table = []
        for way in dict.fromkeys(row["way"] for row in own):
            at = {row["steps"]: row for row in own if row["way"] == way}
            table.append([way, *(_rate(at[n]) for n in steps), f"{at[steps[-1]]['mib']:.0f}"])
        headings = [kind, *(f"{n} inner steps" for n in steps), f"MiB at {steps[-1]}"]
        lines += [*markdown_table(headings, table), ""]
    return lines


def _rate(row: dict[str, Any]) -> str:
    return f"{row['rate']:.1f} [{row['least']:.1f}, {row['most']:.1f}], x{row['ratio']:.2f}"


def waits(found: dict[str, Any]) -> list[list[str]]:
    """Rows of seconds."""
    shown = {**found["commands"], **found["adaptation"]}
    rows = [[name, f"{s['median']:.3g} [{s['least']:.3g}, {s['most']:.3g}]"] for name, s in shown.items()]
    step = "a training step (16 tasks of Omniglot, MAML of a VAE by 5 steps)"
    data = {"share": f"data of {step}", "share of new images": "the same while images are read for the first time"}
    return [*rows, *([label, f"{found['pipeline'][name]:.1%} of the step"] for name, label in data.items())]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser(__doc__).parse_args(argv)
    names = ("meta_gradients", "roofline", "growth", "processes", "everyday")
    meta, roofline, growth, processes, everyday = (read_json(FOLDER / f"{name}.json") for name in names)
    work = [[row["what"], f"{row['gflop']:.2f}", f"{row['gflops']:.0f}"] for row in roofline["rows"]]
    slopes = [[line["network"], line["varied"], f"{line['slope']:.2f}"] for line in growth["lines"]]
    ratios = [turn["ratio"] for turn in processes["turns"]]
    middle = ", ".join(f"{name} {value}" for name, value in growth["middle"].items())
    write_page(
        FOLDER,
        [
            HEAD.format(hardware=meta["environment"]["hardware"], torch=meta["environment"]["torch"]),
            META.format(repeats=meta["repeats"], tasks=meta["rows"][0]["tasks"]),
            *meta_rows(meta),
            ROOFLINE.format(bandwidth=roofline["gb_s"], threads=roofline["threads"]),
            *markdown_table(["what", "GFLOP", "GFLOP/s"], work),
            "",
            GROWTH.format(middle=middle),
            *markdown_table(["network", "size", "slope"], slopes),
            "",
            PROCESSES.format(**processes, least=min(ratios), most=max(ratios)),
            EVERYDAY,
            *markdown_table(["what", "seconds"], waits(everyday)),
        ],
    )


if __name__ == "__main__":
    main()
