"""Files that earlier versions wrote: the one place that knows their names of options and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = {"moves": "adapted_params"}  # of learners, by their names until version 1 of configs


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the config of a saved model of version 1 to today's."""
    learner = config.get("learner")
    return {**config, "learner": _renamed(learner)} if isinstance(learner, dict) else dict(config)


def run_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Convert the options of a training run, as a YAML file holds them, to today's.

    Returns:
        The options, and a line for each one that has another name now.
    """
    model = config.get("model")
    learner = model.get("learner") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(learner, dict):
        return dict(config), []
    options = learner.get("init_args", learner)
    if not isinstance(options, dict):
        return dict(config), []
    renamed = {**learner, "init_args": _renamed(options)} if "init_args" in learner else _renamed(options)
    notes = [f"{old} is called {new} now" for old, new in OPTIONS.items() if old in options]
    return {**config, "model": {**model, "learner": renamed}}, notes


def as_of_version_1(options: Mapping[str, Any]) -> dict[str, Any]:
    """Name a learner's or a generator's options as version 1 did, whose checkpoints hold a hash of them."""
    former = {new: old for old, new in OPTIONS.items()}
    return {former.get(name, name): value for name, value in options.items()}


def _renamed(options: Mapping[str, Any]) -> dict[str, Any]:
    return {OPTIONS.get(name, name): value for name, value in options.items()}
