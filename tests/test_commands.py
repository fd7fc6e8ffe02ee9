"""Commands and options that pages and configs show: each is one that is accepted today."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from metagen.cli import VERBS, main
from metagen.commands import fit, parsers
from metagen.core.registry import options_of
from metagen.errors import MetagenError
from metagen.generators import generators
from metagen.learners import learners
from tests.configs import CONFIGS
from tests.projects import PROGRAMS, ROOT, accepts

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "results").glob("*/README.md"))]
VERB = rf"metagen +(?:{'|'.join(VERBS)})\b"


def fenced(text: str) -> list[str]:
    """The lines of a page's blocks of commands, those that go on joined."""
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def inline(text: str) -> list[str]:
    """What a page shows as code amid its words."""
    return [
        " ".join(code.split()) for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    ]


def commented(text: str) -> list[str]:
    """The comments of a config, those that go on joined."""
    return [line.lstrip("# ") for line in text.replace("\\\n#", " ").splitlines() if line.startswith("#")]


def shown(place: Path) -> list[str]:
    """What a page or a config shows as code."""
    text = place.read_text(encoding="utf-8")
    return [*fenced(text), *inline(text)] if place.suffix == ".md" else commented(text)


SHOWN = {line: place for place in (*PAGES, *CONFIGS) for line in shown(place) if re.match(VERB, line)}
SHOWN |= dict.fromkeys((verb.example for verb in VERBS.values()), ROOT / "metagen/cli.py")

PROGRAM = re.compile(r"(?:python|bash|sbatch|sudo bash) (scripts|experiments|benchmarks)/(\w+)\.(py|sh)\b(.*)")
RUN = {found[0]: (place, found) for place in PAGES for found in map(PROGRAM.fullmatch, shown(place)) if found}
OPTIONS = {line: place for place in PAGES for line in shown(place) if re.match(r"--[a-z]", line)}


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_that_is_shown_is_accepted(command, exported, blobs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_images").symlink_to(blobs / "tasks")
    words = shlex.split(command.removesuffix("..."), comments=True)[1:]
    assert accepts(words, exported), f"{SHOWN[command]}: {capsys.readouterr().err}"


@pytest.fixture(scope="module")
def options():
    """Every option of every verb, experiment, generator and learner, and those of the commands that start processes."""
    known = {"--nproc_per_node", "--nnodes", "--dry-run", "--debug", "--help"}
    with pytest.MonkeyPatch.context() as patch:

        def explained(error, verb, options, *choices):
            known.update(options)
            return MetagenError("")

        for module in (parsers, fit):
            patch.setattr(module, "explained", explained)
        for verb in VERBS:
            assert main([verb, "--no-such-option"]) == 2
    for path in PROGRAMS:
        known.update(re.findall(r'add_argument\("(--\w+)"', path.read_text()))
    parts: dict[str, list[type]] = {"generator": [*generators.classes], "learner": [*learners.classes]}
    return known | {f"--model.{part}.{name}" for part, of in parts.items() for cls in of for name in options_of(cls)}


@pytest.mark.parametrize("line", OPTIONS)
def test_an_option_that_is_shown_is_one_of_some_verb(line, options):
    assert set(re.findall(r"(?<!\S)--[\w.-]+", line)) <= options, OPTIONS[line]


@pytest.mark.parametrize("command", RUN)
def test_a_program_that_is_shown_takes_these_words(command, project, monkeypatch):
    _, (folder, name, kind, rest) = RUN[command][0], RUN[command][1].groups()
    assert (ROOT / folder / f"{name}.{kind}").is_file()
    parse = argparse.ArgumentParser.parse_args

    def parsed(parser, argv):
        raise Parsed(parse(parser, argv))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parsed)
    if kind == "py":
        with pytest.raises(Parsed):
            project.run(f"{folder}.{name}", *shlex.split(rest.replace("...", ""), comments=True))


class Parsed(Exception):
    """The arguments of a program were understood; no more is wanted of it."""


def test_there_are_commands():
    assert len(SHOWN) > 80
    assert len(RUN) > 8
    assert len(OPTIONS) > 10


@pytest.mark.parametrize("words", ["--data.shotz 3", "--data.shots x", "--model.learner Mamll", "--trainer.devises 2"])
def test_what_no_parser_knows_is_not_accepted(words, exported):
    assert not accepts(["fit", "--config", "quickstart", *words.split()], exported)
