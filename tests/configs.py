"""The configs bundled with metagen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "configs"
CONFIGS = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("*/*.yaml")])  # what lies in a parts/ is no run of its own


def name_of(config: Path) -> str:
    """The name of a config as it may be typed, such as "omniglot/vae-maml"."""
    return config.relative_to(FOLDER).with_suffix("").as_posix()


def written(config: Path) -> dict[str, Any]:
    """The options in a config and in the parts that it names."""
    options: dict[str, Any] = yaml.safe_load(config.read_text())
    for group, key in ((options, "data"), (options["model"], "generator")):
        if isinstance(group[key], str):
            group[key] = yaml.safe_load((config.parent / group[key]).read_text())
    return options
