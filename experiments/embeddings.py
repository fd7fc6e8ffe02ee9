"""Embeddings of Omniglot's characters by models of several kinds, scored: docs/embeddings.md, its
figures (docs/embeddings/) and its map.

    python scripts/embeddings.py --root DIR      # DIR holds Omniglot; some ten minutes on one core

The models are those of configs/ (`metagen fit --config configs/NAME.yaml --data.root DIR`), in runs/NAME/export. What
was embedded by the same options is not embedded again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from league_beside import wrapped
from make_league import DOCS
from making import made, revision_of

from metagen.embeddings.embedder import PRIORS, SEEDS, distances
from metagen.report.tables import short
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.storage.strict_json import number, read_json, to_json

WAYS: dict[str, tuple[str, ...]] = {
    "omniglot-vae-maml": ("gradient", "fisher", "adapted", "filtering"),
    "omniglot-vae-joint": ("gradient", "fisher", "adapted", "filtering"),
    "omniglot-set-vae-binary": ("generative", "gradient"),
}
REFERENCES = ("pixels", "extractor")
SCORES = {"group": "alphabet %", "identity": "itself %"}
KEPT = ("revision", "environment", "split", "shots", "tasks", "train_tasks", "neighbours", "prior_samples", "seed")
HEAD = """# Embeddings of tasks

Made by `python scripts/embeddings.py --root DIR` at {revision}, DIR holding Omniglot; no figure here is typed. Of each
of {tasks} test characters a few numbers ({dims} at most), made of {shots} images of it alone, by `metagen embed --model
runs/MODEL/export --ways {ways} ...`: the ways are explained in [evaluation.md](evaluation.md). All are fitted on the
same {train_tasks} train characters{but}; seed {seed}; {hardware}.

*Alphabet* is the share of a character's {neighbours} nearest other characters that are of its alphabet; *itself* how
often the nearest of all characters' other halves (as many other images) is its own. Per cent, ± half the 95 % interval:
over {alphabets} whole alphabets of the one, over characters of the other. Differences are paired by character, * where
the interval is clear of zero. *GAN* and *Gaussian* are energy distances, from the embeddings of test characters, of
{prior_samples:,} draws from a small GAN and from one Gaussian, each fitted to the train characters': how well one can
make up new tasks (mean of {seeds} seeds, ± half their range). *Train tasks* is that of the train characters' own
embeddings: the floor, what a perfect copy of them would score.
"""


def of_model(name: str, root: str) -> dict[str, Any]:
    """The scores of a model's embeddings, and the folder they are in."""
    model, out = Path("runs") / name / "export", Path("runs/embeddings") / name
    words = ["embed", "--model", model, "--ways", *WAYS[name], "--data.root", root, "--data.shots", 5]
    words += ["--data.queries", 10, "--limit", 200, "--fitted_on", 300, "--seed", 0]
    words += ["--out", out / "embedding", "--overwrite"]
    product = made(out / "embedding", words, read_config(model)["weights_sha256"])
    result: dict[str, Any] = read_json(product / "embeddings.json")
    return {**result, "revision": revision_of(product), "map": product / "embedding.png"}


def cut(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """The part of a model's result that is shown: nothing of single tasks, and no place on a machine."""
    model = {"model": name, "weights_sha256": result["model"]["weights_sha256"]}
    seen = {"extractor": result["extractor"] and result["extractor"]["name"]}
    return {**model, **seen, **{key: result[key] for key in (*KEPT, "rows", "differences", "chance")}}


def section(name: str, result: dict[str, Any]) -> list[str]:
    """A model's table."""
    less = [f"less {other}" for other in REFERENCES]
    headings = ["", "d", *(text for heading in SCORES.values() for text in (heading, *less)), *PRIORS.values()]
    chance = [text for key in SCORES for text in (f"{result['chance'][key]:.1f}", *[""] * len(less))]
    rows = [headings, ["---"] * len(headings), *cells(result), ["chance", "", *chance, *[""] * len(PRIORS)]]
    about = f"Weights {result['model']['weights_sha256'][:12]}, embedded at {result['revision']}; "
    lines = [f"## {name}\n", f"{about}these figures as JSON: [{name}.json](embeddings/{name}.json).\n"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def cells(result: dict[str, Any]) -> list[list[str]]:
    """The rows of a model's table: scores, each with what it is less each reference, and priors."""
    against = {row["row"]: row["figures"] for row in result["differences"]}
    lines = []
    for row in result["rows"]:
        line = [row["row"], str(row["dims"])]
        for key in SCORES:
            less = (against.get(f"{row['row']} - {other}", {}).get(key) for other in REFERENCES)
            line += [short(row["figures"][key]), *map(clear, less)]
        lines.append([*line, *distances(row["priors"])])
    return lines


def clear(figure: dict[str, float] | None) -> str:
    """A difference, marked where its interval is clear of zero."""
    return "" if figure is None else short(figure) + " *" * (number(figure["low"]) > 0 or number(figure["high"]) < 0)


def exceptions(results: Iterable[dict[str, Any]]) -> str:
    """The ways that are fitted on fewer train tasks than they are given, and why."""
    fewer = {row["row"]: row["train_tasks"] for result in results for row in result["rows"]}
    given = max(fewer.values())
    words = [
        f"but {name} on {n}, since it adapts models to the other {given - n}" for name, n in fewer.items() if n < given
    ]
    return "".join(f", {each}" for each in words)


def page(results: dict[str, dict[str, Any]]) -> str:
    """The text of docs/embeddings.md."""
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
    lines += ["![Test characters, placed by the first way of the first model](embeddings.png)\n"]
    return "\n".join([wrapped(HEAD.format(**{**first, **details})), *lines])


def main(argv: Sequence[str] | None = None) -> None:
    """The page, the files of figures, and the map of the first model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="the folder that holds Omniglot")
    root = parser.parse_args(argv).root
    results = {name: of_model(name, root) for name in WAYS}
    for name, result in results.items():
        text = to_json(cut(name, result), indent=1) + "\n"
        write_atomically(DOCS / "embeddings" / f"{name}.json", text.encode())
    shutil.copyfile(next(iter(results.values()))["map"], DOCS / "embeddings.png")
    write_atomically(DOCS / "embeddings.md", page(results).encode())


if __name__ == "__main__":
    main()
