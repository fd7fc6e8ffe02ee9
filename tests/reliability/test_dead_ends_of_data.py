"""Few tasks, and splits written by hand: advice that can be followed, and one line for each mistake."""

from __future__ import annotations

import json

import pytest
import torch

from metagen.cli import main
from metagen.errors import MetagenError
from metagen.storage.images import save_pngs
from metagen.tasks import Folder, Glyphs
from metagen.tasks.splits import SPLITS, Split, read_split
from metagen.training.episode_data import EpisodeData


def grown(root, tasks):
    torch.manual_seed(0)
    for number in range(tasks):
        images = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
        save_pngs(images, root / f"k{number:02}")
    return str(root)


@pytest.fixture
def few(tiny, tmp_path, capsys):
    """`metagen fit` on so many tasks: (tasks, *options) -> exit code and what stands on stderr."""
    words = [word for at, word in enumerate(tiny) if "split_file" not in (word[7:], tiny[at - 1][7:])]

    def run(tasks, *options):
        root = grown(tmp_path / "tasks", tasks)
        more = ["--data.root", root, "--data.tasks", "1", "--data.val_tasks", "1", "--data.episodes", "2", *options]
        return main(["fit", *words, *more, "--run_dir", str(tmp_path / "run")]), capsys.readouterr().err

    return run


def sizes(split):
    return [len(split[part]) for part in SPLITS]


def test_the_advice_for_few_tasks_can_be_followed(few, tmp_path):
    code, err = few(3)
    assert code == 2
    assert err.count("\n") == 1
    advice = [word.strip(",;()") for word in err.split()]
    at = advice.index("--data.val")
    assert few(3, *advice[at : at + 4])[0] == 0
    assert sizes(read_split(tmp_path / "run" / "split.json")) == [1, 1, 1]


def test_two_tasks_are_too_few_and_no_option_is_advised_that_does_not_help(few):
    code, err = few(2)
    assert (code, err.count("\n")) == (2, 1)
    assert "--data.val" not in err


def test_an_export_keeps_how_its_tasks_were_split(few, tmp_path):
    assert few(8, "--data.val", "2", "--data.test", "0.4")[0] == 0
    told = json.loads((tmp_path / "run" / "export" / "config.json").read_text())["info"]["data"]
    assert (told["val"], told["test"]) == (2, 0.4)
    words = ("--model", tmp_path / "run" / "export", "--data.root", tmp_path / "tasks", "--out", tmp_path / "out")
    more = ("--extractor", "none", "--baselines", "false", "--curve", "[0,1]")
    assert main(["evaluate", *map(str, words), *more]) == 0
    judged = json.loads((tmp_path / "out" / "result.json").read_text())["task_names"]
    assert judged == list(read_split(tmp_path / "run" / "split.json").test)


@pytest.mark.parametrize(
    ("val", "test", "expected"),
    [(1, 1, [8, 1, 1]), (3, 2, [5, 3, 2]), (2, 0.3, [5, 2, 3]), (0.01, 4, [5, 1, 4]), (8, 1, [1, 8, 1])],
)
def test_counts_are_kept_exactly_and_a_share_beside_one_is_never_empty(tmp_path, val, test, expected):
    tasks = Folder(grown(tmp_path, 10), size=28, channels=1, val=val, test=test)
    assert sizes(tasks.split) == expected
    assert tasks.split == Folder(str(tmp_path), size=28, channels=1, val=val, test=test).split


def test_shares_split_as_they_did():
    """By a hash of each name alone: what was held out stays held out."""
    names = {f"t{i:02}": None for i in range(12)}
    from metagen.tasks.splits import split_by_hash

    split = split_by_hash(names, {"val": 0.3, "test": 0.3}, 0)
    assert split.hash.startswith("a4a4aaac31718643")


@pytest.mark.parametrize(
    "options",
    [
        ("--data.val", "1.5"),
        ("--data.val", "0"),
        ("--data.val", "-1"),
        ("--data.val", "0.6", "--data.test", "0.5"),
        ("--data.val", "many"),
        ("--data.val", ".inf"),
        ("--data.val", ".nan"),
        ("--data.val", "4", "--data.test", "4"),
        ("--data.task_set", "glyphs", "--data.root", "null", "--data.val", "3"),
    ],
    ids=" ".join,
)
def test_shares_and_counts_that_make_no_split_are_one_line(few, tmp_path, options):
    code, err = few(6, *options)
    assert (code, err.count("\n")) == (2, 1)
    assert not (tmp_path / "run").exists()


def by_hand(tmp_path, text):
    (tmp_path / "split.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / "split.json"


GOOD = '{"train": ["k00"], "val": ["k01"], "test": ["k02"]}'


@pytest.mark.parametrize(
    "text",
    [GOOD, "\ufeff" + GOOD, GOOD.replace("}", ', "about": "mine"}'), json.dumps(json.loads(GOOD), indent=4)],
    ids=["plain", "with a mark of its byte order", "with more in it", "indented"],
)
def test_a_split_without_a_hash_is_taken_and_hashed(few, tmp_path, text):
    assert few(4, "--data.split_file", str(by_hand(tmp_path, text)))[0] == 0
    written = json.loads((tmp_path / "run" / "split.json").read_text())
    assert written["sha256"] == Split(("k00",), ("k01",), ("k02",)).hash
    assert written["test"] == ["k02"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('"k02"', '"k99"'),
        GOOD.replace('"k02"', '"k00"'),
        GOOD.replace('["k01"]', '["k01", "k01"]'),
        GOOD.replace('["k01"]', "[]"),
        GOOD.replace('["k02"]', "[]"),
        GOOD.replace('["k01"]', '"k01"'),
        GOOD.replace('["k01"]', "null"),
        GOOD.replace('["k01"]', '{"k01": 1}'),
        GOOD.replace('"k01"', "1"),
        GOOD.replace('"k01"', '["k01"]'),
        GOOD.replace('"val"', '"valid"'),
        GOOD.replace("}", ', "sha256": 5}'),
        GOOD.replace("}", ', "sha256": null}'),
        f"[{GOOD}]",
        GOOD[:-1],
        "k00 k01 k02",
        "",
        b"\xff\xfe\x00",
        "[" * 100_000,
    ],
    ids=range(19),
)
def test_a_split_by_hand_that_is_wrong_is_one_line_that_names_it(few, tmp_path, text):
    path = by_hand(tmp_path, text)
    code, err = few(4, "--data.split_file", str(path))
    assert (code, err.count("\n")) == (2, 1)
    assert str(path) in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("spell", ["a\\{}", "./a/{}", "a/{}/", ".\\a\\{}\\", "{}\\"])
def test_a_split_may_part_folders_as_on_any_system(tmp_path, spell):
    grown(tmp_path / "tasks" / "a", 4)
    names = [spell.format(f"k{number:02}") for number in range(4)]
    (tmp_path / "split.json").write_text(json.dumps({"train": names[:2], "val": names[2:3], "test": names[3:]}))
    split = Folder(str(tmp_path / "tasks"), 28, 1, split_file=str(tmp_path / "split.json")).split
    assert split == Split(("a/k00", "a/k01"), ("a/k02",), ("a/k03",))


def test_tasks_that_no_split_names_are_told(tmp_path, caplog):
    grown(tmp_path / "tasks", 5)
    (tmp_path / "split.json").write_text('{"train": ["k00"], "val": ["k01"], "test": ["k02"]}')
    Folder(str(tmp_path / "tasks"), 28, 1, split_file=str(tmp_path / "split.json"))
    assert len(caplog.records) == 1
    assert "k03, k04" in caplog.text


def test_numbers_of_tasks_beside_a_split_file_are_told(fit, tmp_path, caplog):
    assert fit(tmp_path / "run", "--data.val", "2", "--data.episodes", "1") == 0
    assert len([record for record in caplog.records if "data.val" in record.getMessage()]) == 1


def test_a_split_that_is_a_folder_is_one_line(few, tmp_path):
    code, err = few(4, "--data.split_file", str(tmp_path))
    assert (code, err.count("\n")) == (2, 1)


def test_a_split_of_glyphs_by_hand_is_taken_too(tmp_path):
    names = Glyphs().split.train[:3]
    path = by_hand(tmp_path, json.dumps({part: [name] for part, name in zip(SPLITS, names, strict=True)}))
    assert EpisodeData("glyphs", split_file=str(path)).task_set.split.test == names[2:]


def test_a_split_that_was_changed_after_it_was_hashed_is_refused_with_a_way_out(tmp_path):
    data = json.loads(Split(("k00",), ("k01",), ("k02",)).to_json())
    data["test"] = ["k03"]
    with pytest.raises(MetagenError, match="leave sha256 out"):
        read_split(by_hand(tmp_path, json.dumps(data)))
    del data["sha256"]
    assert read_split(by_hand(tmp_path, json.dumps(data))).test == ("k03",)
