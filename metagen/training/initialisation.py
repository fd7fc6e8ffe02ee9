"""The first weights of a run: random, or those of a saved model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from metagen.errors import MetagenError
from metagen.generators import Generator
from metagen.learners import Learner
from metagen.learners.model_files import load_model
from metagen.storage.artifacts import check_tensors
from metagen.storage.bundled import bundled


def initialise_learner(
    generator: Generator, learner: Callable[[Generator], Learner], model: str | None
) -> tuple[Learner, str | None]:
    """Make the learner over a generator, with the weights that training begins from, and say where they are from.

    The latter is "learner", "generator", the name of the only part of the generator that was loaded, or None.

    Args:
        generator: the learner's; it is given what it begins from.
        learner: makes it.
        model: a saved model, a folder or the name of one bundled with metagen: of a learner of the same kind and
            sizes all that it learned is taken, else its generator alone; None to begin at random.

    Raises:
        MetagenError: there is no such model, it is damaged, or its generator is another one.
    """
    if model is None:
        return learner(generator), None
    path = bundled("models", model)
    saved, _, _ = load_model(path)
    part, receiver = receiver_of(generator, saved.generator)
    check_defining(receiver, saved.generator, path)
    misfit = load_generator_weights(receiver, saved.generator, path)
    made = learner(generator)
    if same_architecture(saved, made):
        made.load_state_dict(saved.state_dict())
        return made, "learner"
    if misfit is not None:
        raise misfit
    return made, part


def same_architecture(one: Learner, other: Learner) -> bool:
    """Whether two learners are of one kind, over one kind of generator, with tensors of the same shapes."""
    shapes, others = ({name: w.shape for name, w in each.state_dict().items()} for each in (one, other))
    return type(one) is type(other) and type(one.generator) is type(other.generator) and shapes == others


def receiver_of(generator: Generator, saved: Generator) -> tuple[str, nn.Module]:
    """The module that takes the weights of a saved generator, with its name: the generator, or its first such part.

    So a `RedrawGAN` takes a `Redraw` as its second player.
    """
    if not isinstance(generator, type(saved)):
        for name, part in generator.named_children():
            if isinstance(part, type(saved)):
                return name, part
    return "generator", generator


def check_defining(receiver: nn.Module, saved: Generator, path: Path) -> None:
    """Refuse weights that fit but would mean something else.

    Raises:
        MetagenError: naming the option that differs.
    """
    for option in saved.defining if isinstance(receiver, type(saved)) else ():
        wanted, got = (getattr(each, option) for each in (receiver, saved))
        if wanted != got:
            raise MetagenError(f"initial: {path} has {option} {got}, and this run {wanted}; give both the same")


def load_generator_weights(receiver: nn.Module, saved: Generator, path: Path) -> MetagenError | None:
    """Give a generator the weights of a saved one, or say why it cannot take them."""
    try:
        check_tensors(path, saved.state_dict(), receiver.state_dict())
    except MetagenError as error:
        hint = "begin from a model whose generator has this one's options, and no low-rank deltas"
        return MetagenError(f"initial: {error}; {hint}")
    receiver.load_state_dict(saved.state_dict())
    return None
