"""Episodes as torch's data loaders take them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

from torch.utils.data import Dataset, IterableDataset

from metagen.errors import MetagenError
from metagen.tasks.episodes import Episode, Episodes


class EpisodeStream(IterableDataset[Episode]):
    """Episodes in the order in which they are made; `length` of them."""

    def __init__(self, iterate: Callable[[], Iterator[Episode]], length: int) -> None:
        self.iterate, self.length = iterate, length

    def __iter__(self) -> Iterator[Episode]:
        return self.iterate()

    def __len__(self) -> int:
        return self.length


def ignore_interrupts(_: int) -> None:
    """Ctrl-C reaches every process of a terminal; a worker goes on until the run has ended its step."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class NumberedEpisodes(Dataset[Episode | MetagenError]):
    """Train episodes by number, also in other processes: an error comes back as what it is, without their traceback."""

    def __init__(self, episodes: Episodes, tasks: int, rank: int, world: int, numbers: range) -> None:
        self.episodes, self.share, self.numbers = episodes, (tasks, rank, world), numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, place: int) -> Episode | MetagenError:
        try:
            return self.episodes.train(self.numbers[place], *self.share)
        except MetagenError as error:
            return error
