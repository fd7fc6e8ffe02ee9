"""Figures and rows of a scorecard as tables head and explain them, and those that the terminal shows by default."""

from __future__ import annotations

from typing import NamedTuple


class Heading(NamedTuple):
    """The heading of a column, for every table of a terminal or a page.

    Attributes:
        title: of the column.
        clause: explains it to somebody who has read nothing else.
        digits: after the point, where a figure stands with both ends of its interval.
    """

    title: str
    clause: str
    digits: int = 2


HEADINGS = {
    "query_loss": Heading("query loss", "what the model minimises, on images it was not shown; less is better"),
    "fid": Heading("FID", "distance from real images through Inception, all tasks together; less is better"),
    "fd": Heading("Frechet", "Frechet distance from real images, all tasks together; less is better"),
    "recognisability": Heading("recognised %", "images nearest to their own task, among 20 or all; copies have 100", 1),
    "diversity_relative": Heading(
        "diversity %", "how much a task's images vary, real ones being 100; noise has it, too", 1
    ),
    "copy_ratio": Heading("copy ratio", "distance from the images given: 0 copies them, 1 is as far as real images"),
    "near_copies": Heading("near copies %", "images that nearly copy one that was given; real ones have 5", 1),
    "energy": Heading("energy", "energy distance of each task's images from its real ones; less is better"),
    "kid": Heading("kernel", "kernel distance from real images; less is better, and 0 is right", 3),
    "fd_task": Heading("Frechet, task", "Frechet distance within each task, then the mean; less is better"),
    "fd_infinity": Heading(
        "Frechet, endless", "Frechet distance extrapolated to endlessly many images; less is better"
    ),
    "is": Heading("IS", "Inception Score: classes that are clear and many; more is better", 1),
    "precision": Heading("precision %", "share of images near real ones; more is better", 1),
    "recall": Heading("recall %", "share of real images near made ones; more is better", 1),
    "density": Heading("density", "how many real neighbourhoods an image lies in; 1 is as real images"),
    "coverage": Heading("coverage %", "share of real images with a made one near; more is better", 1),
    "diversity": Heading("diversity", "how much a task's images vary; as real ones is best", 3),
    "pairwise": Heading("pairwise", "mean distance between two images of a task; as real ones is best"),
    "pairwise_cluster": Heading("within cluster", "the same of images with one nearest support; as real ones is best"),
    "lpips": Heading("LPIPS", "mean perceptual distance between two images of a task; as real ones is best", 3),
    "lpips_cluster": Heading(
        "LPIPS in cluster", "the same of images with one nearest support; as real ones is best", 3
    ),
    "originality": Heading("originality", "distance from the mean of the images given; as real ones is best"),
    "originality_relative": Heading(
        "originality %", "distance from the mean of the images given, real ones being 100", 1
    ),
    "mifid": Heading("MiFID", "Frechet distance over how unlike the images given they are; less is better"),
}
FIRST = (
    "query_loss",
    "fid",
    "fd",
    "recognisability",
    "diversity_relative",
    "lpips",
    "copy_ratio",
    "near_copies",
    "energy",
    "kid",
)
COLUMNS = 6  # figures at most, the first of those measured, in a table of nothing that was named

# The rows that a table shows, each with a clause: at most ten, which is what the terminal shows.
ROWS = {
    "adapted": "the model as it is used",
    "human": "other real images of the same tasks",
    "affine x1": "the images given, shifted, turned and stretched at random",
    "unadapted": "the model before it has seen any image of the task",
    "another task's support": "the model, given images of the wrong task",
    "context only": "the model without its steps, looking at the images alone",
    "scratch": "the same network, never trained before",
    "joint + fine-tune": "a network trained on all tasks mixed, then fine-tuned",
    "auto steps": "the number of steps chosen for each task by its images",
    "copy": "the images given, unchanged",
}
