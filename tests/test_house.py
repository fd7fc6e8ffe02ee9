"""Rules of the house that neither ruff nor mypy knows: few files at the root, one name a module, short functions."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import metagen

PACKAGE = Path(metagen.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FILES = [*MODULES, *sorted(ROOT.glob("experiments/*.py")), *sorted(ROOT.glob("benchmarks/*.py"))]
AT_THE_ROOT, LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 5, 450, 80  # at most
OF_MANY_ROOMS = ("__init__", "base")  # modules whose name says nothing without their room

Function = ast.FunctionDef | ast.AsyncFunctionDef


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Every node of every file, with its place."""
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            yield f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}", node


def test_few_files_lie_at_the_root():
    assert len([*PACKAGE.glob("*.py")]) <= AT_THE_ROOT


def test_no_two_modules_have_one_name():
    names = Counter(file.stem for file in MODULES if file.stem not in OF_MANY_ROOMS)
    assert not [name for name, count in names.items() if count > 1]


def test_docstrings_begin_with_a_verb_or_a_noun():
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = {place: ast.get_docstring(node) or "" for place, node in nodes() if isinstance(node, documented)}
    assert not [place for place, text in texts.items() if text.startswith("What")]


def test_functions_are_short():
    lines = {place: (node.end_lineno or 0) - node.lineno + 1 for place, node in nodes() if isinstance(node, Function)}
    assert not {place: count for place, count in lines.items() if count > LINES_OF_A_FUNCTION}


def test_files_are_short():
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert not {name: count for name, count in lines.items() if count > LINES_OF_A_FILE}
