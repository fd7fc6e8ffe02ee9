"""A run that goes on from a checkpoint: the settings it began with, those that are changed, and those in use."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metagen.storage.artifacts import check_tensors
from metagen.storage.earlier import run_record
from metagen.storage.strict_json import to_json
from metagen.tasks.seen import seen_by, seen_in
from metagen.tasks.splits import split_of
from metagen.training.checkpoints import Checkpoints, read_checkpoint
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from metagen.training.origins import Origins

log = logging.getLogger(__name__)

# The trainer's options that change what is learned; then others that do not, or that the split stands for.
OF_THE_TRAINER = ("precision", "accumulate_grad_batches", "max_epochs", "limit_val_batches")
OF_THE_PLACE = ("root", "split_file", "val", "test", "workers", "download", "chunk", "memory", "execution")
FIRST_WEIGHTS = ("seed_everything", "model.initial")  # settings of what a run begins from, which a checkpoint replaces

Settings = dict[str, Any]
Changes = dict[str, list[Any]]


@dataclass(frozen=True)
class Start:
    """The first step of a run, and the record of the steps before.

    Attributes:
        step: 0, or that of the checkpoint.
        record: the run's settings, its origins, and what was changed of them on the way; see `Checkpoints`.
        changes: the settings that differ from those of the run that it continues; None where that kept none.
    """

    step: int
    record: dict[str, Any]
    changes: Changes | None = None


def start_of(
    settings: Settings, origins: Origins, resumed: Path | None, module: MetaTraining, data: EpisodeData, warns: bool
) -> Start:
    """Find where a run begins, and log its changes of the settings of the run that it continues.

    Args:
        settings: of this run, see `settings_of`.
        origins: of this run, see `origins_of`.
        resumed: the checkpoint that it goes on from, or None.
        module: the training.
        data: its tasks.
        warns: whether this process logs the changes.

    Raises:
        MetagenError: the checkpoint is damaged, is of another model, or has seen what is held out here.
    """
    record: dict[str, Any] = {"settings": settings, "origins": origins, "changes": []}
    if resumed is None:
        return Start(0, record)
    checkpoint = read_checkpoint(resumed)
    step = checkpoint["global_step"]
    check_tensors(resumed, checkpoint["state_dict"], module.state_dict())
    _check_unseen(resumed, checkpoint.get(type(data).__qualname__), data)
    written = checkpoint["callbacks"].get(Checkpoints.__qualname__, {}).get("record")
    if written is None:
        log.warning("%s: keeps no settings, so what is changed is not told; those given are used", resumed)
        return Start(step, record)
    before = run_record(written)
    changes = changed(before["settings"], settings)
    if changes and warns:
        log.warning("%s", resume_message(step, changes, unused(changes)))
    return Start(step, _continued(before, record, step, changes), changes)


def _check_unseen(checkpoint: Path, state: dict[str, Any] | None, data: EpisodeData) -> None:
    """Refuse a checkpoint that has seen what is held out here: one of before hashes were kept, by its run's split."""
    if state is not None:
        data.go_on(str(checkpoint), {}, seen_by(state.get("seen"), checkpoint))
    elif (split := split_of(checkpoint.parent.parent)) is None:
        log.warning("%s: nobody knows on which tasks it was trained; so that is not checked", checkpoint)
    else:
        data.go_on(str(checkpoint), {"data": {"task_set": data.name}}, seen_in(data.name, split))


def _continued(before: dict[str, Any], record: dict[str, Any], step: int, changes: Changes) -> dict[str, Any]:
    """The record of a run after that of the run before: settings that are not used stay as they were."""
    idle = unused(changes)
    used = {name: both for name, both in changes.items() if name not in idle}
    stay = {name: both[0] for name, both in changes.items() if name in idle}
    return {
        "settings": {**record["settings"], **stay},
        "origins": before["origins"] | {"zoo": record["origins"]["zoo"]},
        "changes": [*before["changes"], *([{"step": step, **used}] if used else [])],
    }


def settings_of(options: Mapping[str, Any], split_hash: str) -> Settings:
    """The options of `metagen fit` that change what a run learns, by their names, as JSON-ready data.

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
