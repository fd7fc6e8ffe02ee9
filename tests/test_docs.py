"""Pages as a reader uses them: their Python runs, their links lead somewhere, none waits to be filled in."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.projects import ROOT

PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "results").rglob("*.md"))]


def blocks(pages: Sequence[Path], language: str) -> dict[str, str]:
    """The blocks of code on pages; one that is not run stands below a comment that says why."""
    pattern = re.compile(rf"^(<!-- not run: .+ -->\n)?```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    found = {page.relative_to(ROOT).as_posix(): pattern.findall(page.read_text(encoding="utf-8")) for page in pages}
    return {
        f"{page}-{number}": block
        for page, given in found.items()
        for number, (reason, block) in enumerate(given)
        if not reason
    }


GIVEN = "import torch\n\nsupport = torch.rand(2, 3, 1, 28, 28)\n"  # that the text around a block names
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(#[^)\s]*)?\)")


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings have on the usual hosts of code."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


PYTHON = blocks(PAGES, "python")


@pytest.mark.parametrize("name", PYTHON)
def test_the_python_of_a_page_runs(name, exported, blobs, tmp_path):
    image = next((blobs / "tasks").rglob("*.png"))
    shutil.copy(image, tmp_path / "one_image.png")
    shutil.copytree(image.parent, tmp_path / "five_images")
    shutil.copytree(exported, tmp_path / "runs/quickstart/export")
    done = subprocess.run([sys.executable, "-c", GIVEN + PYTHON[name]], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor[1:] in anchors(target), path + anchor


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_left_to_be_filled_in(page):
    assert not re.search(r"@@|\bTODO\b|\bXXX\b", page.read_text(encoding="utf-8"))
