"""`metagen demo`: the first minutes with metagen."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from metagen.commands.fit import fit
from metagen.errors import MetagenError, check_at_least, check_positive
from metagen.evaluation.before_after import FIGURES, compare
from metagen.evaluation.extractor_choice import extractor_of
from metagen.model import load_base
from metagen.report.headings import HEADINGS, ROWS
from metagen.report.next_steps import adaptation, next_steps
from metagen.report.result import Row
from metagen.report.tables import block, clauses_on, picture, shown
from metagen.storage.bundled import resource
from metagen.storage.files import placed
from metagen.storage.images import save_png
from metagen.tasks.task_data import TaskData
from metagen.training.run_folder import RunFolder

BEFORE = "omniglot"  # which was trained on people's drawings and never saw a font
TRAINED = "glyphs"  # which went on from it over letters from many fonts, on a GPU
SHOWN, DRAWN = 10, 6  # letters in a picture, and drawings of each by a model


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
    first, last, run = folder / "first.png", folder / "before-and-after.png", folder / "training"
    _check_free([first, last], run, overwrite)
    folder.mkdir(parents=True, exist_ok=True)
    data = TaskData("glyphs", shots=1, queries=14)
    letters = data.episodes.of("test", data.episodes.held_out_numbers("test", SHOWN))
    trained = load_base(TRAINED).learner
    save_png(picture({f"{TRAINED} draws": trained}, letters, DRAWN), first)
    _say(started, f"{SHOWN} letters that no model here has seen, each drawn from one image: {first}")
    _say(started, f"trains {BEFORE} on other letters for {minutes:g} minutes; pictures on the way: {run / 'samples'}")
    words = ["--config", str(resource("configs", "glyphs/token-vae.yaml")), "--run_dir", str(run)]
    fit([*words, "--time_limit", f"{minutes:g}", "--overwrite", str(overwrite).lower()], "metagen demo")
    both = {"before": load_base(BEFORE).learner, "after": load_base(run / "export").learner}
    extractor, info = extractor_of(None, data, "test")
    rows = compare({**both, TRAINED: trained}, data.episodes, tasks, (info["name"], extractor))
    save_png(picture(both, letters, DRAWN), last)
    _say(started, f"before and after, the same letters: {last}")
    _print_table(rows, tasks, minutes)
    print(next_steps(adaptation(run / "export", "mine"), adaptation(TRAINED, "mine")))


def _check_free(pictures: Sequence[Path], run: Path, overwrite: bool) -> None:
    """Refuse to replace an earlier demo unasked, or what no demo left."""
    taken = [place for place in (*pictures, run) if place.exists()]
    if taken and not overwrite:
        raise MetagenError(f"{taken[0]}: exists; give another --out, or replace it with --overwrite")
    RunFolder(run, None).check(overwrite, [])


def _say(started: float, text: str) -> None:
    minutes, seconds = divmod(round(time.perf_counter() - started), 60)
    print(f"{minutes}:{seconds:02d}  {text}", flush=True)


def _print_table(rows: Sequence[Row], tasks: int, minutes: float) -> None:
    clauses = {
        "human": ROWS["human"],
        "affine x1": ROWS["affine x1"],
        "before": f"the bundled model {BEFORE}, which never saw a font",
        "after": f"the same after {minutes:g} minutes of training",
        TRAINED: "the bundled model that was trained further, on a GPU",
    }
    columns = shown(rows, {name: HEADINGS[name].title for name in FIGURES})
    print(block(rows, columns, f"{tasks} letters, 1 image each; ± half the 95 % interval"))
    print("\n".join(clauses_on(columns, clauses)))
