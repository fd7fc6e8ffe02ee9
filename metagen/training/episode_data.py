"""Episodes for Lightning: the one set of `--data.*` options that every verb takes."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from metagen.errors import MetagenError, check_at_least, some
from metagen.storage.files import placed
from metagen.tasks import TaskSet, task_sets
from metagen.tasks.episodes import Episode, Episodes
from metagen.tasks.seen import MOST, PARTS, SeenTasks, joined, mostly, seen_by
from metagen.tasks.shots import distribution_of, held_out_shots
from metagen.tasks.splits import HELD_OUT
from metagen.tasks.support_images import FAINT, INKS, Ground, ground_of, span, trained_ground
from metagen.training.loading import EpisodeStream, NumberedEpisodes, ignore_interrupts

log = logging.getLogger(__name__)

COLOURED = 0.01  # how far channels are apart, on the whole, in images of colours
LOOKED_AT = 8  # train tasks, and images of each, by which it is told what ink stands on


class EpisodeData(pl.LightningDataModule):
    """Tasks to learn from and held-out tasks to judge by.

    Args:
        task_set: "glyphs" (built in), "omniglot", "celeba", or "folder" (your own images: one leaf folder a task, or
            an archive of such a tree).
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
        min_images: tasks with fewer images are left out, and told (folder, celeba).
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

    Attributes:
        earlier: what a model or a run has seen from which a run on these tasks goes on.

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
        partition: str | None = None,
        binarise: bool = False,
        download: bool = False,
        on_bad_image: str | None = None,
        min_images: int | None = None,
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
        self.options |= {"min_images": min_images, "val": val, "test": test}
        self.options |= {"binarise": binarise or None, "download": download or None}  # unknown to most task sets
        self.name, self.shots, self.queries, self.seed = task_set, shots, queries, seed
        self.train_shots = distribution_of(shots)
        self.val_shots = held_out_shots(self.train_shots, val_shots)
        if turns:
            _check_turns(augment)
        self.augment, self.turns = augment, turns
        self.tasks, self.val_tasks, self.episodes_per_epoch = tasks, val_tasks, episodes
        self._task_set: TaskSet | None = None
        self.earlier = SeenTasks()
        self._own: dict[str, dict[str, tuple[str, ...]]] = {}
        self._told: set[str] = set()

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
    def ground(self) -> Ground:
        """What ink stands on, by a few images of a few train tasks; "none" where they have colours."""
        images = torch.cat([*self._glimpsed("train").values()])
        return "none" if (images - images[:, :1]).abs().mean() > COLOURED else ground_of(images)

    def tell_ground(self, name: str, info: Mapping[str, Any]) -> None:
        """Warn of a model, by what the user calls it, that was trained on ink of another kind than these tasks show.

        info: what is told of it.
        """
        known = trained_ground(info)
        if known in INKS and self.ground in INKS and known != self.ground:
            log.warning(
                "%s: trained on %s, and these tasks show %s; --data.invert exchanges black and white",
                *(name, INKS[known], INKS[self.ground]),
            )

    @property
    def description(self) -> dict[str, Any]:
        """The task set's options as JSON-ready data, without paths of this machine."""
        of_this_machine = ("root", "split_file", "download", "on_bad_image")
        idle = ("val", "test") if self.options["split_file"] else ()
        given = {k: v for k, v in self.options.items() if v is not None and k not in (*of_this_machine, *idle)}
        return {"task_set": self.name, **given}

    @property
    def episodes(self) -> Episodes:
        """The episodes of these tasks, on the CPU."""
        return self._episodes_on("cpu")

    def _episodes_on(self, device: torch.device | str) -> Episodes:
        shots = (self.held_out_shots, self.queries)
        return Episodes(self.task_set, *shots, self.seed, self.turns, device, self.augment, self.train_shots)

    def prepare_data(self) -> None:
        """Make or read the images once, before the other processes look for them."""
        self.task_set.images(self.task_set.split.train[0])

    def setup(self, stage: str) -> None:
        """See `check`."""
        self.check(self._trainer.world_size)

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
            self._tell(
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

    def check_unseen(self, name: str, info: Mapping[str, Any], seen: SeenTasks | None, split: str) -> None:
        """Refuse a model or an extractor that was trained or chosen on held-out tasks of this task set.

        A task is known by its name, or because more than half of its images were seen, whatever it is called.

        Args:
            name: what the user calls it.
            info: what is told of it.
            seen: what it has seen; None where nobody knows.
            split: what is held out, "val" or "test".

        Raises:
            MetagenError: naming the first such task, or nobody knows.
        """
        if seen is None:
            if info.get("data", {}).get("task_set") != self.name:
                self._tell(name, f"{name}: nobody knows on which tasks it was trained; so that is not checked")
                return
            raise MetagenError(
                f"{name}: has no split.json, so nobody knows which tasks it was trained on; export it again"
            )
        parts, tasks = PARTS[: 1 if split == "val" else 2], self.task_set.split[split]
        if found := seen.named(str(self.name), tasks, parts):
            raise MetagenError(
                f"{name}: was trained or chosen on {len(found)} of these {split} tasks, {found[0]!r} first; give the "
                "split.json of its folder as --data.split_file, or rename what is something else of the same name"
            )
        if self.task_set.streamed:
            self._tell(name, f"{name}: so many images are read each time; what it has seen is known by name alone")
            return
        if n := seen.without_prints:
            self._tell(name, f"{name}: keeps no hashes of {n} tasks that it has seen; they are known by name alone")
        known = seen.prints(parts)
        if found := [task for task in tasks if mostly(self._prints_of(split)[task], known)]:
            raise MetagenError(
                f"{name}: was trained or chosen on most images of {len(found)} of these {split} tasks, {found[0]!r} "
                "first, whatever they were called there; name a --data.split_file that does not hold them out"
            )

    def _tell(self, about: str, text: str) -> None:
        """Warn once of each thing."""
        if about not in self._told:
            log.warning("%s", text)
            self._told.add(about)

    def tell_blank(self, split: str) -> None:
        """Warn of tasks of a split, among the first few, most of whose images show nothing, or nearly so."""
        with suppress(MetagenError):  # of an image that cannot be read, which is raised again by whoever needs it
            glimpsed = self._glimpsed(split).items()
            blank = [task for task, images in glimpsed if (span(images) < FAINT).float().mean() > MOST]
            if blank:
                tried = f"{len(blank)} of {len(glimpsed)} {split} tasks that were looked at"
                told = "save light ink on transparency on a dark ground" if self.name == "folder" else "are they meant?"
                self._tell(split, f"{tried} show nothing, or nearly so, as they are read: {some(blank)}; {told}")

    def _glimpsed(self, split: str) -> dict[str, torch.Tensor]:
        """A few images of each of a few tasks, [n, C, H, W] in [0, 1]."""
        tasks, few = self.task_set, self.task_set.split[split][:LOOKED_AT]
        counts = {task: min(LOOKED_AT, tasks.readable_count(task)) for task in few}
        return {task: tasks.images(task, range(count)).float() / 255 for task, count in counts.items()}

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

    def check_apart(self, *splits: str) -> None:
        """Refuse held-out tasks of these splits most of whose images train tasks have, too.

        Raises:
            MetagenError: naming the first one.
        """
        train = self._prints_of("train")
        known = {each for prints in train.values() for each in prints}
        for split in splits:
            held_out = self._prints_of(split)
            if found := [task for task, prints in held_out.items() if mostly(prints, known)]:
                own = set(held_out[found[0]])
                twin = max(train, key=lambda task: len(own & set(train[task])))
                raise MetagenError(
                    f"{len(found)} {split} tasks have most of their images in train tasks, {found[0]!r} first, in "
                    f"{twin!r}; take the copies away, or put both into one split of a --data.split_file"
                )

    def _prints_of(self, split: str) -> dict[str, tuple[str, ...]]:
        """The hashes of the images of each task of a split; of a task that cannot be read none."""
        if split not in self._own:
            self._own[split] = {task: self._prints(task) for task in self.task_set.split[split]}
        return self._own[split]

    def _prints(self, task: str) -> tuple[str, ...]:
        try:
            return self.task_set.prints(task)
        except MetagenError:  # raised again by whoever trains on them
            return ()

    @property
    def seen(self) -> SeenTasks:
        """What a model that is trained and chosen on these tasks has seen in the end."""
        own = {part: {task: joined(each) for task, each in self._prints_of(part).items()} for part in PARTS}
        return self.earlier | SeenTasks({str(self.name): own})

    @property
    def judged_on(self) -> list[Any]:
        """What a model is judged on: the hash of the images of the val episodes, and at which k."""
        digest = hashlib.sha256()
        for episode in self.episodes.held_out("val", 1, self.val_tasks):
            for images in (episode.support, episode.query):
                digest.update(f"{list(images.shape)}".encode() + images.numpy().tobytes())
        return [digest.hexdigest(), self.val_shots]

    def seen_of(self, part: str, tasks: Sequence[str] | None = None) -> SeenTasks:
        """What is seen of the tasks of "train" or "val" alone, all of them or some by name."""
        prints = self._prints_of(part)
        return SeenTasks({str(self.name): {part: {task: joined(prints[task]) for task in tasks or prints}}})

    def state_dict(self) -> dict[str, Any]:
        """What a run that goes on from here has seen."""
        return {"seen": self.seen.tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a run, which has not seen what is held out here.

        Raises:
            MetagenError: it has.
        """
        self.go_on("the checkpoint", {}, seen_by(state.get("seen"), "the checkpoint"))

    def go_on(self, name: str, info: Mapping[str, Any], seen: SeenTasks | None) -> None:
        """Begin from a model or a run; what it has seen is seen by what comes of it, too.

        Raises:
            MetagenError: see `check_unseen`.
        """
        if seen is not None and seen == self.seen:
            return
        for split in HELD_OUT:
            self.check_unseen(name, info, seen, split)
        self.earlier |= seen or SeenTasks()

    @property
    def _trainer(self) -> pl.Trainer:
        if self.trainer is None:
            raise MetagenError("this data module has no trainer yet; give it to Trainer.fit")
        return self.trainer

    def train_dataloader(self) -> DataLoader[Episode]:
        """Each epoch goes on from the loop's own batch counter, so that resuming is exact, mid-epoch too."""
        trainer = self._trainer
        episodes = self._episodes_on(trainer.strategy.root_device)
        rank, world = trainer.global_rank, trainer.world_size

        def epoch() -> Iterator[Episode]:
            progress = trainer.fit_loop.epoch_loop.batch_progress  # right from the first episode on, not before
            first, left = progress.total.completed, self.episodes_per_epoch - progress.current.completed
            numbers = NumberedEpisodes(episodes, self.tasks, rank, world, range(first, first + left))
            workers = self.workers if self.task_set.streamed else 0
            for episode in DataLoader(numbers, batch_size=None, num_workers=workers, worker_init_fn=ignore_interrupts):
                if isinstance(episode, MetagenError):
                    raise episode
                yield episode

        return DataLoader(EpisodeStream(epoch, self.episodes_per_epoch), batch_size=None)

    def val_dataloader(self) -> DataLoader[Episode]:
        """The fixed val episodes, each process its own tasks: at each of `val_shots`, with the same queries."""
        trainer = self._trainer
        episodes = self._episodes_on(trainer.strategy.root_device)
        rank, world = trainer.global_rank, trainer.world_size
        known = min(self.val_tasks, len(self.task_set.split.val))
        batches = math.ceil(len(range(rank, known, world)) / self.tasks)

        def each() -> Iterator[Episode]:
            for episode in episodes.held_out("val", self.tasks, self.val_tasks, rank, world):
                yield from (episode._replace(support=episode.support[:, :shots]) for shots in self.val_shots)

        return DataLoader(EpisodeStream(each, batches * len(self.val_shots)), batch_size=None)


def _check_turns(augment: bool) -> None:
    if augment:
        raise MetagenError("data.turns: data.augment turns tasks already; leave out --data.turns")
    log.warning("data.turns: deprecated, and gone in the next release; data.augment takes its place")
