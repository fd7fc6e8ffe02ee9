"""Results beside the league: those of other commands, cut to what is shown, in docs/league/beside."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from metagen.storage.files import write_atomically
from metagen.storage.strict_json import number, read_json, to_json

JITTER = "affine x1"
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "league" / "beside"
SECTIONS = {
    "characters": """## Beside it: a plain and a meta-learned VAE, characters

`bash scripts/omniglot.sh DIR` ({made} images made, as many real ones, of {tasks} {split} tasks at {shots} shots,
through `{extractor}`; {hardware}, seed {seed}). *Joint + fine-tune* is the plain VAE: the same network, trained for as
many steps on the same characters mixed, fine-tuned with Adam, its rate and number of steps tuned on val tasks.
Diversity and copying are in [results.md](results.md).
""",
    "faces": """## Beside it: a plain and a meta-learned VAE, faces

`python scripts/faces.py --root DIR`, DIR holding one folder of photographs a person ({made} images made, as many
real ones, of {tasks} people nobody was trained on, {shots} shots, 32 px, through `{extractor}`, which was trained on
the train people alone; {hardware}, seed {seed}). *Adapted* is meta-trained by MAML; its N was chosen on val people by
Frechet distance. *Joint + fine-tune* is the plain VAE, the same network trained for as many steps on the same people
mixed; its rate and N were tuned on val people by query loss. The second table has it with N chosen as for MAML. The
largest N that was tried won both times; it costs query loss. These are not FID and IS, which are
Inception's: `metagen evaluate --inception PATH` gives those.
""",
    "auto": """## Beside it: the number of steps chosen by the support

`metagen evaluate --model {model} --auto --extractor none --baselines false --curve [] --data.shots {shots}`,
{tasks} {split} tasks ({hardware}, seed {seed}). *Adapted* takes the model's own number, tuned on val tasks at 5 shots.
""",
}
ROWS = ("human", "copy", JITTER, "unadapted", "scratch", "joint + fine-tune", "auto steps", "adapted")
SHOWN = {
    "query_loss": "query loss",
    "fd": "Frechet",
    "is": "Inception Score",
    "recognisability": "recognised %",
    "diversity_relative": "diversity %",
    "copy_ratio": "copy ratio",
}


def keep(named: str) -> None:
    """Put a result, cut to what is shown, beside the league."""
    name, _, file = named.partition("=")
    result = read_json(Path(file))
    if "rows" in result and "task_names" in result:
        result = {key: value for key, value in result.items() if key not in ("task_names", "curve")}
        for part in ("rows", "differences"):
            result[part] = [_cut(row) for row in result[part]]
    write_atomically(FOLDER / f"{name}.json", (to_json(result, indent=1) + "\n").encode())


def _cut(row: dict[str, Any]) -> dict[str, Any]:
    figures = {name: f for name, f in row["figures"].items() if name.partition("[")[0] in SHOWN}
    return {"row": row["row"], "steps": row.get("steps"), "figures": figures}


def other_results() -> list[str]:
    """A section for each kind of result that is there."""
    lines: list[str] = []
    for kind, about in SECTIONS.items():
        for path in sorted(FOLDER.glob(f"{kind}*.json")):
            result = read_json(path)
            lines += [*_section(path.stem.removeprefix(kind), about, result), ""]
        path = FOLDER / f"league-of-{kind}.json"
        lines += [*_ranked(read_json(path)), ""] if path.is_file() else []
    for name, section in (("search", search_lines), ("learned-optimiser", optimiser_lines)):
        path = FOLDER / f"{name}.json"
        lines += [*section(read_json(path)), ""] if path.is_file() else []
    return lines


def _section(which: str, about: str, result: dict[str, Any]) -> list[str]:
    seen = result["extractors"][0]["name"] if result["extractors"] else "no extractor"
    numbers = {key: result[key] for key in ("made", "tasks", "split", "shots", "seed")}
    model = f"runs/omniglot-vae-{which.split('-')[1]}/export" if which.startswith("-") and "-" in which[1:] else ""
    title, _, text = about.partition("\n")
    text = text.format(extractor=seen, hardware=result["environment"]["hardware"], model=model, **numbers)
    figures = [f for f in result["rows"][-1]["figures"] if f.partition("[")[0] in SHOWN]
    lines = [
        title + (f", {which.strip('-').replace('-', ', ')}{'-shot' if which else ''}" if which else ""),
        wrapped(text),
    ]
    shown = [row for row in result["rows"] if row["row"] in ROWS]
    differences = [row for row in result["differences"] if row["row"].removeprefix("adapted - ") in ROWS]
    return [*lines, *_table([*shown, *differences], figures)]


def _ranked(result: dict[str, Any]) -> list[str]:
    figures = [name for name in result["models"][0]["figures"] if name.partition("[")[0] in SHOWN]
    return _table([*result["models"], *result["differences"]], figures)


def _table(rows: list[dict[str, Any]], figures: list[str]) -> list[str]:
    lines = [f"| | N | {' | '.join(SHOWN[name.partition('[')[0]] for name in figures)} |"]
    lines.append("|---" * (len(figures) + 2) + "|")
    for row in rows:
        cells = [_interval(row["figures"].get(figure)) for figure in figures]
        lines.append(f"| {row['row']} | {plain(row.get('steps') or '')} | {' | '.join(cells)} |")
    return lines


def _interval(figure: dict[str, float] | None) -> str:
    if figure is None:
        return ""
    mean, low, high = (number(figure[key]) for key in ("mean", "low", "high"))
    return f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def search_lines(data: dict[str, Any]) -> list[str]:
    """The architectures that were found, beside random ones."""
    lines = [
        "## Beside it: architecture search\n",
        f"`python scripts/search.py --root DIR --searching {data['searching']} --training {data['training']} --tasks "
        f"{data['tasks']}` ({data['environment']['hardware']}): searched for {data['searching']} and retrained for "
        f"{data['training']} meta-steps of {data['tasks']} train characters, 5 shots, seed 0; query loss in nats per "
        f"image on {data['limits']['val']} val and {data['limits']['test']} test characters, and the difference from "
        "the mean of the three random architectures of the same space, paired by character. The intervals are over "
        "characters, not over searches or trainings: each was run once, and the trainings are short.\n",
        "| architecture | val | test | test, minus the mean of random |",
        "|---|---|---|---|",
    ]
    for name, blocks in data["architectures"].items():
        val, test = (_interval(data[split]["query_loss"][name]) for split in ("val", "test"))
        gap = _interval(data["test"]["minus_random"].get(name))
        lines.append(f"| {name}: {', '.join(blocks)} | {val} | {test} | {gap} |")
    return lines


def optimiser_lines(data: dict[str, Any]) -> list[str]:
    """A learned optimiser far beyond its training, beside tuned SGD and Adam."""
    lines = [
        "## Beside it: a learned optimiser at four times the steps it was trained for\n",
        f"`python scripts/benchmark_learned_optimiser.py runs/omniglot-vae-learned-optimiser/export --root DIR --split "
        f"{data['split']} --limit {data['limit']}` (seed {data['seed']}, torch {data['torch']}; rates of SGD and "
        "Adam tuned on val tasks; all begin at the same start and move the same weights).\n",
        "| | query loss | support loss |",
        "|---|---|---|",
    ]
    for part in ("rows", "differences"):
        for name, sides in data[part].items():
            lines.append(f"| {name} | {_interval(sides['query'])} | {_interval(sides['support'])} |")
    return lines


def plain(value: object) -> str:
    """A value as it is read, a list by its words."""
    return " ".join(map(str, value)) if isinstance(value, list) else f"{value}"


def wrapped(text: str) -> str:
    """Paragraphs in lines of 120 characters."""
    return "\n\n".join(textwrap.fill(each, 120, break_on_hyphens=False) for each in text.split("\n\n")) + "\n"
