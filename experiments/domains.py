"""A model of one domain in another: what do steps add to context, from 20 and 100 images of many kinds?

    python -m experiments.shifts --root DIR      # DIR holds Omniglot; the digits
    python -m experiments.domains --root DIR     # about an hour on one core, to be gone on with

A task is a whole domain: images drawn from all its held-out kinds (characters, letters, digits), of which some are
given and others judge. The sources are the bundled models `omniglot` and `glyphs`. Rows: the source without steps;
steps of Adam on a part of it, their number chosen on val draws; the same network, begun anew and trained on the images
given alone; a model of the target; and, where the target has none, the likelier source: of each draw the one that finds
half of the images given likelier, given the other half. Of the row with the best val loss images are measured, too, at
the fewest given. Writes results/domains/README.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch

from experiments.league import Options
from experiments.league_plans import CROSS
from experiments.pages import RESULTS, paragraphs, row_of, write_page
from experiments.runs import parser, revision
from experiments.shifts import Tasks, write
from experiments.steps import FIGURES, kept, places
from experiments.steps_page import gained
from metagen.core.seeding import numpy_rng
from metagen.evaluation.baselines import untrained as untrained_network
from metagen.evaluation.criterion import ByLoss
from metagen.generators import TokenVAE
from metagen.learners import Joint, adapt_after
from metagen.metrics.intervals import over_tasks_interval
from metagen.model import Model, load_base
from metagen.report.headings import HEADINGS
from metagen.report.result import TaskEstimate
from metagen.report.tables import by_column, difference_cell, markdown_table, short
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import page, read_json, to_json
from metagen.tasks.episodes import Episode
from metagen.training.episode_data import EpisodeData

SOURCES, TARGETS = ("omniglot", "glyphs"), ("glyphs", "omniglot", "digits")
DRAWS = {"train": 1, "val": 2, "test": 6}  # of train kinds none is used; a split has to name one
MOVED: dict[str, tuple[tuple[str, ...], float]] = {
    "cross-attention": (CROSS, 3e-4),
    "all weights": (("*",), 1e-4),
}
AUGMENT = 1.0  # see `TokenVAE`
MORE = 3  # times as many steps are taken from networks that begin anew
NO_STEP, ALONE, CEILING, LIKELIER = "no step", "the images alone", "a model of the target", "the likelier source"
PREAMBLE = """# A model of one domain in another

Made by `python -m experiments.domains --root DIR --given {given}` (revision {revision}, one thread). A task is a draw
of images from a whole domain, of all its held-out kinds: n are given, {queries} others judge. All rows see the images
given as context. Steps are of Adam, on 10 of the images at a time through one random affine map; their number N is
chosen on {val} val draws. Figures are over {test} test draws, with half the 95 % interval, which tells of the images
drawn and not of the domain; * where a difference is clear of zero. The query loss is in nats an image.
"""


def episode_of(options: Mapping[str, Any], part: str, given: int, queries: int) -> Episode:
    """All draws of a domain that belong to a part of the split."""
    episodes = EpisodeData(**options, size=28, shots=given, queries=queries).episodes
    return episodes.of(part, episodes.held_out_numbers(part))


def drawn(options: Mapping[str, Any], title: str, size: int) -> Tasks:
    """Draws of `size` images from all kinds of each part; no image is in two."""
    task_set = EpisodeData(**options, size=28, shots=1, queries=1).episodes.task_set
    for part, count in DRAWS.items():
        images = torch.cat([task_set.images(name) for name in task_set.split[part]]).float() / 255
        order = numpy_rng("domain", title, part).permutation(len(images))
        for draw in range(count):
            yield part, f"{part}-{draw}", images[torch.from_numpy(order[draw * size : (draw + 1) * size])]


def domains(league: Options) -> dict[str, dict[str, Any]]:
    """Options of the task set of each domain, whose draws are made where they are not there."""
    found = {}
    for title in TARGETS:
        folder = Path(league.runs) / title
        if not folder.is_dir():
            of_kinds = places(league.root, league.shifts)[title].data
            write(folder, drawn(of_kinds, title, max(league.given) + league.queries))
        split = str(folder / "split.json")
        found[title] = {"task_set": "folder", "root": str(folder / "tasks"), "split_file": split}
    return found


def learner_of(source: str, row: str) -> Joint:
    """A source that takes the steps of a row."""
    base = load_base(source).learner
    moved, rate = MOVED.get(row, (("*",), 1e-3))
    learner = Joint(untrained_network(base) if row == ALONE else base.generator, rate, "adam", moved)
    cast(TokenVAE, learner.generator).support_augment = AUGMENT
    learner.eval()
    return learner


def losses(learner: Joint, episode: Episode, part: str, steps: Iterable[int]) -> dict[str, list[float]]:
    """The query loss of each draw after each number of steps."""
    found: dict[str, list[float]] = {str(n): [] for n in steps}
    for place, number in enumerate(episode.numbers):  # one by one: to attend to a hundred images takes much memory
        own = slice(place, place + 1)
        after = adapt_after(learner, episode.support[own], (0, part), [number], [*map(int, found)])
        for n, adapted in after.items():
            found[str(n)].append(ByLoss()(adapted, episode.query[own], (0, part), [number]).item())
    return found


def measured(league: Options, source: str, target: str, given: int, row: str) -> dict[str, Any]:
    """N by the val draws, and the loss of each test draw after N steps; kept in a note."""
    note = Path(league.runs) / "notes" / f"{source}-{target}-{given}-{row.replace(' ', '-')}.json"
    if not note.is_file():
        domain, learner = domains(league)[target], learner_of(source, row)
        steps, by_steps = 0, dict[str, list[float]]()
        if row != NO_STEP:
            candidates = [n * MORE if row == ALONE else n for n in league.steps]
            by_steps = losses(learner, episode_of(domain, "val", given, league.queries), "val", candidates)
            steps = int(min(by_steps, key=lambda n: sum(by_steps[n])))
        test = losses(learner, episode_of(domain, "test", given, league.queries), "test", [steps])
        found = {"steps": steps, "val": by_steps, "test": test[str(steps)]}
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(note, page(found))
    return cast(dict[str, Any], read_json(note))


def likelier(league: Options, target: str, given: int) -> list[str]:
    """Of each test draw the source to which half of the images given are likelier, given the other half."""
    episode, half = episode_of(domains(league)[target], "test", given, league.queries), given // 2
    halves = Episode(0, episode.tasks, episode.numbers, episode.support[:, :half], episode.support[:, half:])
    by_source = {source: losses(learner_of(source, NO_STEP), halves, "test", [0])["0"] for source in SOURCES}
    return [min(SOURCES, key=lambda source: by_source[source][draw]) for draw in range(len(episode.tasks))]


def results(league: Options, target: str, given: int) -> dict[tuple[str, str], dict[str, Any]]:
    """Each source and row of a target: N and the loss of each test draw."""
    found = {
        (source, row): measured(league, source, target, given, row)
        for source in SOURCES
        if source != target
        for row in (NO_STEP, *MOVED)
    }
    source = next(each for each in SOURCES if each != target)
    found[source, ALONE] = measured(league, source, target, given, ALONE)
    if target in SOURCES:
        found[target, CEILING] = measured(league, target, target, given, NO_STEP)
        return found
    chosen = likelier(league, target, given)
    for row in (NO_STEP, *MOVED):
        test = [found[source, row]["test"][draw] for draw, source in enumerate(chosen)]
        steps = "/".join(sorted({str(found[source, row]["steps"]) for source in chosen}))
        found[LIKELIER, row] = {"steps": steps, "test": test}
    return found


def best_row(found: Mapping[tuple[str, str], Mapping[str, Any]], source: str) -> str:
    """The part whose steps have the best val loss."""
    return min(MOVED, key=lambda row: min(sum(each) for each in found[source, row]["val"].values()))


def figures(league: Options, source: str, target: str, given: int, row: str, steps: int) -> dict[str, Any]:
    """Measure images after the steps of a row and without, by `metagen evaluate`."""
    folder = Path(league.runs) / "evaluations" / f"{source}-{target}-{given}"
    base = load_base(source)
    Model(learner_of(source, row), base.info, split=base.split, seen=base.seen).save(folder / "model", overwrite=True)
    words = ["--extractor", "omniglot-report", "--metrics", to_json(FIGURES), "--batch", 1, "--curve", "[]"]
    options = domains(league)[target] | {"size": 28, "shots": given, "queries": league.queries}
    words += [f"--data.{name}={value}" for name, value in options.items()]
    return kept(folder, [*words, "--steps", steps])


def loss_table(found: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """A line for each source and row."""
    lines = []
    for (source, row), each in found.items():
        less: list[float] = []
        if row != NO_STEP and (without := found.get((source, NO_STEP))):
            less = [one - other for one, other in zip(each["test"], without["test"], strict=True)]
        change = difference_cell(_over(less)) if less else ""
        lines.append([source, row, each["steps"], short(_over(each["test"])), change])
    return markdown_table(["source", "what moves", "N", "query loss", "less no step"], lines)


def _over(values: Sequence[float]) -> TaskEstimate:
    found = over_tasks_interval(values)
    clear = found.low > 0 or found.high < 0
    return {"mean": found.mean, "low": found.low, "high": found.high, "tasks": found.tasks, "clear": clear}


def image_lines(source: str, row: str, result: Mapping[str, Any]) -> list[list[object]]:
    """The figures of images without steps, and what steps change."""
    without, change = by_column(row_of(result, "context only")["figures"]), gained(result)
    return [
        [source, NO_STEP, "", *(short(without[name]) for name in FIGURES)],
        [
            source,
            f"{row}, less no step",
            row_of(result, "adapted")["steps"],
            *map(difference_cell, map(change.get, FIGURES)),
        ],
    ]


def images(
    league: Options, target: str, given: int, found: Mapping[tuple[str, str], Mapping[str, Any]]
) -> list[list[object]]:
    """The lines of each source, for the part whose steps have the best val loss; and of real images."""
    lines = list[list[object]]()
    for source in (each for each in SOURCES if each != target):
        row = best_row(found, source)
        result = figures(league, source, target, given, row, found[source, row]["steps"])
        lines += image_lines(source, row, result)
    human = by_column(row_of(result, "human")["figures"])
    return [*lines, ["*real images*", "", "", *(short(human[name]) for name in FIGURES)]]


def sections(league: Options) -> Iterable[str]:
    """The losses at each target and number of images, and figures of images at the smallest."""
    headings = ["source", "", "N", *(HEADINGS[name].title for name in FIGURES)]
    for target in TARGETS:
        for given in league.given:
            found = results(league, target, given)
            yield f"## {target.capitalize()}, {given} images\n"
            yield from [*loss_table(found), ""]
            if given == min(league.given):  # to draw looking at a hundred images takes long
                yield from [*markdown_table(headings, images(league, target, given, found)), ""]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what is not there, write the page."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--shifts", type=Path, default=Path("runs/shifts"), help="what experiments.shifts wrote")
    options.add_argument("--runs", type=Path, default=Path("runs/domains"))
    options.add_argument("--out", type=Path, default=RESULTS / "domains", help="folder of the result")
    options.add_argument("--given", type=int, nargs="+", default=[20, 100], help="images")
    options.add_argument("--queries", type=int, default=50)
    options.add_argument("--steps", type=int, nargs="+", default=[5, 10, 20, 40], help="among which N is chosen")
    league = options.parse_args(argv)
    about = {"revision": revision(), "queries": league.queries, "given": " ".join(map(str, league.given)), **DRAWS}
    write_page(league.out, [paragraphs(PREAMBLE.format(**about)), *sections(league)])


if __name__ == "__main__":
    main()
