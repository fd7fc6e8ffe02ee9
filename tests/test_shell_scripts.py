"""Every shell script, with stand-ins for the programs that it calls: what it asks of them is accepted today."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.projects import ROOT, SCRIPTS, accepts

# Notes by which words it was called, and leaves what the next lines of a script look for.
STAND_IN = """#!/usr/bin/env bash
printf '%q ' "${0##*/}" "$@" >>"$NOTED"
echo >>"$NOTED"
case "${0##*/} $1" in
ip\\ netns) [ "$2" != exec ] || { shift 3; exec "$@"; } ;;
srun*) exec "$@" ;;
python\\ -) exec "$PYTHON" "$@" ;;
metagen* | torchrun*)
  while [ $# -gt 0 ]; do
    case "$1" in
    --config) run="${2#configs/}" run="${run%.yaml}" run="runs/${run/\\//-}" ;;
    --run_dir) run="$2" ;;
    --out) out="$2" ;;
    esac
    shift
  done
  mkdir -p "${out:=$run/export}" && touch "$out/result.json" "$out/samples.png"
  [ -z "${run-}" ] || { mkdir -p "$run/checkpoints" && cp "$CHECKPOINT" "$run/checkpoints/last.ckpt"; }
  ;;
esac
"""
READ = ("BIN", "CONSTRAINTS", "NEWEST_PYTHON", "OLDEST_PYTHON", "VENV", "VENVS")  # by the scripts, from who runs them
PROGRAMS = ("metagen", "python", "ruff", "mypy", "lint-imports", "torchrun", "srun", "ip")


@dataclass
class Shell:
    """A copy of the shell scripts, and what they called.

    Attributes:
        folder: of the copy.
        model: an exported model, which stands for every one.
    """

    folder: Path
    model: Path

    def run(self, script: str, *words: str, code: int = 0, **more: str) -> str:
        """Run a script; what it printed."""
        bin, noted = self.folder / ".venv/bin", self.folder / "noted"
        noted.write_text("")
        env = {name: value for name, value in os.environ.items() if name not in READ}
        env |= {"PATH": f"{bin}:{os.environ['PATH']}", "NOTED": str(noted), "PYTHON": sys.executable}
        env |= {"CHECKPOINT": str(self.model.parent / "checkpoints/last.ckpt"), "PYTHONPATH": str(ROOT), **more}
        words = ("bash", f"scripts/{script}", *words)
        done = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout

    @property
    def called(self) -> list[list[str]]:
        """What programs were called by the last script, each with its words."""
        return [shlex.split(line) for line in (self.folder / "noted").read_text().splitlines()]

    def called_as(self, program: str) -> list[list[str]]:
        """The words of each call of one of them."""
        return [words for name, *words in self.called if name == program]

    def check(self) -> list[list[str]]:
        """Every call of metagen, which takes its words."""
        found = self.called_as("metagen")
        found += [words[words.index("metagen.cli") + 1 :] for words in self.called_as("torchrun")]
        assert all(accepts(words, self.model) for words in found)
        return found


@pytest.fixture
def shell(tmp_path, exported, monkeypatch):
    """The scripts with an environment of stand-ins, as the current folder."""
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    for name in PROGRAMS:
        (tmp_path / ".venv/bin" / name).write_text(STAND_IN)
        (tmp_path / ".venv/bin" / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    return Shell(tmp_path, exported)


def environment(shell: Shell) -> None:
    assert "installing metagen[dev]" in shell.run("environment.sh", "dev")
    (pip,) = shell.called_as("python")
    assert pip[:3] == ["-m", "pip", "install"]
    assert pip[-2:] == ["--editable", f"{shell.folder}[dev]"]
    assert "up to date" in shell.run("environment.sh", "dev")
    assert not shell.called
    (shell.folder / "constraints.txt").write_text("torch\n")
    shell.run("environment.sh", "dev")
    assert len(shell.called_as("python")) == 1
    shutil.rmtree(shell.folder / ".venv")
    shell.run("environment.sh", code=2, PYTHON="no-such-python")


def omniglot(shell: Shell) -> None:
    (shell.folder / "images").mkdir()
    shell.run("omniglot.sh", "images")
    assert len(shell.check()) > 40
    shell.run("omniglot.sh", "images")
    assert not shell.called  # what is there already is not made again


def quickstart(shell: Shell) -> None:
    shell.run("quickstart.sh")
    assert [words[0] for words in shell.check()] == ["demo"]


def slurm(shell: Shell) -> None:
    cluster = {"SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    words = ("--config", "configs/omniglot/redraw.yaml", "--data.root", "DIR", "--run_dir", "runs/a")
    for more in ([], ["--ckpt_path", "last"]):  # the second goes on where the first was stopped
        shell.run("slurm.sh", *words, **cluster)
        (asked,) = shell.check()
        assert [word for word in asked if word in ("--ckpt_path", "last")] == more


def fast_tests(shell: Shell) -> None:
    shell.run("test.sh", "-k", "nothing")
    assert [name for name, *_ in shell.called] == ["python", "ruff", "ruff", "mypy", "lint-imports", "python"]
    understood(shell.called_as("python")[-1])


def slow_tests(shell: Shell) -> None:
    shell.run("test_slow.sh", "-k", "nothing")
    *_, words = shell.called_as("python")
    assert (ROOT / words[words.index("-q") + 1]).is_dir()
    understood(words)


def gpu_tests(shell: Shell) -> None:
    shell.run("test_gpu.sh", "cpu")
    asked = [words for words in shell.called_as("python") if words[:1] == ["-m"]]
    verbs = [words[2:] for words in asked if words[1] == "metagen.cli"]
    assert [words[0] for words in verbs] == ["fit", "fit", "evaluate"]
    assert all(accepts(words, shell.model) for words in verbs)
    assert all((ROOT / word).is_file() for words in asked for word in words if word.startswith("tests/"))


def versions(shell: Shell) -> None:
    for name in ("oldest", "newest"):
        shutil.copytree(shell.folder / ".venv", shell.folder / ".venvs" / name)
    shell.run("test_versions.sh", "both", "-k", "nothing")
    oldest, newest = (Path(f".venvs/{name}.txt").read_text().splitlines() for name in ("oldest", "newest"))
    assert "torch==2.11.0" in oldest
    assert not any(pin.startswith("torch==") for pin in newest)
    tests = [words for words in shell.called_as("python") if words[:2] == ["-m", "pytest"]]
    assert len(tests) == 2
    understood(tests[-1])
    shell.run("test_versions.sh", "olderst", code=2)


def two_hosts(shell: Shell) -> None:
    assert "differ by at most 0.0e+00" in shell.run("two_hosts.sh")
    assert len(shell.check()) == 3
    assert [words[:3] for words in shell.called_as("ip") if "delete" in words] == [
        ["netns", "delete", f"metagen-host-{i}"] for i in (0, 1)
    ]


def understood(words: list[str]) -> None:
    """Whether pytest takes these words, none of whose tests are run."""
    words = [sys.executable, *words, "--collect-only", "--ignore-glob", "*", "--noconftest"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stderr


SMOKE = {
    "environment": environment,
    "omniglot": omniglot,
    "quickstart": quickstart,
    "slurm": slurm,
    "test": fast_tests,
    "test_gpu": gpu_tests,
    "test_slow": slow_tests,
    "test_versions": versions,
    "two_hosts": two_hosts,
}


def test_every_shell_script_has_a_smoke_test():
    assert {path.stem for path in SCRIPTS.glob("*.sh")} == SMOKE.keys()


@pytest.mark.parametrize("name", SMOKE)
def test_the_shell_script_runs(name, shell):
    assert subprocess.run(["bash", "-n", SCRIPTS / f"{name}.sh"], check=False).returncode == 0
    SMOKE[name](shell)
