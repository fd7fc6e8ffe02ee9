"""Work on held-out tasks: dealt to all processes without padding, kept as it is done, gone on with where it stopped."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from metagen.distributed.processes import count, gathered, rank
from metagen.errors import MetagenError
from metagen.storage.files import remove_own, strangers, write_atomically
from metagen.storage.strict_json import to_json

log = logging.getLogger(__name__)

ABOUT = "about.json"
KEPT = r"about\.json|.+-\d{6}\.safetensors"  # names of files
TaskTensors = dict[str, torch.Tensor]  # by name, one row a task: [T, ...]


class ShardedTasks:
    """Shares work on tasks among the processes of a job.

    Args:
        folder: where finished batches are kept; None to keep none.
        about: JSON-ready, names all that the work depends on.
        batch: tasks at once. Rounding depends on who is in a batch, so batches do not depend on the processes.
        overwrite: replace what a folder holds of other work, instead of refusing.

    Attributes:
        batches_found: how many batches were there before.

    Raises:
        MetagenError: the folder holds other work, or something else, or the batch is out of range.
    """

    def __init__(
        self,
        folder: Path | None = None,
        about: Mapping[str, Any] | None = None,
        batch: int = 8,
        overwrite: bool = False,
    ) -> None:
        if batch < 1:
            raise MetagenError(f"batch: expected 1 task at once or more, got {batch}")
        self.folder, self.batch, self.about = folder, batch, to_json(about, indent=1, sort_keys=True).encode()
        self._stale = bool(folder and folder.exists() and not self._is_of_this_work(folder))
        if folder and self._stale and not (overwrite and (folder / ABOUT).is_file() and not strangers(folder, KEPT)):
            hint = "end it with its own options, move it away, or (if it is unfinished work) say --overwrite"
            raise MetagenError(f"{folder}: expected unfinished work with these options, got something else; {hint}")
        self.batches_found = len(list(folder.glob("*.safetensors"))) if folder and not self._stale else 0

    def _is_of_this_work(self, folder: Path) -> bool:
        page = folder / ABOUT
        return page.is_file() and page.read_bytes() == self.about

    def over(
        self, stage: str, tasks: Sequence[int], work: Callable[[list[int]], TaskTensors], batch: int | None = None
    ) -> TaskTensors:
        """The work of all tasks, in their order, on every process; the same however many processes there are.

        Args:
            stage: names the work among other work on tasks of the same numbers; fit for a file's name.
            tasks: their numbers.
            work: on a batch of tasks; each tensor that it returns has one row a task.
            batch: tasks at once, where it is to be others than usual.

        Raises:
            MetagenError: raised by the work of some process; SystemExit where the first process prints that.
        """
        self._clear()
        kept, size = self._kept(stage), batch or self.batch
        owner = {task: number for number, each in reversed([*enumerate(gathered(list(kept)))]) for task in each}
        mine = {task: tensors for task, tensors in kept.items() if owner[task] == rank()}
        batches = [list(tasks[at : at + size]) for at in range(0, len(tasks), size)]
        share = [each for each in batches if not owner.keys() >= set(each)][rank() :: count()]
        with _one_error():
            for each in track(share, stage, console=Console(stderr=True), transient=True, disable=_silent()):
                tensors = {name: rows.cpu() for name, rows in work(each).items()}
                self._keep(stage, each, tensors)
                mine |= _by_task(each, tensors)
        rows = {number: row for each in gathered(mine) for number, row in each.items()}
        return {name: torch.stack([rows[n][name] for n in tasks]) for name in rows[tasks[0]]}

    def _clear(self) -> None:
        """Remove other work, once: by the first process, before any looks for its own."""
        if self.folder and self._stale and rank() == 0:
            remove_own(self.folder, KEPT)
        if self._stale:
            gathered(None)
        self._stale = False

    def end(self) -> None:
        """Remove what was kept, as it is not needed any more."""
        if self.folder:
            remove_own(self.folder, KEPT)

    def _keep(self, stage: str, batch: list[int], tensors: TaskTensors) -> None:
        if self.folder:
            if not self._is_of_this_work(self.folder):
                write_atomically(self.folder / ABOUT, self.about)
            data = save_tensors({**{k: v.contiguous() for k, v in tensors.items()}, "tasks": torch.tensor(batch)})
            write_atomically(self.folder / f"{stage}-{batch[0]:06d}.safetensors", data)

    def _kept(self, stage: str) -> dict[int, TaskTensors]:
        """The tensors of each task that was done before."""
        kept: dict[int, TaskTensors] = {}
        for path in sorted(self.folder.glob(f"{stage}-*.safetensors")) if self.folder else []:
            try:
                tensors = load_tensors(path.read_bytes())
                kept |= _by_task(tensors.pop("tasks").tolist(), tensors)
            except (OSError, SafetensorError, KeyError, ValueError) as error:
                log.warning("%s: cannot be read (%s); these tasks are measured again", path, type(error).__name__)
        return kept


def _by_task(tasks: list[int], tensors: TaskTensors) -> dict[int, TaskTensors]:
    # A view would take its whole batch along to the other processes.
    return {number: {name: rows[at].clone() for name, rows in tensors.items()} for at, number in enumerate(tasks)}


def _silent() -> bool:
    return rank() > 0 or not sys.stderr.isatty()


@contextmanager
def _one_error() -> Iterator[None]:
    """End all processes by an error of any of them, which the first one raises."""
    error = None
    try:
        yield
    except MetagenError as raised:
        error = raised
    messages = [each for each in gathered(str(error) if error else None) if each]
    if messages and rank():
        raise SystemExit(2)
    if messages:
        raise error or MetagenError(messages[0])
