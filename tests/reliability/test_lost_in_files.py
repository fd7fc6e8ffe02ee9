"""Configs and JSON written by hand of which a parser would drop something: refused in one line."""

from __future__ import annotations

import json

import pytest

from metagen.cli import main
from metagen.commands.words import check_config
from metagen.errors import MetagenError
from metagen.storage.strict_json import read_json
from metagen.tasks.splits import read_split

CONFIGS = {
    "one option twice": b"overwrite: true\noverwrite: false\n",
    "a group twice": b"data: {shots: 1}\ndata: {queries: 2}\n",
    "deep in a group": b"a:\n  b:\n    - {c: 1, c: 2}\n",
    "JSON": b'{"overwrite": true, "overwrite": false}',
    "itself": b"a: &a [*a]\n",
    "bytes": b"\x00\xff\xfe\x80",
    "UTF-16": "overwrite: true".encode("utf-16"),
    "nothing": b"",
    "comments alone": b"# nothing\n",
    "a list": b"- 1\n",
    "a page": b"<html><body>404</body></html>",
    "tabs": b"a:\n\t- b\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "deep": b"[" * 3000,
}


@pytest.mark.parametrize("verb", ["fit", "adapt", "evaluate", "train-extractor", "zoo"])
@pytest.mark.parametrize("content", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_cannot_be_taken_whole_is_refused(tmp_path, capsys, monkeypatch, verb, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_bytes(content)
    assert main([verb, "--config", "mine.yaml"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "mine.yaml" in told
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("content", ["a: &x {b: 1}\nc: *x\nd: *x\n", "a: {b: 1}\nc: {b: 1}\n", "\ufeffa: 1\r\n"])
def test_a_config_that_names_each_option_once_is_taken(tmp_path, content):
    (tmp_path / "mine.yaml").write_bytes(content.encode())
    check_config(tmp_path / "mine.yaml")


def test_parts_that_are_shared_many_times_are_looked_at_once(tmp_path):
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
    (tmp_path / "mine.yaml").write_text("\n".join(lines))
    check_config(tmp_path / "mine.yaml")


def test_json_that_names_something_twice_is_refused(tmp_path):
    where = tmp_path / "split.json"
    where.write_text('{"train": ["a"], "train": ["b"], "val": ["c"], "test": ["d"]}')
    with pytest.raises(ValueError, match="train"):
        read_json(where)
    with pytest.raises(MetagenError):
        read_split(where)
    where.write_text(json.dumps({"train": ["b"], "val": ["c"], "test": ["d"]}))
    assert read_split(where).train == ("b",)
