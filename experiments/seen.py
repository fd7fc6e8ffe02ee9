"""Write seen.json of saved models and extractors: hashes of the images of their train and val tasks.

Those bundled with metagen are made by: python experiments/seen.py --root .data assets/models/* assets/extractors/*
An export of before these files existed gets its own, without training: python experiments/seen.py --root DIR EXPORT
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from experiments.runs import parser
from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.tasks.seen import FILE
from metagen.training.episode_data import EpisodeData


def write_seen(folder: Path, root: str | None) -> int:
    """Write the file of one folder from its config and split; the number of tasks whose images it knows."""
    data = read_config(folder, "model", "extractor")["info"]["data"]
    options = {name: data[name] for name in ("size", "channels", "min_images") if name in data}
    place = None if data["task_set"] == "glyphs" else root
    seen = EpisodeData(data["task_set"], root=place, split_file=str(folder / "split.json"), **options).seen
    write_atomically(folder / FILE, seen.to_json().encode())
    return sum(bool(task) for parts in seen.tasks.values() for part in parts.values() for task in part.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files of the folders named."""
    options = parser(__doc__)
    options.add_argument("folders", nargs="+", type=Path, help="saved models and extractors")
    options.add_argument("--root", help="where the images lie; glyphs need none")
    given = options.parse_args(argv)
    for folder in given.folders:
        print(f"{folder}: {write_seen(folder, given.root)} tasks by their images")


if __name__ == "__main__":
    main()
