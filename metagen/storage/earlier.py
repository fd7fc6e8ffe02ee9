"""Files that earlier versions wrote: the one place that knows their names of options and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTIONS = {"moves": "adapted_params"}  # of learners, by their names until version 1 of configs
ORIGINS = {"took": "initialised_from"}  # what is recorded of the model that training began from, likewise
CHOICES = ("generator", "learner")  # options of a run that name a class, with options of its own

# The presets of GAN, which were classes until version 1, and what its options were in each.
CLASSES = {"r3": "R3", "sngan": "SNGAN", "wgan_gp": "WGANGP"}
R3 = {"network": "residual", "norm": "none", "critic_norm": "none", "game": "relativistic", "penalty": "r1r2"}
SNGAN = {"critic_norm": "spectral", "game": "hinge", "penalty": "none", "penalty_weight": 0.0}
WGANGP = {"game": "wasserstein", "penalty": "gradient_penalty"}
FIXED: dict[str, dict[str, Any]] = {"r3": R3, "sngan": SNGAN, "wgan_gp": WGANGP}  # options that were none
DCGAN = {"network": "dcgan", "depth": 1, "norm": "group", "augmentation": []}
DEFAULTS: dict[str, dict[str, Any]] = {
    "r3": {"depth": 2, "penalty_weight": 0.02, "augmentation": ["translation", "cutout"]},
    "sngan": DCGAN,
    "wgan_gp": {**DCGAN, "critic_norm": "none", "penalty_weight": 10.0},
}

# Bundled configs that are called otherwise now; of omniglot-vae-maml, say, omniglot/vae-maml is the nearest name.
CONFIGS = {"folder-token-vae-ink": "folder/token-vae", "folder-token-vae": "folder/token-vae-own-tokenizer"}

Config = Mapping[str, Any]


def model_config(config: Config) -> dict[str, Any]:
    """Convert the config of a saved model of version 1 to today's."""
    generator, learner, info = (config.get(name) for name in ("generator", "learner", "info"))
    converted = dict(config)
    if isinstance(generator, dict):
        converted["generator"] = generator_config(generator)
    if isinstance(learner, dict):
        converted["learner"] = _renamed(learner, OPTIONS)
    if isinstance(info, dict) and isinstance(info.get("training"), dict):
        converted["info"] = {**info, "training": _origins(info["training"])}
    return converted


def generator_config(generator: Config) -> dict[str, Any]:
    """Convert the name of a generator of version 1, beside its options, to today's."""
    name = generator.get("name")
    if not isinstance(name, str) or name not in CLASSES:
        return dict(generator)
    return {**generator, "name": "gan", "preset": name}


def run_config(config: Config) -> tuple[dict[str, Any], list[str]]:
    """Convert the options of a training run, as a YAML file holds them, to today's.

    Returns:
        The options, and a line for each name that is another one now.
    """
    model = config.get("model")
    if not isinstance(model, dict):
        return dict(config), []
    parts: dict[str, Any] = {}
    notes: list[str] = []
    for part, convert in (("generator", _run_generator), ("learner", _run_learner)):
        if part in model:
            parts[part], renamed = convert(model[part])
            notes += renamed
    return {**config, "model": {**model, **parts}}, notes


def run_record(record: Config) -> dict[str, Any]:
    """Convert what a checkpoint records of its run to today's: settings by dotted option names, and origins."""
    return {**record, "settings": _settings(record["settings"]), "origins": _origins(record["origins"])}


def renamed_option(choice: str, option: str) -> str | None:
    """Today's name of an option that a generator or learner had until version 1; None where it is no such name."""
    return OPTIONS.get(option) if choice == "learner" else None


def class_note(name: str) -> str | None:
    """Say in one line what a class of version 1 is now; None of other names."""
    preset = _preset_of(name)
    return preset and f"{CLASSES[preset]} is GAN with preset {preset} now"


def as_of_version_1(kind: str, options: Config) -> list[Any]:
    """Name a class and its options as version 1 did, whose checkpoints hold a hash of them.

    Args:
        kind: the name of the class of a learner or a generator.
        options: by name, in the order of its constructor.
    """
    former = {new: old for old, new in OPTIONS.items()}
    own = {former.get(name, name): value for name, value in options.items()}
    preset = str(own.get("preset"))
    if kind != "GAN" or preset not in CLASSES or any(own[name] != value for name, value in FIXED[preset].items()):
        return [kind, own]
    names = [name for name in own if name != "preset" and name not in FIXED[preset]]
    if preset != "r3":  # of which alone `augmentation` stood before the options of all GANs
        names.remove("augmentation")
        names.insert(names.index("deviation") + 1, "augmentation")
    return [CLASSES[preset], {name: own[name] for name in names}]


def _preset_of(path: str) -> str | None:
    return next((preset for preset, name in CLASSES.items() if path.rpartition(".")[2] == name), None)


def _run_generator(generator: object) -> tuple[Any, list[str]]:
    """Convert a class path, or that and its options; what was a default is left to the preset."""
    given = {"class_path": generator} if isinstance(generator, str) else generator
    path = given.get("class_path") if isinstance(given, dict) else None
    preset = _preset_of(path) if isinstance(path, str) else None
    if not isinstance(given, dict) or preset is None:
        return generator, []
    options, defaults = given.get("init_args") or {}, DEFAULTS[preset]
    kept = {
        name: None if value is not None and defaults.get(name) == value else value for name, value in options.items()
    }
    today = {**given, "class_path": "metagen.generators.GAN", "init_args": {"preset": preset, **kept}}
    return today, [str(class_note(CLASSES[preset]))]


def _run_learner(learner: object) -> tuple[Any, list[str]]:
    options = learner.get("init_args", learner) if isinstance(learner, dict) else None
    if not isinstance(learner, dict) or not isinstance(options, dict):
        return learner, []
    renamed = _renamed(options, OPTIONS)
    notes = [f"{old} is called {new} now" for old, new in OPTIONS.items() if old in options]
    return {**learner, "init_args": renamed} if "init_args" in learner else renamed, notes


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
