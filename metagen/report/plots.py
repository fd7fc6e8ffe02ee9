"""Pictures for people: grids with a heading over each block, and curves."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image, ImageDraw, ImageFont

from metagen.report.result import Scores
from metagen.storage.images import to_uint8
from metagen.storage.strict_json import number

SHORTEST = 28 * 3  # small images are enlarged by a whole factor until a cell is about this high
HEADING = 26  # pixels
COLOURS = ("C0", "C1", "C2", "C3", "C4", "C5", "C6", "C8")  # of groups in a map
GREY = "C7"


def labelled(blocks: Mapping[str, torch.Tensor], cell: int) -> torch.Tensor:
    """Blocks [C, H, W] of equal height side by side under their names: [3, H', W'] in [0, 1].

    cell: height of one image in a block, in pixels; decides the enlargement.
    """
    times = max(1, SHORTEST // cell)
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 15)
    panels = [_panel(name, block, times, font) for name, block in blocks.items()]
    gap = Image.new("RGB", (14, panels[0].height), "white")
    strips = [strip for panel in panels for strip in (panel, gap)][:-1]
    whole = Image.new("RGB", (sum(strip.width for strip in strips), panels[0].height), "white")
    left = 0
    for strip in strips:
        whole.paste(strip, (left, 0))
        left += strip.width
    return torch.from_numpy(np.asarray(whole).copy()).permute(2, 0, 1).float() / 255


def curve_png(result: Scores) -> bytes:
    """The criterion of a result of `metagen evaluate` against inner steps, with its interval, as a PNG file."""
    criterion = result["criterion"]
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="inner steps N", ylabel=f"{criterion.replace('_', ' ')}, {result['unit']}")
    curve = result["curve"]
    steps, mean = [point["steps"] for point in curve], [number(point["mean"]) for point in curve]
    low, high = [number(point["low"]) for point in curve], [number(point["high"]) for point in curve]
    axes.plot(steps, mean, marker="o", label="adapted")
    axes.fill_between(steps, low, high, alpha=0.2, label=f"95 % interval over {result['tasks']} tasks")
    rows = {row["row"]: row["figures"].get(criterion) for row in result["rows"]}
    for name, style in (("unadapted", "--"), ("scratch", ":"), ("joint + fine-tune", "-.")):
        if baseline := rows.get(name):
            axes.axhline(number(baseline["mean"]), color="black", linestyle=style, label=name)
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=-0.15)
    axes.set_xticks(steps, [str(n) for n in steps])
    axes.legend()
    return png(figure)


def map_png(way: str, places: torch.Tensor, groups: Sequence[str], images: torch.Tensor) -> bytes:
    """Every task by one of its images at its place, framed in its group's colour: a PNG file.

    Args:
        way: how tasks were embedded.
        places: [T, d]; the first two dimensions are shown, or 0 where there is no second.
        groups: of each task; those beyond the largest, and tasks that are alone in theirs, are framed in grey. Where
            no two tasks share one, all have the same colour.
        images: one of each task, [T, C, H, W] in [0, 1].
    """
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.add_subplot(title=f"{way}: the first two principal components", xlabel="first", ylabel="second")
    shown = _coloured(groups)
    for label, colour, members in shown:
        x, y = F.pad(places[members], (0, 1))[:, :2].T.tolist()
        axes.plot(x, y, "s", color=colour, label=label)
        for task, at in zip(members, zip(x, y, strict=True), strict=True):
            image = to_uint8(images[task]).expand(3, *images.shape[2:]).permute(1, 2, 0).cpu().numpy()
            small = OffsetImage(image, zoom=22 / len(image))
            frame = {"edgecolor": colour, "linewidth": 1.5}
            above = 2 if colour == GREY else 3  # the others hide nobody of a named group
            axes.add_artist(AnnotationBbox(small, at, pad=0.1, bboxprops=frame, zorder=above))
    if len(shown) > 1:
        figure.legend(loc="outside right upper")
    return png(figure)


def _coloured(groups: Sequence[str]) -> list[tuple[str, str, list[int]]]:
    """The label, colour and tasks of each group of a map; all other tasks are the last of them."""
    largest = [group for group, tasks in Counter(groups).most_common(len(COLOURS)) if tasks > 1]
    named = [
        (group, colour, [task for task, of in enumerate(groups) if of == group])
        for group, colour in zip(largest, COLOURS, strict=False)  # there may be fewer groups than colours
    ]
    rest = [task for task, of in enumerate(groups) if of not in largest]
    return [*named, *([("others", GREY if named else COLOURS[0], rest)] if rest else [])]


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _panel(name: str, block: torch.Tensor, times: int, font: ImageFont.FreeTypeFont) -> Image.Image:
    pixels = to_uint8(block).expand(3, *block.shape[1:]).permute(1, 2, 0).cpu().numpy()
    image = Image.fromarray(pixels)
    image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    panel = Image.new("RGB", (image.width, image.height + HEADING), "white")
    ImageDraw.Draw(panel).text((4, 4), name, fill="black", font=font)
    panel.paste(image, (0, HEADING))
    return panel
