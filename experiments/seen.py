"""Write what saved models and extractors have seen: hashes of the images of their train and val tasks, as seen.json.

An export of before these were kept gets its own so, without training: python scripts/make_seen.py --root DIR EXPORT
What is bundled with metagen is made by: python scripts/make_seen.py --root .data assets/models/* assets/extractors/*
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from metagen.storage.artifacts import read_config
from metagen.storage.files import write_atomically
from metagen.tasks.seen import FILE
from metagen.training.episode_data import EpisodeData


def write_seen(folder: Path, root: str | None) -> int:
    """Write the file of one folder from its config and split; the number of tasks that it knows by their images."""
    data = read_config(folder, "model", "extractor")["info"]["data"]
    options = {name: data[name] for name in ("size", "channels", "min_images") if name in data}
    place = None if data["task_set"] == "glyphs" else root
    split = str(folder / "split.json")
    seen = EpisodeData(data["task_set"], root=place, split_file=split, **options).seen
    write_atomically(folder / FILE, seen.to_json().encode())
    return sum(bool(task) for parts in seen.tasks.values() for part in parts.values() for task in part.values())


def main(argv: Sequence[str] | None = None) -> None:
    """Write the files of the folders named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="saved models and extractors")
    parser.add_argument("--root", help="where the images lie; glyphs need none")
    given = parser.parse_args(argv)
    for folder in given.folders:
        print(f"{folder}: {write_seen(folder, given.root)} tasks by their images")


if __name__ == "__main__":
    main()
