"""Files that earlier versions wrote: the one place that knows their names of options and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = {"moves": "adapted_params"}  # of learners, by their names until version 1 of configs
ORIGINS = {"took": "initialised_from"}  # what is recorded of the model that training began from, likewise
CHOICES = ("generator", "learner")  # options of a run that name a class, with options of its own

Config = Mapping[str, Any]


def model_config(config: Config) -> dict[str, Any]:
    """Convert the config of a saved model of version 1 to today's."""
    learner, info = config.get("learner"), config.get("info")
    converted = dict(config)
    if isinstance(learner, dict):
        converted["learner"] = _renamed(learner, OPTIONS)
    if isinstance(info, dict) and isinstance(info.get("training"), dict):
        converted["info"] = {**info, "training": _origins(info["training"])}
    return converted


def run_config(config: Config) -> tuple[dict[str, Any], list[str]]:
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
    renamed = _renamed(options, OPTIONS)
    notes = [f"{old} is called {new} now" for old, new in OPTIONS.items() if old in options]
    today = {**learner, "init_args": renamed} if "init_args" in learner else renamed
    return {**config, "model": {**model, "learner": today}}, notes


def run_record(record: Config) -> dict[str, Any]:
    """Convert what a checkpoint records of its run to today's: settings by dotted option names, and origins."""
    return {**record, "settings": _settings(record["settings"]), "origins": _origins(record["origins"])}


def renamed_option(choice: str, option: str) -> str | None:
    """Today's name of an option that a generator or learner had until version 1; None where it is no such name."""
    return OPTIONS.get(option) if choice == "learner" else None


def as_of_version_1(options: Config) -> dict[str, Any]:
    """Name a learner's or a generator's options as version 1 did, whose checkpoints hold a hash of them."""
    former = {new: old for old, new in OPTIONS.items()}
    return {former.get(name, name): value for name, value in options.items()}


def _settings(settings: Config) -> dict[str, Any]:
    """Convert settings such as model.learner.class_path and model.learner.rate by way of the config they are of."""
    starts = {choice: f"model.{choice}." for choice in CHOICES}
    own = {name: value for name, value in settings.items() if not name.startswith(tuple(starts.values()))}
    model: dict[str, Any] = {}
    for choice, start in starts.items():
        options = {name.removeprefix(start): value for name, value in settings.items() if name.startswith(start)}
        named = {"class_path": options.pop("class_path")} if "class_path" in options else {}
        model[choice] = {**named, "init_args": options}
    for choice, today in run_config({"model": model})[0]["model"].items():
        own |= {f"{starts[choice]}{name}": value for name, value in today.pop("init_args").items()}
        own |= {f"{starts[choice]}{name}": value for name, value in today.items()}
    return own


def _origins(origins: Config) -> dict[str, Any]:
    initial = origins.get("initial")
    return {**origins, "initial": _renamed(initial, ORIGINS)} if isinstance(initial, dict) else dict(origins)


def _renamed(options: Config, names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in options.items()}
