"""The ground floor: splits, the registry, seeds and resources."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metagen.core.registry import Registry
from metagen.core.seeding import numpy_rng, torch_rng
from metagen.errors import MetagenError
from metagen.storage import bundled
from metagen.tasks.splits import SPLITS, Split, read_split, split_by_count, split_by_hash

SPLIT = Split(train=("a", "日本/あ"), val=("b c",), test=("d",))
FRACTIONS = {"val": 0.1, "test": 0.2}


# splits


def test_a_split_survives_its_file(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(SPLIT.to_json(), encoding="utf-8")
    assert read_split(path) == SPLIT
    assert "日本/あ" in path.read_text(encoding="utf-8")


def test_the_hash_is_that_of_the_names_in_order():
    text = r'[["a", "\u65e5\u672c/\u3042"], ["b c"], ["d"]]'
    assert SPLIT.hash == hashlib.sha256(text.encode()).hexdigest()
    assert Split(SPLIT.train[::-1], SPLIT.val, SPLIT.test).hash != SPLIT.hash
    assert Split(SPLIT.train, SPLIT.test, SPLIT.val).hash != SPLIT.hash


@pytest.mark.parametrize(
    "parts", [(("a", "a"), ("b",), ("c",)), (("a",), ("b", "a"), ("c",)), (("a",), ("b",), ("b",))]
)
def test_no_task_is_in_two_splits(parts):
    with pytest.raises(MetagenError, match="named twice"):
        Split(*parts)


def test_an_unknown_split_is_refused():
    with pytest.raises(MetagenError, match="unknown split 'hash'"):
        SPLIT["hash"]


def test_split_files_that_are_damaged_or_changed_are_refused(tmp_path):
    path = tmp_path / "split.json"
    data = json.loads(SPLIT.to_json())
    for text, problem in [
        ("{", "not a split"),
        ("[]", "not a split"),
        ("[" * 100_000, "not a split"),
        (json.dumps({**data, "train": None}), "not a split"),
        (json.dumps({key: value for key, value in data.items() if key != "val"}), "not a split"),
        (json.dumps({**data, "test": ["e"]}), "names hash to"),
        (json.dumps({**data, "sha256": "0" * 64}), "stated 000000000000"),
    ]:
        path.write_text(text)
        with pytest.raises(MetagenError, match=problem) as info:
            read_split(path)
        assert str(path) in str(info.value)
        assert "\n" not in str(info.value)
    with pytest.raises(MetagenError, match="no such file"):
        read_split(tmp_path / "absent.json")


@settings(deadline=None)  # a loaded machine is no mistake
@given(st.sets(st.text(st.characters(exclude_categories=["Cs"])), min_size=2), st.integers(0, 5))
def test_adding_and_removing_tasks_moves_no_other(names, seed):
    whole = split_by_hash(names, FRACTIONS, seed)
    part = split_by_hash(sorted(names)[1:], FRACTIONS, seed)
    assert sorted(name for split in SPLITS for name in whole[split]) == sorted(names)
    for split in SPLITS:
        assert set(part[split]) <= set(whole[split])


def test_the_shares_are_the_stated_ones_and_the_order_does_not_matter():
    names = [f"task {i}" for i in range(3000)]
    split = split_by_hash(names, FRACTIONS, seed=0)
    assert split == split_by_hash(reversed(names), FRACTIONS, seed=0)
    assert split.hash != split_by_hash(names, FRACTIONS, seed=1).hash
    for part, share in (("val", 0.1), ("test", 0.2), ("train", 0.7)):
        assert abs(len(split[part]) / 3000 - share) < 0.03  # over three standard deviations


@pytest.mark.parametrize(("val", "test", "counts"), [(2, 3, (15, 2, 3)), (3, 3, (14, 3, 3)), (0.1, 0.01, (17, 2, 1))])
def test_counts_and_shares_are_met_and_every_task_is_in_one_split(val, test, counts):
    names = [f"task {i}" for i in range(20)]
    split = split_by_count(names, val, test, seed=0)
    assert tuple(len(split[part]) for part in ("train", "val", "test")) == counts
    assert sorted(name for part in SPLITS for name in split[part]) == sorted(names)
    assert split == split_by_count(reversed(names), val, test, seed=0)


# registry


class Round:
    def __init__(self, radius: float = 1.0, colours: tuple[str, ...] = ("red",)) -> None:
        if radius < 0:
            raise ValueError("radius below 0")
        self.radius = radius
        self.colours = colours


class Square:
    def __init__(self, side: int) -> None:
        self.side = side


SHAPES: Registry[Round | Square] = Registry("shape", round=Round, square=Square)


def test_what_is_registered_can_be_written_down_as_json_and_built_again():
    description = json.loads(json.dumps(SHAPES.describe(Round(2.5, ("red", "blue")))))
    assert description == {"name": "round", "radius": 2.5, "colours": ["red", "blue"]}
    again = SHAPES.build(description)
    assert isinstance(again, Round)
    assert (again.radius, again.colours) == (2.5, ("red", "blue"))
    assert list(SHAPES) == ["round", "square"]


@pytest.mark.parametrize(
    ("description", "problem"),
    [
        ({"name": "rond"}, "unknown shape 'rond': did you mean round"),
        ({}, "unknown shape 'None'"),
        ({"name": "round", "radios": 1}, "unknown option of shape round 'radios': did you mean radius"),
        ({"name": "round", "radius": -1}, "shape round: bad options .*radius below 0"),
        ({"name": "round", "radius": "wide"}, "shape round: bad options"),
        ({"name": "square"}, "shape square: needs the option .side"),
    ],
)
def test_bad_descriptions_are_user_errors(description, problem):
    with pytest.raises(MetagenError, match=problem):
        SHAPES.build(description)


def test_an_unregistered_class_has_no_name():
    class Rounder(Round):
        pass

    with pytest.raises(MetagenError, match="Rounder is not a registered shape"):
        SHAPES.name_of(Rounder())


# seeds


def test_equal_keys_give_equal_draws_and_others_do_not():
    keys: list[tuple[int | str, ...]] = [
        (0, "a", 1),
        (0, "a", 2),
        (0, "b", 1),
        (1, "a", 1),
        ("a", 0, 1),
        (0, "a"),
        (2**40, "a", 1),
    ]
    draws = [float(torch.rand((), generator=torch_rng(*key), dtype=torch.float64)) for key in keys]
    draws += [numpy_rng(*key).random() for key in keys]
    assert len(set(draws)) == len(draws)
    assert draws == [float(torch.rand((), generator=torch_rng(*key), dtype=torch.float64)) for key in keys] + [
        numpy_rng(*key).random() for key in keys
    ]


def test_draws_are_those_of_other_processes_and_leave_the_global_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002 - the state that must not move
    here = (torch.randn(3, generator=torch_rng(7, "noise")).tolist(), numpy_rng(7, "noise").random())
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == str(np.random.get_state())  # noqa: NPY002
    code = (
        "import torch; from metagen.core.seeding import *; "
        "print((torch.randn(3, generator=torch_rng(7, 'noise')).tolist(), numpy_rng(7, 'noise').random()))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert there.stdout.strip() == str(here)


# resources


@pytest.fixture
def installed(tmp_path, monkeypatch):
    package = tmp_path / "metagen"
    package.mkdir()
    monkeypatch.setattr(bundled, "_PACKAGE", package)
    return tmp_path


@pytest.mark.parametrize("place", ["metagen/assets", "assets"])
def test_resources_are_found_in_a_wheel_and_in_a_clone(installed, place):
    (installed / place / "models" / "first").mkdir(parents=True)
    (installed / place / "models" / "first" / "model.json").touch()
    assert bundled.resource("assets", "models/first") == installed / place / "models" / "first"
    assert bundled.resource("assets", "models/first/model.json").is_file()


def test_the_wheel_comes_before_what_happens_to_lie_beside_it(installed):
    for place in ("metagen/configs", "configs"):
        (installed / place).mkdir()
        (installed / place / "a.yaml").touch()
    assert bundled.resource("configs", "a.yaml") == installed / "metagen" / "configs" / "a.yaml"


def test_a_missing_resource_names_the_nearest(installed):
    (installed / "configs").mkdir()
    (installed / "configs" / "omniglot-vae-maml.yaml").touch()
    with pytest.raises(MetagenError, match=r"'omniglot-vae-mml\.yaml': did you mean omniglot-vae-maml\.yaml"):
        bundled.resource("configs", "omniglot-vae-mml.yaml")
    for name in ("../configs/omniglot-vae-maml.yaml", "/etc/hostname", ""):
        with pytest.raises(MetagenError, match="unknown config "):
            bundled.resource("configs", name)
    with pytest.raises(MetagenError, match="unknown kind of resource 'asset': did you mean assets"):
        bundled.resource("asset", "a")
    with pytest.raises(MetagenError, match="install it again"):
        bundled.resource("assets", "a")


def test_this_very_clone_has_its_resources():
    assert bundled.resource("assets", "README.md") == Path(bundled.__file__).parents[2] / "assets" / "README.md"
