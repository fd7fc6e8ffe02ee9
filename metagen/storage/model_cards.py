"""README.md of a saved folder: how to load it, and all that is known of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metagen.storage.strict_json import to_json


def model_card(content: Mapping[str, Any], count: int, weights: str) -> str:
    """The README.md of a saved model.

    Args:
        content: what its config holds.
        count: of its parameters.
        weights: the SHA-256 of its weights file.
    """
    return (
        f"# A metagen model: {content['learner']['name']} over {content['generator']['name']}\n\n"
        f"{count:,} parameters; weights SHA-256 `{weights}`.\n"
        "It adapts to a handful of images of something new:\n\n"
        '```python\nimport metagen\n\nmodel = metagen.load("this folder")\nmine = model.adapt("folder of images")\n'
        "mine.sample(64, seed=0)\n```\n\n" + _details(content)
    )


def extractor_card(content: Mapping[str, Any], count: int, weights: str) -> str:
    """The README.md of a saved extractor; the arguments are those of `model_card`."""
    return (
        f"# A metagen extractor\n\n{count:,} parameters; weights SHA-256 `{weights}`.\n"
        "Trained on the train tasks of split.json alone; metrics look through its features:\n"
        "`metagen evaluate --extractor this_folder`.\n\n" + _details(content)
    )


def _details(content: Mapping[str, Any]) -> str:
    details = {**content, **content["info"]}
    return "".join(_line(key, value) for key, value in details.items() if key != "info")


def _line(key: str, value: object) -> str:
    """A bullet; what was tried, if there is such a list, below it one by one."""
    if not isinstance(value, dict) or not isinstance(value.get("tried"), list):
        return f"- {key}: `{to_json(value)}`\n"
    head = {name: each for name, each in value.items() if name != "tried"}
    return f"- {key}: `{to_json(head)}`; tried:\n" + "".join(f"  - `{to_json(each)}`\n" for each in value["tried"])
