"""The one set of `--data.*` options that every verb takes."""

from __future__ import annotations

import logging
from typing import Any

import torch

from metagen.errors import MetagenError, check_at_least
from metagen.tasks import TaskSet, task_sets
from metagen.tasks.celeba import CelebAPartition
from metagen.tasks.episodes import Episodes
from metagen.tasks.folder import OnBadImage
from metagen.tasks.omniglot import OmniglotPartition
from metagen.tasks.shots import distribution_of, held_out_shots

log = logging.getLogger(__name__)

OF_THIS_MACHINE = ("root", "split_file", "on_bad_image")  # options that no model keeps


class TaskOptions:
    """The task set, and the episodes drawn from it.

    Args:
        task_set: "glyphs" (built in), "avatars" (drawn people), "omniglot", "celeba", or "folder" (your own images: one
            leaf folder a task, or an archive of such a tree).
        root: where the images lie (omniglot, celeba, folder), or a folder of your own fonts (glyphs).
        size: height and width in pixels, 28 to 128.
        channels: 1 (grey) or 3 (RGB).
        invert: exchange black and white.
        split_file: a JSON split to use in place of the task set's own.
        val: val tasks where `split_file` names none: a share of all, such as 0.3, or how many (folder).
        test: the same for the test tasks (folder).
        partition: which of its own splits (omniglot: canonical, random1200; celeba: identity, official).
        binarise: make every pixel 0 or 1 (omniglot).
        download: fetch the images into `root` first if they are not there (omniglot, celeba).
        on_bad_image: "raise", or "skip" images that cannot be read (folder).
        min_images: tasks with fewer images are left out, with a warning (folder, celeba).
        identities: people of each style of drawing, 225 by default (avatars).
        shots: k, the support images of a task; or, of train episodes, the probability of each k: {1: 0.4, 5: 0.6}.
        queries: the images of a task that judge an adaptation.
        tasks: train tasks an episode, over all processes.
        augment: turn, mirror and distort each train task of an episode, all its images alike, for signs that may stand
            any way.
        turns: deprecated, see `augment`: whether a train task turned by quarters is a train task too.
        val_tasks: how many val tasks are watched during training.
        val_shots: the k at which they are; that of `shots` or, of several, 1 and 5 where no more than the largest. The
            largest of them is that of all held-out tasks.
        episodes: meta-steps of the run (of an epoch, to be exact).
        seed: of the episodes.
        workers: processes that read ahead where images are streamed from disk (celeba, a large folder); 0 for none.

    Raises:
        MetagenError: a number is out of range, or both `augment` and `turns` are asked for.
    """

    def __init__(
        self,
        task_set: str = "glyphs",
        root: str | None = None,
        size: int = 28,
        channels: int = 1,
        invert: bool = False,
        split_file: str | None = None,
        val: int | float | None = None,
        test: int | float | None = None,
        partition: OmniglotPartition | CelebAPartition | None = None,
        binarise: bool = False,
        download: bool = False,
        on_bad_image: OnBadImage | None = None,
        min_images: int | None = None,
        identities: int | None = None,
        shots: int | dict[int, float] = 5,
        queries: int = 15,
        tasks: int = 16,
        augment: bool = False,
        turns: bool = False,
        val_tasks: int = 60,
        val_shots: list[int] | None = None,
        episodes: int = 3000,
        seed: int = 0,
        workers: int = 2,
    ) -> None:
        super().__init__()
        numbers = {"queries": queries, "tasks": tasks, "val_tasks": val_tasks, "episodes": episodes}
        for name, value in numbers.items():
            check_at_least(f"data.{name}", value, 1)
        for name, value in {"seed": seed, "workers": workers}.items():
            check_at_least(f"data.{name}", value, 0)
        self.workers = workers
        self.options: dict[str, Any] = {"root": root, "size": size, "channels": channels, "invert": invert}
        self.options |= {"split_file": split_file, "partition": partition, "on_bad_image": on_bad_image}
        self.options |= {"min_images": min_images, "identities": identities, "val": val, "test": test}
        self.options |= {"binarise": binarise or None, "download": download or None}  # unknown to most task sets
        self.name, self.shots, self.queries, self.seed = task_set, shots, queries, seed
        self.train_shots = distribution_of(shots)
        self.val_shots = held_out_shots(self.train_shots, val_shots)
        if turns:
            _check_turns(augment)
        self.augment, self.turns = augment, turns
        self.tasks, self.val_tasks, self.episodes_per_epoch = tasks, val_tasks, episodes
        self._task_set: TaskSet | None = None

    @property
    def held_out_shots(self) -> int:
        """The k of held-out tasks: the largest of `val_shots`."""
        return self.val_shots[-1]

    @property
    def task_set(self) -> TaskSet:
        """The task set, made when first asked for.

        Raises:
            MetagenError: it cannot be read, or does not know an option.
        """
        if self._task_set is None:
            given = {name: value for name, value in self.options.items() if value is not None}
            self._task_set = task_sets.build({"name": self.name, **given})
        return self._task_set

    @property
    def inputs(self) -> list[str]:
        """The files and folders of this machine that are read, where given."""
        return [self.options[name] for name in ("root", "split_file") if self.options[name]]

    @property
    def of_this_machine(self) -> dict[str, Any]:
        """The options that are of this machine, or of one command, alone; None where not given."""
        return {name: self.options[name] for name in OF_THIS_MACHINE}

    @property
    def description(self) -> dict[str, Any]:
        """The task set's options as JSON-ready data, without paths of this machine."""
        idle = ("val", "test") if self.options["split_file"] else ()
        left_out = (*OF_THIS_MACHINE, "download", *idle)
        given = {name: value for name, value in self.options.items() if value is not None and name not in left_out}
        return {"task_set": self.name, **given}

    @property
    def episodes(self) -> Episodes:
        """The episodes of these tasks, on the CPU."""
        return self._episodes_on("cpu")

    def _episodes_on(self, device: torch.device | str) -> Episodes:
        shots = (self.held_out_shots, self.queries)
        return Episodes(self.task_set, *shots, self.seed, self.turns, device, self.augment, self.train_shots)


def _check_turns(augment: bool) -> None:
    if augment:
        raise MetagenError("data.turns: data.augment turns tasks already; leave out --data.turns")
    log.warning("data.turns: deprecated, and gone in the next release; data.augment takes its place")
