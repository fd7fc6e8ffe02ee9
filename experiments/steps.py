"""Where do steps on the weights do what context cannot? Every learner from one token VAE, on tasks of six kinds.

    python -m experiments.shifts --root DIR           # the tasks that are not those of metagen
    python -m experiments.steps --root DIR            # DIR holds Omniglot; hours on two cores, to be gone on with
    python -m experiments.steps_page                  # results/steps/README.md, from the files of the rows

All begin from one model of Omniglot that reads its support, `--base`. Rows of `fine_tuned` take it as it is, the others
are meta-trained from it for so many processor seconds, on train tasks of all kinds. Of each a small search on val tasks
of all kinds chooses the rate and what moves, and for each kind and number of shots the number of steps. Sampling
options are chosen on val tasks of each kind, of the base without steps and after 20, and shared by all rows. Then
`metagen evaluate` measures test tasks: "adapted" and "context only" are one model with and without steps, on the same
tasks and draws.

The file of a row, results/steps/rows/ROW.json, is written anew after each kind of tasks. What was measured before is
not measured again, and other numbers of shots, seeds or tasks add to what the file holds.
"""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from experiments.league import Diverged, Options, cost_of_training, fit, share, training_of
from experiments.league_plans import TOKENS, Plan, fine_tuned, plans
from experiments.pages import RESULTS, rounded
from experiments.runs import evaluated, made, parser, revision, weights
from experiments.shifts import Tasks, write
from metagen.evaluation.criterion import ByLoss
from metagen.evaluation.sampling_choice import take_sampling
from metagen.learners import adapt_after, learners
from metagen.model import Model, load_base
from metagen.report.result import read_result
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import read_json, to_json
from metagen.tasks.splits import SPLITS, Split, read_split
from metagen.training.episode_data import EpisodeData

STEPS = (1, 2, 5, 10, 20, 40)  # among which the number of steps is chosen
SEARCHED_SHOTS = 5  # at which the cells of a search are compared
TUNED_SHOTS = (5, 10)  # at which sampling options are chosen
TUNED_STEPS = 20  # after which they are chosen anew
QUERIES = 10
MIXED = {"train": 40, "val": 2, "test": 1}  # tasks of each kind that the mixture has; a split has to name a test task
PLAIN = {"support_augment": 0.0}  # of inner steps that no training prepared, but where a plan says so
FIGURES = ("fd", "recognisability", "diversity_relative", "copy_ratio", "near_copies")


@dataclass(frozen=True)
class Place:
    """A kind of tasks.

    Attributes:
        title: what they are.
        data: options of the task set, as `EpisodeData` takes them.
        shots: the numbers of support images that leave so many queries.
        varied: whether tasks differ in how many images they have, so that some have too few.
    """

    title: str
    data: Mapping[str, Any]
    shots: tuple[int, ...]
    varied: bool = False

    def options(self, shots: int) -> dict[str, Any]:
        """Those of the tasks at so many shots, without such as have too few images."""
        enough = {"split_file": str(large_enough(self.data, shots + QUERIES))} if self.varied else {}
        return {**self.data, **enough, "size": 28, "shots": shots, "queries": QUERIES}

    def words(self, shots: int) -> list[object]:
        """The same as words of a command."""
        return [f"--data.{name}={to_json(value)}".replace('"', "") for name, value in self.options(shots).items()]


def large_enough(data: Mapping[str, Any], images: int) -> Path:
    """A split of the tasks that have so many images; it is written where it is not there."""
    whole = Path(data["split_file"])
    path = whole.with_name(f"split-{images}.json")
    if not path.is_file():
        split = read_split(whole)
        kept = [[name for name in split[part] if _count(data, name) >= images] for part in SPLITS]
        write_atomically(path, Split(*map(tuple, kept)).to_json().encode())
    return path


def _count(data: Mapping[str, Any], task: str) -> int:
    return len(list((Path(data["root"]) / task).iterdir()))


def places(root: str, shifts: Path) -> dict[str, Place]:
    """The kinds of tasks, those that the base knows first."""

    def folder(name: str, **more: object) -> dict[str, object]:
        own = shifts / name
        return {"task_set": "folder", "root": str(own / "tasks"), "split_file": str(own / "split.json"), **more}

    return {
        "omniglot": Place("characters it never saw", {"task_set": "omniglot", "root": root}, (1, 5, 10)),
        "glyphs": Place("letters of other scripts, in fonts", {"task_set": "glyphs"}, (1, 5, 10)),
        "digits": Place("digits", folder("digits"), (1, 5, 10, 20)),
        "paper": Place("photographs of ink on paper", folder("paper", invert=True), (1, 5, 10)),
        "hands": Place("one person's hand, an alphabet", folder("hands"), (5, 10, 20), varied=True),
        "typefaces": Place("one typeface, the Latin alphabet", folder("typefaces"), (5, 10, 20)),
    }


def place_of(league: Options, name: str) -> Path:
    """The folder of a row's models and evaluations."""
    return Path(league.runs) / re.sub(r"[ ,:]+", "-", name).replace("+", "p")


def mixture(league: Options) -> Path:
    """Train tasks of all kinds, as many of each as there are or `MIXED` says, and fewer val tasks; its folder."""
    folder = Path(league.runs) / "mixture"
    if not folder.is_dir():
        write(folder, _mixed(places(league.root, league.shifts)))
    return folder


def _mixed(kinds: Mapping[str, Place]) -> Tasks:
    for title, place in kinds.items():
        task_set = EpisodeData(**{**place.options(1), "queries": QUERIES}).episodes.task_set
        for part, most in MIXED.items():
            names = task_set.split[part]  # a split has to name a test task
            for name in names[:: max(1, len(names) // most)][:most]:
                yield part, f"{title}-{part}/{name}", task_set.images(name).float() / 255


def untrained(base: Model, plan: Plan, options: Mapping[str, Any], out: Path) -> Path:
    """A learner over the base's generator as it is, saved."""
    learner = learners[plan.learner](copy.deepcopy(base.learner.generator), **plan.fixed, **options)
    learner.eval()
    for name, value in {**PLAIN, **plan.generator}.items():
        setattr(learner.generator, name, value)
    Model(learner, base.info, split=base.split, seen=base.seen).save(out, overwrite=True)
    return out


def val_losses(export: Path, place: Place, shots: int, tasks: int, most: int) -> dict[int, float]:
    """The mean query loss of val tasks after each number of steps, up to `most`, at which it is finite."""
    episodes = EpisodeData(**place.options(shots)).episodes
    numbers = episodes.held_out_numbers("val", tasks)
    learner, episode = load_base(export).learner, episodes.of("val", numbers)
    steps = (0, *(n for n in STEPS if n <= most))
    after = adapt_after(learner, episode.support, (0, "val"), episode.numbers, steps)
    means = {n: float(ByLoss()(each, episode.query, (0, "val"), numbers).mean()) for n, each in after.items()}
    return {n: mean for n, mean in means.items() if math.isfinite(mean)}


def searched(league: Options, name: str, plan: Plan) -> dict[str, Any]:
    """The cell whose best number of steps has the least loss, the mean over all kinds of tasks; and every cell."""
    if len(plan.grid) == 1:
        return {"chosen": plan.grid[0], "cells": []}
    cells = []
    for number, cell in enumerate(plan.grid):
        note = place_of(league, name) / f"cell-{number}.json"
        if not note.is_file():
            write_atomically(note, to_json(_scored(league, name, plan, cell, number)).encode())
        cells.append(read_json(note))
    finite = [cell for cell in cells if cell["loss"] is not None]
    if not finite:
        raise Diverged(f"{name}: no cell of its search stayed finite")
    return {"chosen": min(finite, key=lambda cell: float(cell["loss"]))["options"], "cells": cells}


def _scored(league: Options, name: str, plan: Plan, cell: dict[str, Any], number: int) -> dict[str, Any]:
    try:
        export = model_of(league, name, plan, cell, f"pilot-{number}", league.pilot)
        found = {}
        for title, place in places(league.root, league.shifts).items():
            by_steps = val_losses(
                export, place, min(SEARCHED_SHOTS, max(place.shots)), league.search_tasks, league.most
            )
            if not any(by_steps):
                raise Diverged(f"{title}: no number of steps stayed finite")
            found[title] = min(loss for steps, loss in by_steps.items() if steps)
    except Diverged as error:
        return {"options": cell, "loss": None, "error": str(error)}
    return {"options": cell, "loss": sum(found.values()) / len(found), "by_place": found}


def model_of(
    league: Options, name: str, plan: Plan, options: dict[str, Any], run: str, episodes: int, seed: int = 0
) -> Path:
    """A model of a row: meta-trained for so many meta-steps, or the base's weights as they are."""
    place = place_of(league, name) / run
    if name in fine_tuned():
        return untrained(load_base(league.base), plan, options, place / "export")
    few: tuple[object, ...] = ("--data.val_tasks", 12, "--choose_sampling", "false", "--samples.generated", 1)
    mixed = mixture(league)
    few += ("--data.task_set", "folder", "--data.root", mixed / "tasks", "--data.split_file", mixed / "split.json")
    few += ("--model.rate", 2e-4, "--model.schedule", "cosine")  # few tasks a meta-step would undo what the base knows
    few += ("--trainer.val_check_interval", episodes)  # once: validation takes as long as this little training
    return fit(league, plan, options, place, episodes, *few, "--data.seed", seed, "--seed_everything", seed)


def sampling_of(league: Options, title: str, place: Place) -> tuple[dict[str, float], dict[str, float]]:
    """Sampling options of the base for a kind of tasks, without steps and after them, chosen on its val tasks."""
    model: str | Path = league.base
    chosen = []
    for name, steps in (("sampling", ()), ("sampling_after_steps", ("--steps", TUNED_STEPS))):
        out = Path(league.runs) / name / title / "tuned"
        shots = [min(k, max(place.shots)) for k in TUNED_SHOTS]
        words = ["--shots", to_json(shots), "--limit", league.tuning_tasks, "--extractor", "omniglot-select", *steps]
        command = ["tune", "--model", model, "--out", out, "--overwrite", *words, *place.words(1)]
        model = made(out, command, weights(league.base))
        chosen.append(load_base(model).info[name]["chosen"])
    return chosen[0], chosen[1]


def at_place(league: Options, export: Path, title: str, place: Place, shots: int) -> dict[str, Any]:
    """A model's result on test tasks of a kind, with the number of steps that val tasks of it ask for."""
    folder = export.parent / title / str(shots)
    by_steps = val_losses(export, place, shots, league.search_tasks, league.most)
    steps = min((n for n in by_steps if n), key=by_steps.__getitem__, default=0)
    model = load_base(export)
    plain, model.learner.generator.after_steps = sampling_of(league, title, place)
    take_sampling(plain, model.learner)
    model.save(folder / "model", overwrite=True)
    words = ["--limit", league.test_tasks, "--batch", 4]  # attention by hand takes much memory
    words += ["--extractor", "omniglot-report", "--metrics", to_json(FIGURES)]
    words += ["--curve", to_json(league.curve), *(["--steps", steps] if steps else []), *place.words(shots)]
    return {"steps": steps, "val": {str(n): loss for n, loss in by_steps.items()}, **kept(folder, words)}


def kept(folder: Path, words: Sequence[object]) -> dict[str, Any]:
    """The part of a result that a row's file keeps: its rows and differences, and the values of the adapted model."""
    result = read_result(evaluated(folder / "model", folder / "evaluation", *words))
    values = load_file(folder / "evaluation" / "values.safetensors")
    own = {name: each for name, each in values.items() if name.startswith(("adapted/", "scale/"))}
    names = ("rows", "differences", "curve", "tasks", "environment", "extractors", "shots", "queries", "real")
    by_key: Mapping[str, Any] = result
    return {**{name: by_key[name] for name in names}, "values": rounded(own)}


def row(league: Options, name: str) -> None:
    """Search, train, measure; the file of the row after each kind of tasks."""
    plan, trained = rows()[name], name not in fine_tuned()
    search = searched(league, name, plan)
    pilot = place_of(league, name) / "pilot-0" / "export"
    cost = cost_of_training(league, plan, pilot) if trained else {}
    episodes = max(3, int(league.seconds / cost["step_seconds"])) if trained else 0
    about = {
        "name": name,
        "learner": plan.learner,
        "options": {**plan.fixed, **search["chosen"], **plan.generator},
        "base_sha256": weights(league.base),
        "seconds": league.seconds,
    }
    file = league.out / "rows" / f"{place_of(league, name).name}.json"
    known = read_json(file) if file.is_file() else {}
    by_seed = known["by_seed"] if to_json({key: known.get(key) for key in about}) == to_json(about) else {}
    content = {**about, "search_tasks": league.search_tasks, "search": search, "training_cost": cost}
    content |= {"revision": revision(), "by_seed": by_seed}
    file.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(league.seeds if trained else 1):
        export = model_of(league, name, plan, search["chosen"], f"seed-{seed}", episodes, seed)
        measured = by_seed.setdefault(str(seed), {"places": {}})
        measured["training"] = training_of(export) if trained else None
        kinds = {title: place for title, place in places(league.root, league.shifts).items() if title in league.kinds}
        for title, place in kinds.items():
            for shots in (k for k in place.shots if k in league.shots):
                result = at_place(league, export, title, place, shots)
                measured["places"].setdefault(title, {})[str(shots)] = result
                write_atomically(file, (to_json(content) + "\n").encode())


def rows() -> dict[str, Plan]:
    """The plan of each row by its name: first those that are not meta-trained."""
    return {**fine_tuned(), **plans(TOKENS)}


def main(argv: Sequence[str] | None = None) -> None:
    """Choose sampling options, then share the rows by processes."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--base", default="omniglot", help="a token VAE of Omniglot")
    options.add_argument("--shifts", type=Path, default=Path("runs/shifts"), help="what experiments.shifts wrote")
    options.add_argument("--runs", type=Path, default=Path("runs/steps"))
    options.add_argument("--out", type=Path, default=RESULTS / "steps", help="folder of the result")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--seeds", type=int, default=1)
    options.add_argument("--tasks", type=int, default=4, help="of a meta-step")
    options.add_argument("--pilot", type=int, default=12, help="meta-steps of each cell of a search")
    options.add_argument("--search_tasks", type=int, default=4, help="val tasks of each kind that score a cell")
    options.add_argument("--tuning_tasks", type=int, default=12, help="val tasks that choose sampling options")
    options.add_argument("--most", type=int, default=10, help="inner steps")
    options.add_argument("--shots", type=int, nargs="+", default=[1, 5, 10, 20])
    kinds = list(places("", Path()))
    options.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, help="of tasks that are measured")
    options.add_argument("--test_tasks", type=int, default=30)
    options.add_argument("--curve", type=int, nargs="*", default=[], help="numbers of inner steps")
    options.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options.add_argument("--only", nargs="*", choices=list(rows()), help="rows; all of them")
    league = options.parse_args(argv)
    for title in league.kinds:
        sampling_of(league, title, places(league.root, league.shifts)[title])
    mixture(league)
    share(row, league, league.only or rows())


if __name__ == "__main__":
    main()
