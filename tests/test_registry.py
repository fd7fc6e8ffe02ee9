"""Names, options as plain data, and errors that name the nearest right ones."""

from __future__ import annotations

import json

import pytest
from jsonargparse import ArgumentParser

from metagen.commands.words import spelled_out
from metagen.core.registry import Registry, options_of
from metagen.errors import MetagenError, unknown
from metagen.generators import generators
from metagen.learners import learners
from metagen.tasks import task_sets
from tests.doubles import Blobs, tiny_learner, tiny_vae


@pytest.mark.parametrize("registry", [generators, learners], ids=lambda registry: registry.kind)
def test_everything_registered_can_be_written_down_and_built_again(registry):
    for name in registry:
        thing = tiny_learner(name) if registry is learners else registry[name]()
        given = (generators.build(generators.describe(thing.generator)),) if registry is learners else ()
        told = json.loads(json.dumps(registry.describe(thing)))
        again = registry.build(told, *given)
        assert type(again) is type(thing)
        assert registry.describe(again) == registry.describe(thing)


@pytest.mark.parametrize("registry", [generators, learners], ids=lambda registry: registry.kind)
def test_the_command_line_takes_the_options_that_are_written_down(registry):
    """Also those that a constructor passes on."""
    for cls in registry.classes:
        taken = ArgumentParser().add_class_arguments(cls, "made", skip={"generator"})
        assert taken == [f"made.{name}" for name in options_of(cls)]


def test_options_that_are_not_the_default_survive():
    vae = tiny_vae(likelihood="gaussian", free_bits=0.5)
    again = generators.build(json.loads(json.dumps(generators.describe(vae))))
    assert generators.describe(again) == generators.describe(vae)


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({"name": "veae"}, "unknown generator 'veae': did you mean vae"),
        ({}, "unknown generator 'None'"),
        ({"name": ["vae"]}, "unknown generator"),
        ({"name": "vae", "latnt": 3}, "unknown option of generator vae 'latnt': did you mean latent"),
        ({"name": "gan", "deviaton": True}, "unknown option of generator gan 'deviaton': did you mean deviation"),
        ({"name": "vae", "latent": -3}, "latent: expected 1 or more, got -3"),
        ({"name": "vae", "latent": "3"}, "bad options"),
        ({"name": "vae", "latent": {}}, "bad options"),
        ({"name": "vae", "size": 31}, "widths: size 31 has no default"),
    ],
)
def test_a_bad_description_is_one_readable_error(description, said):
    with pytest.raises(MetagenError, match=said):
        generators.build(description)


def test_a_missing_option_is_named():
    with pytest.raises(MetagenError, match="task set folder: needs the option 'root'"):
        task_sets.build({"name": "folder"})


def test_what_is_not_registered_has_no_name():
    with pytest.raises(MetagenError, match="Blobs is not a registered task set"):
        task_sets.name_of(Blobs())


def test_a_registry_knows_its_names_and_classes():
    registry: Registry[TaskSetLike] = Registry("thing", one=TaskSetLike)
    assert list(registry) == ["one"]
    assert registry.classes == [TaskSetLike]


class TaskSetLike:
    """Nothing."""


def test_the_nearest_names_are_found_in_any_case():
    said = str(unknown("learner", "maml", ["MAML", "FOMAML", "Reptile"]))
    assert said == "unknown learner 'maml': did you mean MAML or FOMAML? choose from FOMAML, MAML, Reptile"
    assert "did you mean" not in str(unknown("learner", "xyz", ["MAML"]))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["--overwrite"], ["--overwrite", "true"]),
        (["--overwrite", "false", "--n", "3"], ["--overwrite", "false", "--n", "3"]),
        (["--invert", "--out", "x"], ["--invert", "true", "--out", "x"]),
        (["--standalone=true"], ["--standalone=true"]),
        (["--data.invert", "True"], ["--data.invert", "True"]),
        (["fit", "--dry-run"], ["fit", "--print_config"]),
    ],
)
def test_bare_switches_are_spelled_out(typed, meant):
    assert spelled_out(typed) == meant
