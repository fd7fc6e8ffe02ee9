"""Is a meta-learned VAE better than a plain one on people it never saw?

    python scripts/faces.py --root DIR          # DIR holds one folder of photographs a person, 9 or more each
    python scripts/make_league.py --keep faces=runs/faces-vae-maml/evaluation/result.json \\
        league-of-faces=runs/faces-league/league.json

A plain VAE and one that is meta-trained by MAML, alike but for that, at 32 px and 5 shots. For each the number of inner
steps is chosen on val people by Frechet distance; then both are measured on test people. Some three quarters of an hour
on two cores. What was made by the same options is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from making import made, metagen

from metagen.artifacts import read_config

STEPS = (3, 6, 10, 20, 60, 150)
RUNS = Path("runs")
REPORT = RUNS / "faces-report"
FIGURES = ("fd", "is", "recognisability", "diversity_relative", "copy_ratio", "coverage")


def evaluated(name: str, out: Path, data: list[str], *words: object) -> Path:
    """The result of a model, at 5 shots."""
    export = RUNS / name / "export"
    asked = [
        *("evaluate", "--model", export, *data, "--data.shots", 5, "--data.queries", 4, "--limit", "null"),
        *("--extractor", REPORT, "--metrics", json.dumps(FIGURES), "--out", out, "--overwrite", *words),
    ]
    weights = [read_config(folder)["weights_sha256"] for folder in (export, REPORT)]
    return made(out / "result.json", asked, " ".join(weights))


def distance(result: Path) -> float:
    """The Frechet distance of a model's adapted samples."""
    rows = {row["row"]: row["figures"] for row in json.loads(result.read_text())["rows"]}
    return float(next(figure["mean"] for name, figure in rows["adapted"].items() if name.startswith("fd[")))


def chosen(name: str, data: list[str]) -> int:
    """The number of inner steps that is best on val people."""
    quick = ("--split", "val", "--baselines", "false", "--curve", "[]")
    by = {n: distance(evaluated(name, RUNS / name / f"val-{n}", data, *quick, "--steps", n)) for n in STEPS}
    print(f"{name}: Frechet distance on val people by the number of steps {by}")
    return min(by, key=lambda n: by[n])


def main() -> None:
    """Train, choose, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="holds one folder of photographs a person")
    root = parser.parse_args().root
    data = ["--data.task_set", "folder", "--data.root", root, "--data.size", "32", "--data.channels", "3"]
    data += ["--data.min_images", "9"]
    made(REPORT / "config.json", ["train-extractor", *data, "--out", REPORT, "--steps", 1500, "--overwrite"])
    for name in ("faces-vae-joint", "faces-vae-maml"):
        made(RUNS / name / "export", ["fit", "--config", f"configs/{name}.yaml", *data, "--overwrite"])
    results = {}
    for name, more in {"faces-vae-joint": ["--baselines", "false"], "faces-vae-maml": []}.items():
        joint = [] if more else ["--joint", RUNS / "faces-vae-joint/export"]
        steps = ["--steps", chosen(name, data)]
        results[name] = evaluated(name, RUNS / name / "evaluation", data, *steps, *more, *joint)
    metagen("compare", *results.values(), "--by", "fd", "--out", RUNS / "faces-league", "--overwrite")


if __name__ == "__main__":
    main()
