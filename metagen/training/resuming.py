"""A run that goes on from a checkpoint: with which settings it was begun, what of them is changed, and what is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from metagen.storage.strict_json import to_json

# The trainer's options that bear on what is learned; the other options that bear on nothing, or follow from the split.
OF_THE_TRAINER = ("precision", "accumulate_grad_batches", "max_epochs", "limit_val_batches")
OF_THE_PLACE = ("root", "split_file", "val", "test", "workers", "download", "chunk", "execution")
FIRST_WEIGHTS = ("seed_everything", "model.initial")  # settings of what a run begins from, which a checkpoint replaces

Settings = dict[str, Any]
Changes = dict[str, list[Any]]


def settings_of(options: Mapping[str, Any], split_hash: str) -> Settings:
    """The settings that bear on what a run learns, by the names of the options of `metagen fit`, as JSON-ready data.

    options: all of them.
    """
    trainer = {name: options["trainer"][name] for name in OF_THE_TRAINER}
    kept = {name: options[name] for name in ("data", "model", "ema", "seed_everything")} | {"trainer": trainer}
    plain = json.loads(to_json(kept, default=str))
    settings = {name: value for name, value in _flat(plain) if name.rpartition(".")[2] not in OF_THE_PLACE}
    return {**settings, "data.split": split_hash[:12]}


def _flat(options: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict) and (not above or name == "init_args" or "class_path" in value):
            yield from _flat(value, above if name == "init_args" else f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def changed(before: Settings, now: Settings) -> Changes:
    """The settings that both runs have, with their values in each, where these differ."""
    return {name: [before[name], value] for name, value in now.items() if name in before and before[name] != value}


def unused(changes: Changes) -> list[str]:
    """Those changes that say what training begins from: it goes on from the weights of the checkpoint."""
    return [name for name in changes if name in FIRST_WEIGHTS]


def resume_message(step: int, changes: Changes, idle: list[str]) -> str:
    """One line on the settings with which a run goes on from a step, where they differ.

    changes: all of them; idle: the names of those that are not used.
    """
    words = ", ".join(f"{name} {now} (was {before})" for name, (before, now) in changes.items() if name not in idle)
    parts = [f"with {words}"] if words else []
    if idle:
        named = ", ".join(f"{name} {changes[name][1]}" for name in idle)
        parts.append(f"without {named}, since the weights are those of the checkpoint")
    return f"going on from step {step} " + "; ".join(parts)
