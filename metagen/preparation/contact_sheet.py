"""A page that shows pictures before and after they were prepared, in one file of HTML that asks for no other."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from metagen.preparation.paper import Pixels, shrunk

BEFORE, AFTER = 200, 64  # pixels of the longer side of a picture before, and of an image after
HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --line: #8886; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.25rem; }}
section {{ display: flex; flex-wrap: wrap; gap: 1rem; border-top: 1px solid var(--line); padding: 1rem 0; }}
section > div {{ flex: 1 1 20rem; }}
h2 {{ font-size: 1rem; margin: 0; overflow-wrap: anywhere; }}
p {{ margin: 0 0 .5rem; }}
.left {{ font-weight: 600; }}
img.after {{ width: 64px; margin: 0 4px 4px 0; border: 1px solid var(--line); }}
</style>
</head>
<body>
<h1>{title}</h1>
"""


class Panel(NamedTuple):
    """A picture on the page.

    Attributes:
        name: of its file.
        before: the picture made small; None where it could not be read.
        after: the images made of it, uint8 [S, S] or [S, S, 3].
        steps: what was done to it.
        left_out: what was left out of it, or all of it, and why.
    """

    name: str
    before: Pixels | None
    after: Sequence[NDArray[np.uint8]]
    steps: Sequence[str]
    left_out: Sequence[str]


def thumbnail_of(image: Pixels) -> Pixels:
    """A picture [H, W, 3] as small as it stands on the page."""
    return shrunk(image, BEFORE)


def contact_sheet(title: str, panels: Iterable[Panel]) -> bytes:
    """The page, in UTF-8."""
    return (HEAD.format(title=escape(title)) + "".join(map(_section, panels)) + "</body>\n</html>\n").encode()


def _section(panel: Panel) -> str:
    name = escape(panel.name)
    before = "" if panel.before is None else f'<img src="{_inline(panel.before, "JPEG")}" alt="{name}, before">\n'
    small = [np.asarray(Image.fromarray(image).resize((AFTER, AFTER), Image.Resampling.BOX)) for image in panel.after]
    after = "".join(
        f'<img class="after" src="{_inline(image, "PNG")}" alt="{name}, after, {number} of {len(small)}">\n'
        for number, image in enumerate(small, 1)
    )
    steps = f"<p>{escape('; '.join(panel.steps))}</p>\n" if panel.steps else ""
    left = "".join(f'<p class="left">Left out: {escape(reason)}</p>\n' for reason in panel.left_out)
    return f"<section>\n{before}<div>\n<h2>{name}</h2>\n{steps}{left}{after}</div>\n</section>\n"


def _inline(image: NDArray[np.uint8], kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
