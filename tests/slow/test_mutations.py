"""Faults that are put into a copy of the package on purpose: the tests next to each of them have to fail.

Ten are written by hand. Ten more are drawn by a seed from the arithmetic and the comparisons of the core; where no test
near them fails, the whole test command has to.
"""

from __future__ import annotations

import ast
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.projects import ROOT


class Fault(NamedTuple):
    """A change of one line, and the tests that should see it."""

    file: str
    right: str
    wrong: str
    tests: str


FAULTS = {
    "a step goes uphill": Fault("core/factored.py", "weight) - rate * cast", "weight) + rate * cast", "adaptation"),
    "the meta-gradient of first order": Fault(
        "adaptation/inner_loop.py",
        "if second_order else tree_map",
        "if not second_order else tree_map",
        "meta_gradients",
    ),
    "support and query are swapped": Fault(
        "tasks/episodes.py", "floats[:, :shots], floats[:, shots:]", "floats[:, shots:], floats[:, :shots]", "episodes"
    ),
    "the support in the reference": Fault(
        "evaluation/trial.py",
        '"reference", episode.query[:, :half]',
        '"reference", episode.support[:, :half]',
        "evaluation",
    ),
    "one real half for both": Fault(
        "evaluation/trial.py",
        "episode.query[:, half : 2 * half]\n    copies",
        "episode.query[:, :half]\n    copies",
        "evaluation",
    ),
    "a resumed run repeats an episode": Fault(
        "training/episode_data.py", "progress.total.completed, self", "progress.total.completed - 1, self", "training"
    ),
    "the averaged weights forget": Fault(
        "training/callbacks.py", "_foreach_lerp(new, old, keep)", "_foreach_lerp(old, new, keep)", "callbacks training"
    ),
    "all tasks draw the same noise": Fault(
        "adaptation/draws.py", "player), rows_of(tasks, ", "player), rows_of([0] * len(tasks), ", "adaptation"
    ),
    "a process takes another's tasks": Fault(
        "tasks/episodes.py", "range(rank * share, (rank + 1) * share)", "range(share)", "episodes"
    ),
    "far samples count as copies": Fault(
        "metrics/copying.py", "/ unit <= threshold", "/ unit > threshold", "metrics_copying"
    ),
}
# The rooms from which faults are drawn, and the tests near each file.
CORE = {
    "adaptation/inner_loop.py": "adaptation meta_gradients",
    "adaptation/meta_gradients/adjoint.py": "adjoint",
    "adaptation/meta_gradients/implicit.py": "imaml",
    "core/functional.py": "adaptation meta_gradients",
    "core/warps.py": "warps augmentation",
    "generators/base.py": "vae generators",
    "generators/vae.py": "vae generators",
    "generators/tokens/quantiser.py": "tokenizer",
    "generators/tokens/token_sampling.py": "token_sampling token_vae",
    "metrics/intervals.py": "intervals",
    "tasks/episodes.py": "episodes",
    "tasks/splits.py": "splits",
}
SWAPS = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
}


def drawn(seed: int, count: int) -> list[Fault]:
    """Faults of one operator each, in different places."""
    places = [fault for file, tests in CORE.items() for fault in operators(file, tests)]
    return random.Random(seed).sample(places, count)  # noqa: S311


def operators(file: str, tests: str) -> list[Fault]:
    """Every fault of one operator on a line that stands once in a file."""
    text = (ROOT / "metagen" / file).read_text(encoding="utf-8")
    lines, found = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        pairs: list[tuple[ast.AST, ast.expr, ast.expr]] = []
        if isinstance(node, ast.BinOp) and type(node.op) in SWAPS:
            pairs = [(node.op, node.left, node.right)]
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            pairs = [(node.ops[0], node.left, node.comparators[0])]
        for operator, left, right in pairs:
            line = lines[left.end_lineno - 1] if left.end_lineno == right.lineno else ""
            if text.count(line) == 1 and isinstance(node, ast.expr) and not _formats(right):
                middle = (
                    line[: left.end_col_offset],
                    line[left.end_col_offset : right.col_offset],
                    line[right.col_offset :],
                )
                symbol = middle[1].strip("() ")
                wrong = middle[0] + middle[1].replace(symbol, SWAPS[type(operator)], 1) + middle[2]
                found.append(Fault(file, line, wrong, tests))
    return found


def _formats(right: ast.expr) -> bool:
    """Whether an operand is a text, as where a number is formatted."""
    return isinstance(right, ast.Constant) and isinstance(right.value, str)


def outcome(fault: Fault | None, tests: str, folder: Path) -> int:
    """The exit code of pytest over a copy of the package with the fault in it."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(".*", "runs", "docs", "results", "__pycache__"))
    if fault:
        path = folder / "metagen" / fault.file
        text = path.read_text(encoding="utf-8")
        assert text.count(fault.right) >= 1, fault
        path.write_text(text.replace(fault.right, fault.wrong, 1), encoding="utf-8")
    files = [f"tests/test_{name}.py" for name in tests.split()]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files]
    path_first = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=path_first, capture_output=True).returncode


def test_without_a_fault_they_pass(tmp_path):
    tests = sorted({name for fault in FAULTS.values() for name in fault.tests.split()})
    assert outcome(None, " ".join(tests), tmp_path / "copy") == 0


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name, tmp_path):
    assert outcome(FAULTS[name], FAULTS[name].tests, tmp_path / "copy") == 1


@pytest.mark.parametrize("fault", drawn(seed=0, count=10), ids=lambda fault: f"{fault.file}: {fault.wrong.strip()}")
def test_a_fault_that_was_drawn_is_caught(fault, tmp_path):
    assert outcome(fault, fault.tests, tmp_path / "copy") == 1
