"""The commands of README and docs, run as a reader would run them, by small configs over small data."""

from __future__ import annotations

import shlex
import shutil

import pytest

from metagen.generators.tokens import token_vae
from metagen.storage.bundled import bundled
from metagen.storage.images import save_pngs
from tests.doubles import Blobs
from tests.projects import ROOT
from tests.test_commands import fenced
from tests.test_docs import blocks

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


BLOCKS = blocks(PAGES, "bash")
SHORTER = {"train-extractor": ("--steps", 20)}  # of what takes minutes


@pytest.fixture
def reader(project):
    """A folder with all that the commands name: images, Omniglot in DIR, models M and runs/a to c, these evaluated."""
    blobs = Blobs(tasks=40)
    for number in range(blobs.tasks):
        save_pngs(blobs.images(f"blob-{number}"), project.folder / "my_images" / str(number))
    save_pngs(blobs.images("blob-0")[:5], project.folder / "five_images")
    (project.folder / "DIR").symlink_to(project.root)
    shutil.copytree(bundled("models", "omniglot"), "M")
    shutil.copytree(bundled("models", "glyphs"), "runs/a/export")
    project.metagen("evaluate", "--model", "runs/a/export", "--limit", 3, "--out", "runs/a/evaluation")
    for run in ("runs/b", "runs/c"):
        shutil.copytree("runs/a", run)
    project.patch.setattr(token_vae, "GRID", {"temperature": (1.0,)})  # `tune` takes minutes else
    return project


@pytest.mark.parametrize("name", BLOCKS)
def test_the_commands_of_a_page_run(name, reader):
    for line in fenced(f"```bash\n{BLOCKS[name]}```"):
        program, *words = shlex.split(line, comments=True)
        assert program == "metagen", f"mark why this is not run: {line}"
        reader.metagen(*words, *SHORTER.get(words[0], ()))
