"""Embeddings of Omniglot's characters by models of several kinds, scored: results/embeddings.

    python experiments/embeddings.py --root DIR      # DIR holds Omniglot; some ten minutes on one core

The models are those of configs/ (`metagen fit --config configs/omniglot/NAME.yaml --data.root DIR`), in
runs/omniglot-NAME/export. Embeddings by the same options are reused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

from experiments.pages import RESULTS, paragraphs, write_page
from experiments.runs import made, parser, revision_of, weights
from metagen.embeddings.embedder import HEADINGS, PRIORS, SEEDS, distances
from metagen.report.result import TaskEstimate
from metagen.report.tables import difference_cell, markdown_table, short
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import number, page, read_json

WAYS: dict[str, tuple[str, ...]] = {
    "omniglot-vae-maml": ("gradient", "fisher", "adapted", "filtering"),
    "omniglot-vae-joint": ("gradient", "fisher", "adapted", "filtering"),
    "omniglot-set-vae-binary": ("generative", "gradient"),
}
REFERENCES = ("pixels", "extractor")
KEPT = ("revision", "environment", "split", "shots", "tasks", "train_tasks", "neighbours", "prior_samples", "seed")
HEAD = """# Embeddings of tasks

Made by `python experiments/embeddings.py --root DIR` at {revision}, DIR holding Omniglot. Of each of {tasks} test
characters a few numbers ({dims} at most), made of {shots} images of it alone, by `metagen embed --model
runs/MODEL/export --ways {ways} ...`: the ways are explained in [evaluation.md](../../docs/evaluation.md). All are
fitted on the same {train_tasks} train characters{but}; seed {seed}; {hardware}.

*Same group* is the share of a character's {neighbours} nearest other characters that are of its alphabet; *itself* how
often the nearest of all characters' other halves (as many other images) is its own. Per cent, ± half the 95 % interval:
over {alphabets} whole alphabets of the one, over characters of the other. Differences are paired by character, * where
the interval is clear of zero. *GAN* and *Gaussian* are energy distances, from the embeddings of test characters, of
{prior_samples:,} draws from a small GAN and from one Gaussian, each fitted to the train characters': how well one can
make up new tasks (mean of {seeds} seeds, ± half their range). *Train tasks* is that of the train characters' own
embeddings: the floor, what a perfect copy of them would score.
"""


def of_model(name: str, root: str) -> dict[str, Any]:
    """The scores of a model's embeddings, and the path of its map."""
    model, out = Path("runs") / name / "export", Path("runs/embeddings") / name / "embedding"
    words = ("--data.root", root, "--data.shots", 5, "--data.queries", 10, "--limit", 200, "--fitted_on", 300)
    command = ["embed", "--model", model, "--ways", *WAYS[name], *words, "--seed", 0, "--out", out, "--overwrite"]
    product = made(out, command, weights(model))
    result: dict[str, Any] = read_json(product / "embeddings.json")
    return {**result, "revision": revision_of(product), "map": product / "embedding.png"}


def cut(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """The part of a model's result that is shown, without single tasks and paths."""
    model = {"model": name, "weights_sha256": result["model"]["weights_sha256"]}
    seen = {"extractor": result["extractor"] and result["extractor"]["name"]}
    return {**model, **seen, **{key: result[key] for key in (*KEPT, "rows", "differences", "chance")}}


def section(name: str, result: dict[str, Any]) -> list[str]:
    """A model's table."""
    less = [f"less {other}" for other in REFERENCES]
    headings = ["", "d", *(text for heading in HEADINGS.values() for text in (heading, *less)), *PRIORS.values()]
    chance = [text for key in HEADINGS for text in (f"{result['chance'][key]:.1f}", *[""] * len(less))]
    rows = [*cells(result), ["chance", "", *chance, *[""] * len(PRIORS)]]
    about = f"Weights {result['model']['weights_sha256'][:12]}, embedded at {result['revision']}; "
    lines = [f"## {name}\n", f"{about}these figures as JSON: [{name}.json]({name}.json).\n"]
    return [*lines, *markdown_table(headings, rows), ""]


def cells(result: dict[str, Any]) -> list[list[str]]:
    """The rows of a model's table: scores, each with its differences from the references, and priors."""
    against = {row["row"]: row["figures"] for row in result["differences"]}
    lines = []
    for row in result["rows"]:
        line = [row["row"], str(row["dims"])]
        for key in HEADINGS:
            less = (against.get(f"{row['row']} - {other}", {}).get(key) for other in REFERENCES)
            line += [short(row["figures"][key]), *map(difference, less)]
        lines.append([*line, *distances(row["priors"])])
    return lines


def difference(figure: dict[str, Any] | None) -> str:
    """A difference, marked where its interval is clear of zero."""
    if figure is None:
        return ""
    clear = number(figure["low"]) > 0 or number(figure["high"]) < 0
    return difference_cell(cast(TaskEstimate, {**figure, "clear": clear}))


def exceptions(results: Iterable[dict[str, Any]]) -> str:
    """The ways that are fitted on fewer train tasks than the others, and why."""
    fewer = {row["row"]: row["train_tasks"] for result in results for row in result["rows"]}
    given = max(fewer.values())
    words = [
        f"but {name} on {n}, since it adapts models to the other {given - n}" for name, n in fewer.items() if n < given
    ]
    return "".join(f", {each}" for each in words)


def page_lines(results: dict[str, dict[str, Any]]) -> list[str]:
    """The page of all models."""
    first = next(iter(results.values()))
    details = {
        "revision": " and ".join(sorted({result["revision"] for result in results.values()})),
        "hardware": first["environment"]["hardware"],
        "ways": " ".join(next(iter(WAYS.values()))),
        "alphabets": len(set(first["groups"])),
        "seeds": SEEDS,
        "but": exceptions(results.values()),
        "dims": max(row["dims"] for row in first["rows"]),
    }
    lines = [line for name, result in results.items() for line in section(name, result)]
    picture = "![Test characters, placed by the first way of the first model](map.png)"
    return [paragraphs(HEAD.format(**{**first, **details})), *lines, picture]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page, the files of figures, and the map of the first model."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--out", type=Path, default=RESULTS / "embeddings", help="folder of the result")
    given = options.parse_args(argv)
    results = {name: of_model(name, given.root) for name in WAYS}
    write_page(given.out, page_lines(results), {"map.png": next(iter(results.values()))["map"].read_bytes()})
    for name, result in results.items():
        write_atomically(given.out / f"{name}.json", page(cut(name, result)))


if __name__ == "__main__":
    main()
