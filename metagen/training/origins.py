"""The models that a run begins from, none of which may have seen the tasks that are held out of it."""

from __future__ import annotations

from typing import Any

from metagen.errors import MetagenError
from metagen.learners import Learner
from metagen.storage.artifacts import read_config
from metagen.storage.bundled import bundled
from metagen.tasks.seen import seen_of
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from metagen.training.model_zoo import check_taught

Origins = dict[str, dict[str, Any]]


def origins_of(module: MetaTraining, data: EpisodeData, initial: str | None, zoo: str | None) -> Origins:
    """Check the saved models that training begins from, and describe them.

    Args:
        module: the training, which has loaded them.
        data: its tasks, which from now on count as seen what these models have seen.
        initial: the name of the model that training begins from, or None.
        zoo: the name of the zoo that the learner learns from, or None.

    Raises:
        MetagenError: a model has seen a held-out task, the zoo has no model of these tasks, or without a model a part
            that keeps its weights would keep random ones.
    """
    return {"initial": _initial(module, data, initial), "zoo": _zoo(module, data, zoo)}


def _initial(module: MetaTraining, data: EpisodeData, name: str | None) -> dict[str, Any]:
    if name is None:
        check_random_start(module.learner)
        return {}
    path = bundled("models", name)
    config = read_config(path)  # `initialise_learner` has read the rest, and checked it
    data.go_on(name, config["info"], seen_of(path, config["info"]))
    data.tell_ground(name, config["info"])
    return {
        "name": name,
        "weights_sha256": config["weights_sha256"],
        "initialised_from": module.initialised_from,
    }


def _zoo(module: MetaTraining, data: EpisodeData, name: str | None) -> dict[str, Any]:
    zoo = module.zoo
    if zoo is None or name is None:
        return {}
    data.go_on(name, zoo.info, zoo.seen)
    check_taught(name, zoo, data)
    return {"name": name, "weights_sha256": zoo.weights_hash, "regress": module.learner.regress}


def check_random_start(learner: Learner) -> None:
    """Refuse a learner that keeps the generator as it is when training begins, for one that begins at random.

    Raises:
        MetagenError: its generator is frozen, in part or as a whole, or an encoder reads gradients of a copy of it.
    """
    generator = learner.generator
    if generator.frozen:
        raise MetagenError(
            f"initial: {type(generator).__name__} keeps {', '.join(generator.frozen)} as they are when training "
            "begins, which would be random; give a model that has them as --model.initial"
        )
    if part := learner.needs_trained:
        raise MetagenError(
            f"initial: {type(learner).__name__} ({part}) keeps the generator as it is when training begins, which "
            "would be random; give a trained model as --model.initial"
        )
