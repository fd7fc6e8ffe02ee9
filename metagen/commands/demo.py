"""`metagen demo`: the first minutes with metagen."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from metagen.commands.fit import fit
from metagen.errors import MetagenError, check_at_least, check_positive
from metagen.evaluation.before_after import FIGURES, compare, picture
from metagen.evaluation.extractor_choice import extractor_of
from metagen.model import load_base
from metagen.storage.bundled import resource
from metagen.storage.files import check_free, placed
from metagen.storage.images import save_png
from metagen.tasks.task_data import TaskData

BEFORE = "omniglot"  # which was trained on people's drawings and never saw a font
SHOWN = 10  # letters in a picture


def demo(out: str = "runs/demo", minutes: float = 3.0, tasks: int = 40, overwrite: bool = False) -> None:
    """Draw letters from one image each; train for a few minutes on other letters; draw again, and compare.

    The letters are made from fonts, and those that are drawn are of alphabets held out from training.

    Args:
        out: the folder to write to: first.png, before-and-after.png, and the run.
        minutes: of training.
        tasks: held-out letters to measure on, 3 or more.
        overwrite: replace what stands at `out`.
    """
    check_positive("minutes", minutes)
    check_at_least("tasks", tasks, 3)
    folder, started = placed(out), time.perf_counter()
    first, run = folder / "first.png", folder / "training"
    check_free(run, overwrite)
    data = TaskData("glyphs", shots=1, queries=14)
    before = load_base(BEFORE).learner
    _show(first, picture({f"{BEFORE} draws": before}, data.episodes, SHOWN), overwrite)
    _say(started, f"{SHOWN} letters that {BEFORE} never saw, each drawn from one image: {first}")
    _say(started, f"trains on other letters for {minutes:g} minutes; pictures on the way in {run / 'samples'}")
    words = ["--config", str(resource("configs", "demo.yaml")), "--run_dir", str(run), "--time_limit", f"{minutes:g}"]
    fit([*words, "--overwrite", str(overwrite).lower()], "metagen demo")
    after = load_base(run / "export").learner
    extractor, info = extractor_of(None, data, "test")
    figures = compare(before, after, data.episodes, tasks, (info["name"], extractor))
    last = folder / "before-and-after.png"
    _show(last, picture({"before": before, "after": after}, data.episodes, SHOWN), overwrite)
    _say(started, f"before and after, the same letters: {last}")
    _print_table(figures, tasks)
    print(f"next: metagen adapt --model {run / 'export'} --support FOLDER_OF_IMAGES --out mine")


def _show(path: Path, image: torch.Tensor, overwrite: bool) -> None:
    """Write a picture; refuse to replace one unasked."""
    if path.exists() and not overwrite:
        raise MetagenError(f"{path}: exists; give another --out, or replace it with --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(image, path)


def _say(started: float, text: str) -> None:
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"{minutes}:{seconds:02d}  {text}", flush=True)


def _print_table(figures: dict[str, dict[str, str]], tasks: int) -> None:
    headings = [heading for heading, _ in FIGURES.values()]
    table = Table(f"{tasks} letters, 1 image each", *headings)
    for name, row in figures.items():
        table.add_row(name, *(row[heading] for heading in headings))
    Console(width=110, markup=False).print(table)
    for heading, clause in FIGURES.values():
        print(f"  {heading}: {clause}")
