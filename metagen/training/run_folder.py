"""The folder of a run: which files in it a run has left, and which may be replaced."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from metagen.errors import MetagenError, some
from metagen.storage.files import check_no_input, remove, strangers, write_atomically
from metagen.tasks.splits import Split

SPLIT = "split.json"  # the first file of a run, so that a folder without one was not left by a run
SEARCHED = "found.yaml"  # the config of a plain run with the architecture that a search ended at
CONFIG = "config.yaml"
LEFT_BY_A_RUN = (
    "checkpoints",
    "samples",
    "tensorboard",
    "export",
    "evaluation",
    "metrics.csv",
    *(f"metrics-{digits}.csv" for digits in ("[0-9]", "[0-9][0-9]", "[0-9][0-9][0-9]")),
    CONFIG,
    "last-good.ckpt",
    "result.json",
    SEARCHED,
    SPLIT,
)
WITHIN = {  # what a run leaves in its folders, as patterns; the others tell their kind themselves
    "checkpoints": r"(last|best|before-last|epoch=.+)\.ckpt|\.before-last\.tmp",  # the last of Lightning's own callback
    "samples": r"step-\d+\.png",
    "tensorboard": r"events\.out\.tfevents\..+|hparams\.yaml",
}


@dataclass(frozen=True)
class RunFolder:
    """All files of one run.

    Attributes:
        path: of the folder.
        resumed: the checkpoint from which the run goes on, or None.
    """

    path: Path
    resumed: Path | None

    @property
    def replaced(self) -> list[Path]:
        """The files and folders that an earlier run left here, unless this one goes on from it; on rank 0 alone."""
        if not _is_first():  # rank 0 has looked, and has begun to write
            return []
        if self.resumed and self.path.resolve() in self.resumed.resolve().parents:
            return []
        return sorted(path for pattern in LEFT_BY_A_RUN for path in self.path.glob(pattern))

    def check(self, overwrite: bool, inputs: Sequence[str | None]) -> None:
        """Refuse to write over an earlier run unasked, or over files that no run left.

        Args:
            overwrite: whether an earlier run may be replaced.
            inputs: the files and folders that the run reads, where given.

        Raises:
            MetagenError: naming the first such file.
        """
        replaced = self.replaced
        if replaced and not (overwrite and self._is_run()):
            hint = "replace it with --overwrite" if self._is_run() else "nothing was touched"
            raise MetagenError(
                f"{self.path}: holds an earlier run ({replaced[0].name}); give another --run_dir, continue it with "
                f"--ckpt_path last, or {hint}"
            )
        for place in (replaced or [self.path / "export"]) if _is_first() else []:
            check_no_input(place, inputs)
            if place.is_dir() and (strange := strangers(place, WITHIN.get(place.name))):
                raise MetagenError(f"{place}: holds {some(strange)}, which no run left there; move it away")

    def begin(self, split: Split) -> None:
        """Take away what is replaced, keep the figures of the part before, and write down which tasks are held out."""
        for place in self.replaced:
            remove(place)
        _set_aside(self.path / "metrics.csv")
        write_atomically(self.path / SPLIT, split.to_json().encode())

    def loggers(self) -> list[Logger]:
        """CSV always; TensorBoard as well where it is installed."""
        loggers: list[Logger] = [CSVLogger(self.path, name="", version="")]
        if importlib.util.find_spec("tensorboard"):
            loggers.append(TensorBoardLogger(self.path, name="", version="tensorboard"))
        return loggers

    def _is_run(self) -> bool:
        """Whether a run was begun here; a split or a config alone may be of the user's making."""
        config = self.path / CONFIG
        if config.is_file() and not config.read_bytes().startswith(b"# pytorch_lightning"):
            return False
        return (self.path / SPLIT).is_file() and (config.is_file() or (self.path / "checkpoints").is_dir())


def _is_first() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _set_aside(metrics: Path) -> None:
    """Give the figures of the part before a name of their own: the CSV logger begins its file anew."""
    if metrics.is_file():
        part = 1 + len(list(metrics.parent.glob("metrics-*.csv")))
        metrics.rename(metrics.with_name(f"metrics-{part}.csv"))
