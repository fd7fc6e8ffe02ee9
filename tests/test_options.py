"""What a user types: bare switches, and complaints with the nearest right name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metagen.commands.complaints import explained
from metagen.commands.words import SWITCHES, spelled_out
from metagen.errors import MetagenError
from metagen.learners import learners
from metagen.storage import earlier
from tests.configs import CONFIGS, name_of

OPTIONS = ["--run_dir", "--overwrite", "--data.shots", "--data.queries", "--model.rate"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ([], []),
        (["adapt", "--overwrite"], ["adapt", "--overwrite", "true"]),
        (["--overwrite", "--seed", "1"], ["--overwrite", "true", "--seed", "1"]),
        (["--overwrite", "true"], ["--overwrite", "true"]),
        (["--overwrite", "False", "--invert"], ["--overwrite", "False", "--invert", "true"]),
        (["--overwrite=false"], ["--overwrite=false"]),
        (["--standalone", "--overwrite"], ["--standalone", "true", "--overwrite", "true"]),
        (["--data.invert"], ["--data.invert", "true"]),
        (["--out", "a", "--dry-run"], ["--out", "a", "--print_config"]),
        (["--dry-run", "--overwrite"], ["--print_config", "--overwrite", "true"]),
        (["--out", "overwrite"], ["--out", "overwrite"]),
    ],
)
def test_bare_switches_are_spelled_out(typed, meant):
    given = list(typed)
    assert spelled_out(typed) == meant
    assert typed == given


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_may_be_bare_or_valued(switch):
    assert spelled_out([switch]) == spelled_out([switch, "true"]) == [switch, "true"]
    assert spelled_out([switch, "false"]) == [switch, "false"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "unrecognized arguments: --data.shot 3",
            "unknown option --data.shot: did you mean --data.shots or --data.queries? metagen fit --help lists all",
        ),
        ("unrecognized arguments: --data.shot=3", "unknown option --data.shot: did you mean --data.shots"),
        ("unrecognized arguments: --zzz", "unknown option --zzz: metagen fit --help lists all"),
        ("Group 'data' does not accept option 'data.shot'", "unknown option --data.shot: did you mean --data.shots"),
        ("Parser key \"seed\":\n  Expected a <class 'int'>. Got value: many", "--seed: expected int, got many"),
        (
            'Parser key "model.chunk":\n  Does not validate against any of the Union subtypes\n  Subtypes: '
            "[<class 'int'>, <class 'NoneType'>]\n  Errors:\n    - Expected a <class 'int'>\n  Given value type: "
            "<class 'str'>\n  Given value: x",
            "--model.chunk: expected one of int, null, got x",
        ),
        (
            "Parser key \"split\":\n  Expected a typing.Literal['val', 'test']. Got value: train",
            "--split: expected one of val, test, got 'train'",
        ),
        (
            'Parser key "model.generator": Problem with given class_path \'metagen.generators.VAE\': Parser key "norm":'
            "\n  Does not validate against any of the Union subtypes\n  Subtypes: [typing.Literal['group', 'batch'], "
            "<class 'NoneType'>]\n  Errors:\n    - Expected a typing.Literal['group', 'batch']\n    - Expected a "
            "<class 'NoneType'>\n  Given value type: <class 'str'>\n  Given value: x",
            "--model.generator.norm: expected one of group, batch, null, got 'x'",
        ),
        ("something\n  else", "something else"),
    ],
)
def test_complaints_become_one_line(text, said):
    error = explained(ValueError(text), "fit", OPTIONS)
    assert isinstance(error, MetagenError)
    assert said in str(error)
    assert "\n" not in str(error)


def test_an_unknown_class_names_the_nearest():
    text = "Parser key \"model.learner\": 1 validation error: class_path 'MAMLL' is not a subclass - No module"
    error = explained(ValueError(text), "fit", OPTIONS, {"model.learner": learners.classes})
    assert "unknown learner 'MAMLL': did you mean MAML" in str(error)


def test_a_config_that_travels_is_found_by_its_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = {
        spelled_out(["--config", name])[1] for name in ("quickstart", "quickstart.yaml", "configs/quickstart.yaml")
    }
    assert [Path(path).name for path in found] == ["quickstart.yaml"]
    Path("quickstart").write_text("data: {}")  # a file of one's own comes first
    assert spelled_out(["-c", "quickstart"])[1] == "quickstart"


def test_a_config_of_an_earlier_name_is_answered_with_the_one_of_today():
    for config in CONFIGS:
        if "/" not in (name := name_of(config)):
            continue
        before = next((old for old, new in earlier.CONFIGS.items() if new == name), name.replace("/", "-"))
        with pytest.raises(MetagenError) as info:
            spelled_out(["--config", f"configs/{before}.yaml"])
        assert re.search(rf"(?:is called configs/|did you mean ){name}\.yaml", str(info.value)), str(info.value)


def test_the_nearest_config_is_named():
    with pytest.raises(MetagenError) as info:
        spelled_out(["--config", "quickstrt"])
    assert "--config: quickstrt: no such file" in str(info.value)
    assert "did you mean quickstart.yaml" in str(info.value)
