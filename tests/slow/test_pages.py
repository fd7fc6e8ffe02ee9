"""The commands of README and docs, run as a reader would run them, by small configs over small data."""

from __future__ import annotations

import shlex
import shutil

import pytest

from metagen.storage.images import save_pngs
from tests.doubles import Blobs
from tests.projects import ROOT
from tests.test_commands import fenced
from tests.test_docs import blocks

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


BLOCKS = blocks(PAGES, "bash")


@pytest.fixture
def reader(project, exported, blobs):
    """A folder with all that the commands name: images, models M and runs/a to c that were evaluated, and data DIR."""
    for place in ("my_images", "DIR"):
        shutil.copytree(blobs / "tasks", project.folder / place)
    save_pngs(Blobs(tasks=1, images=5).images("blob-0"), project.folder / "five_images")
    shutil.copytree(exported, project.folder / "M")
    for run in ("a", "b", "c"):
        shutil.copytree(exported, project.folder / "runs" / run / "export")
        words = ("--data.root", "DIR", "--data.queries", 4, "--limit", 3)
        project.metagen("evaluate", "--model", f"runs/{run}/export", *words, "--out", f"runs/{run}/evaluation")
    return project


@pytest.mark.parametrize("name", BLOCKS)
def test_the_commands_of_a_page_run(name, reader):
    if "omniglot" in BLOCKS[name]:
        shutil.rmtree(reader.folder / "DIR")
        (reader.folder / "DIR").symlink_to(reader.root)
    for line in fenced(f"```bash\n{BLOCKS[name]}```"):
        program, *words = shlex.split(line, comments=True)
        assert program == "metagen", f"mark why this is not run: {line}"
        reader.metagen(*words)
