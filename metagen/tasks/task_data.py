"""Tasks with the checks of what may be trained and evaluated on them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from metagen.errors import MetagenError, some
from metagen.storage.files import placed
from metagen.tasks.seen import MOST, PARTS, SeenTasks, joined, mostly
from metagen.tasks.splits import HELD_OUT
from metagen.tasks.support_images import FAINT, INKS, Ground, ground_of, span, trained_ground
from metagen.tasks.task_options import TaskOptions

log = logging.getLogger(__name__)

COLOURED = 0.01  # mean distance between the channels of an image, from which it has colours
LOOKED_AT = 8  # tasks, and images of each, by which it is decided on what ground ink stands, and whether they are blank


class TaskData(TaskOptions):
    """Tasks to learn from and held-out tasks to be judged by.

    The options are those of `TaskOptions`.

    Attributes:
        earlier: the tasks seen by a model or a run from which a run on these tasks goes on.
    """

    earlier = SeenTasks()
    _warned: frozenset[str] = frozenset()

    @property
    def ground(self) -> Ground:
        """The ground on which ink stands in a few images of a few train tasks; "none" where they have colours."""
        images = torch.cat([*self._glimpsed("train").values()])
        return "none" if (images - images[:, :1]).abs().mean() > COLOURED else ground_of(images)

    def tell_ground(self, name: str, info: Mapping[str, Any]) -> None:
        """Warn of a model, by what the user calls it, that was trained on ink of another kind than these tasks show.

        info: of the model.
        """
        known = trained_ground(info)
        if known in INKS and self.ground in INKS and known != self.ground:
            log.warning(
                "%s: trained on %s, and these tasks show %s; --data.invert exchanges black and white",
                *(name, INKS[known], INKS[self.ground]),
            )

    def check(self, processes: int) -> None:
        """Refuse what so many processes cannot share.

        Raises:
            MetagenError: an episode cannot be cut into equal shares, or there are too few tasks.
        """
        train, val = self.task_set.split.train, self.task_set.split.val
        if self.tasks % processes:
            raise MetagenError(
                f"data.tasks: {self.tasks} tasks an episode cannot be shared evenly by {processes} processes; "
                "give a multiple"
            )
        known = len(self.episodes.known)
        if self.tasks > known:
            raise MetagenError(f"data.tasks: expected at most the {known} train tasks, got {self.tasks}")
        if min(self.val_tasks, len(val)) < processes:
            raise MetagenError(
                f"data.val_tasks: expected at least one for each of {processes} processes, "
                f"got {min(self.val_tasks, len(val))}"
            )

        self.check_counts(train, max(self.train_shots))
        self.check_counts(val)
        if self.options["split_file"] and (idle := [name for name in HELD_OUT if self.options[name] is not None]):
            self._warn_once(
                "idle", f"data.{', data.'.join(idle)}: not used, since data.split_file names the tasks of each split"
            )

    def check_counts(self, tasks: Sequence[str], shots: int | None = None) -> None:
        """Refuse tasks with fewer images than an episode needs.

        shots: the most support images of one; None for those of held-out tasks.

        Raises:
            MetagenError: naming them.
        """
        counts = {task: self.task_set.image_count(task) for task in tasks}
        shots = shots or self.held_out_shots
        need = shots + self.queries
        small = [f"{task!r} has {count}" for task, count in counts.items() if count < need]
        if small:
            how = f" with --data.min_images {need}" if hasattr(self.task_set, "min_images") else ""
            raise MetagenError(
                f"{shots} shots and {self.queries} queries need {need} images a task, but {some(small)}: "
                f"add images, lower --data.queries or --data.shots, or leave those tasks out{how}"
            )

    def check_size(self, name: str, size: int, channels: int) -> None:
        """Refuse a model, by what the user calls it, of another size of images in pixels, or number of channels.

        Raises:
            MetagenError: saying what it makes.
        """
        if (self.task_set.size, self.task_set.channels) != (size, channels):
            raise MetagenError(
                f"{name}: makes images of {size} px and {channels} channels; leave out --data.size and --data.channels"
            )

    def check_outside(self, out: Path) -> None:
        """Refuse an output in the tree that the tasks are read from, whose images would be tasks the next time.

        Raises:
            MetagenError: it lies there, and no split file says which tasks count.
        """
        if self.name != "folder" or self.options["split_file"] or not self.options["root"]:
            return
        root, place = (Path(os.path.realpath(path)) for path in (placed(self.options["root"]), out))
        if root in place.parents and not any(part.startswith(".") for part in place.relative_to(root).parts):
            raise MetagenError(f"{out}: lies in {root}, so that images in it would be tasks; choose a place outside")

    def tell_blank(self, split: str) -> None:
        """Warn of tasks of a split, among the first few, most of whose images show nothing, or nearly so."""
        with suppress(MetagenError):  # of an image that cannot be read, which is raised again by whoever needs it
            glimpsed = self._glimpsed(split).items()
            blank = [task for task, images in glimpsed if (span(images) < FAINT).float().mean() > MOST]
            if blank:
                tried = f"{len(blank)} of {len(glimpsed)} {split} tasks that were looked at"
                hint = "save light ink on transparency on a dark ground" if self.name == "folder" else "are they meant?"
                self._warn_once(split, f"{tried} show nothing, or nearly so, as they are read: {some(blank)}; {hint}")

    def _glimpsed(self, split: str) -> dict[str, torch.Tensor]:
        """A few images of each of a few tasks, [n, C, H, W] in [0, 1]."""
        tasks, few = self.task_set, self.task_set.split[split][:LOOKED_AT]
        counts = {task: min(LOOKED_AT, tasks.readable_count(task)) for task in few}
        return {task: tasks.images(task, range(count)).float() / 255 for task, count in counts.items()}

    def _warn_once(self, about: str, text: str) -> None:
        """Warn of each matter the first time alone."""
        if about not in self._warned:
            log.warning("%s", text)
            self._warned |= {about}

    @property
    def val_hash(self) -> list[Any]:
        """A hash of the images of the val episodes, and the numbers of shots at which they are taken."""
        digest = hashlib.sha256()
        for episode in self.episodes.held_out("val", 1, self.val_tasks):
            for images in (episode.support, episode.query):
                digest.update(f"{list(images.shape)}".encode() + images.numpy().tobytes())
        return [digest.hexdigest(), self.val_shots]

    def check_unseen(self, name: str, info: Mapping[str, Any], seen: SeenTasks | None, split: str) -> None:
        """Refuse a model or an extractor that was trained or chosen on held-out tasks of this task set.

        A task is known by its name, or because more than half of its images were seen, whatever it is called.

        Args:
            name: what the user calls it.
            info: of the model or extractor.
            seen: the tasks that it has seen; None where nobody knows.
            split: the held-out tasks, "val" or "test".

        Raises:
            MetagenError: naming the first such task, or nobody knows.
        """
        if seen is None:
            if info.get("data", {}).get("task_set") != self.name:
                self._warn_once(name, f"{name}: nobody knows on which tasks it was trained; so that is not checked")
                return
            raise MetagenError(
                f"{name}: has no split.json, so nobody knows which tasks it was trained on; export it again"
            )
        parts, tasks = PARTS[: 1 if split == "val" else 2], self.task_set.split[split]
        if named := seen.named(str(self.name), tasks, parts):
            raise MetagenError(
                f"{name}: was trained or chosen on {len(named)} of these {split} tasks, {named[0]!r} first; give the "
                "split.json of its folder as --data.split_file, or rename what is something else of the same name"
            )
        if self.task_set.streamed:
            self._warn_once(name, f"{name}: so many images are read each time; what it has seen is known by name alone")
            return
        if n := seen.without_prints(self.name if self.task_set.drawn else None):
            self._warn_once(
                name, f"{name}: keeps no hashes of {n} tasks that it has seen; they are known by name alone"
            )
        known = seen.prints(parts)
        if copied := [task for task in tasks if mostly(self._prints_of(split)[task], known)]:
            raise MetagenError(
                f"{name}: was trained or chosen on most images of {len(copied)} of these {split} tasks, {copied[0]!r} "
                "first, whatever they were called there; name a --data.split_file that does not hold them out"
            )

    def check_apart(self, *splits: str) -> None:
        """Refuse held-out tasks of these splits most of whose images train tasks have, too.

        Raises:
            MetagenError: naming the first one.
        """
        train = self._prints_of("train")
        known = {each for prints in train.values() for each in prints}
        for split in splits:
            held_out = self._prints_of(split)
            if copied := [task for task, prints in held_out.items() if mostly(prints, known)]:
                own = set(held_out[copied[0]])
                twin = max(train, key=lambda task: len(own & set(train[task])))
                raise MetagenError(
                    f"{len(copied)} {split} tasks have most of their images in train tasks, {copied[0]!r} first, in "
                    f"{twin!r}; take the copies away, or put both into one split of a --data.split_file"
                )

    def _prints_of(self, split: str) -> dict[str, tuple[str, ...]]:
        """The hashes of the images of each task of a split; of a task that cannot be read none."""
        if split not in self._hashes:
            self._hashes[split] = {task: self._prints(task) for task in self.task_set.split[split]}
        return self._hashes[split]

    @cached_property
    def _hashes(self) -> dict[str, dict[str, tuple[str, ...]]]:
        return {}

    def _prints(self, task: str) -> tuple[str, ...]:
        try:
            return self.task_set.prints(task)
        except MetagenError:  # raised again by whoever trains on them
            return ()

    @property
    def seen(self) -> SeenTasks:
        """The tasks that a model trained and chosen on these has seen in the end."""
        own = {part: {task: joined(each) for task, each in self._prints_of(part).items()} for part in PARTS}
        return self.earlier | SeenTasks({str(self.name): own})

    def seen_of(self, part: str, tasks: Sequence[str] | None = None) -> SeenTasks:
        """The tasks of "train" or "val" alone, all of them or some by name, as what a model has seen."""
        prints = self._prints_of(part)
        return SeenTasks({str(self.name): {part: {task: joined(prints[task]) for task in tasks or prints}}})

    def go_on(self, name: str, info: Mapping[str, Any], seen: SeenTasks | None) -> None:
        """Begin from a model or a run: the tasks that it has seen are then seen by the model trained here, too.

        Raises:
            MetagenError: see `check_unseen`.
        """
        if seen is not None and seen == self.seen:
            return
        for split in HELD_OUT:
            self.check_unseen(name, info, seen, split)
        self.earlier |= seen or SeenTasks()
