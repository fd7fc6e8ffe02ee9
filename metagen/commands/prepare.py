"""`metagen prepare`: photographs or scans made into a task or a task set."""

from __future__ import annotations

from typing import Literal

from metagen.preparation import prepared
from metagen.report.next_steps import next_steps, sibling
from metagen.storage.files import placed


def prepare(
    source: str,
    out: str,
    /,
    kind: Literal["auto", "ink", "photo", "faces"] = "auto",
    sheet: bool | Literal["auto"] = "auto",
    size: int = prepared.SIZE,
) -> None:
    """Make photographs or scans into a task, or a folder of folders of them into a task set.

    Ink is freed from its paper, its light and its lines; sheets of several drawings are cut apart. Blurred pictures and
    those that are there twice are left out, and listed with the reason. Nothing is overwritten.

    Args:
        source: a folder of pictures, a folder or archive of such folders, or one picture.
        out: the folder to write to; beside it OUT.html shows before and after, and OUT.json lists all.
        kind: ink on paper; photo, of which the central square is taken; or faces, for which pip install
            'metagen[faces]'; auto to tell by the pictures.
        sheet: whether a picture of ink holds several drawings; auto to tell by the gaps between marks.
        size: of the images, in pixels.
    """
    made, place = prepared.prepare(source, out, kind, sheet, size), placed(out)
    print(f"wrote {made.summary}")
    for line in made.told:
        print(line)
    print(f"look at {place}.html: before and after; {place}.json lists all")
    if len(made.tasks) > 1 or made.kind != "ink":
        print(next_steps(["fit", "--data.root", out]))
    else:
        support = place / next(iter(made.tasks))
        print(next_steps(["adapt", "--model", "omniglot", "--support", support, "--out", sibling(out, "model")]))
