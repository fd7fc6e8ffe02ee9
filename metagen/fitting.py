"""`metagen fit`: meta-training on LightningCLI, so that every Trainer flag works, and the export of its best model."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy

from metagen import artifacts
from metagen.callbacks import EMA, NonFiniteGuard, Progress, Samples
from metagen.errors import MetagenError
from metagen.files import write_atomically
from metagen.tasks.data import EpisodeData
from metagen.training import MetaTraining

LEFT_BY_A_RUN = (
    "checkpoints",
    "samples",
    "export",
    "evaluation",
    "metrics.csv",
    "config.yaml",
    "split.json",
    "result.json",
)
QUIET = (
    "LightningCLI's args parameter",  # the verb takes its arguments from `main`, on purpose
    "The '.*dataloader' does not have many workers",  # episodes are gathered from memory: workers would cost time
    "Your `IterableDataset` has `__len__`",
    "Checkpoint directory .* exists",
    "Experiment logs directory .* exists",
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's, under torch 2.14
)


class FitCLI(LightningCLI):
    """The options of a run, and what surrounds `Trainer.fit`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's folder, the averaged weights, and sizes that follow from the data."""
        parser.add_argument("--run_dir", type=str, default="runs/metagen", help="folder for all that the run leaves")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace an earlier run in run_dir")
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(EMA, "ema")
        for option in ("size", "channels"):
            parser.link_arguments(f"data.{option}", f"model.generator.init_args.{option}")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Fit alone: held-out tasks are judged by `metagen evaluate`."""
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}}

    def before_instantiate_classes(self) -> None:
        """Refuse to write over an earlier run unasked."""
        options = self.config["fit"]
        folder = self.run_dir = Path(options["run_dir"])
        left = [folder / name for name in LEFT_BY_A_RUN if (folder / name).exists()]
        if not left or options["ckpt_path"]:
            return
        if not options["overwrite"]:
            raise MetagenError(
                f"{folder}: holds an earlier run ({left[0].name}); give another --run_dir, continue it with "
                "--ckpt_path last, or replace it with --overwrite true"
            )
        for place in left:
            shutil.rmtree(place) if place.is_dir() else place.unlink()

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:  # noqa: ANN401
        """The trainer with its loggers, its checkpoints and the guard."""
        folder, given = self.run_dir, self._get(self.config_init, "trainer")
        if given["precision"] == "16-mixed":
            raise MetagenError("trainer.precision: 16-mixed does not scale inner gradients; use bf16-mixed or 32")
        self.best = ModelCheckpoint(
            folder / "checkpoints", "best", monitor="val/query_loss", save_last=True, enable_version_counter=False
        )
        kwargs["default_root_dir"] = str(folder)
        if given["logger"] is None:
            kwargs["logger"] = _loggers(folder)
        kwargs["callbacks"] = [*(given["callbacks"] or []), self.best, NonFiniteGuard()]
        if given["enable_progress_bar"] is not False:
            kwargs["callbacks"].append(Progress())
        trainer = super().instantiate_trainer(**kwargs)
        if isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
            raise MetagenError("trainer.strategy: sharded weights cannot be adapted; use auto or ddp")
        return trainer

    def before_fit(self) -> None:
        """Write down which tasks are held out, before anything is learned."""
        self.started = time.perf_counter()
        split = self.datamodule.task_set.split
        if self.trainer.is_global_zero:
            write_atomically(self.run_dir / "split.json", split.to_json().encode())

    def after_fit(self) -> None:
        """Export the model that was best on val tasks, with its averaged weights."""
        if not self.trainer.is_global_zero or self.trainer.fast_dev_run:
            return
        best = Path(self.best.best_model_path)
        if not best.is_file():
            raise MetagenError(
                f"{self.run_dir}: the run never validated, so there is no best model; train for longer, or lower "
                "--trainer.val_check_interval"
            )
        state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
        learner = self.model.learner.cpu()
        learner.load_state_dict({n.removeprefix("learner."): w for n, w in state.items() if n.startswith("learner.")})
        data, score = self.datamodule, float(self.best.best_model_score)
        info = {
            "data": {**data.description, "shots": data.shots, "queries": data.queries},
            "split_sha256": data.task_set.split.hash,
            "training": {
                "meta_steps": self.trainer.global_step,
                "tasks_per_step": data.tasks,
                "seed": data.seed,
                "best_val_query_loss": score,
                "seconds": round(time.perf_counter() - self.started, 1),
                "torch": torch.__version__,
            },
        }
        artifacts.save_model(self.run_dir / "export", learner, info, data.task_set.split, overwrite=True)
        print(f"best val query loss {score:.2f}; exported the model to {self.run_dir / 'export'}")


def _loggers(folder: Path) -> list[Logger]:
    """CSV always; TensorBoard beside it where it is installed."""
    loggers: list[Logger] = [CSVLogger(folder, name="", version="")]
    if importlib.util.find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


def fit(argv: Sequence[str]) -> None:
    """Meta-train a model as the options say."""
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    FitCLI(
        MetaTraining,
        EpisodeData,
        args=["fit", *argv],
        seed_everything_default=0,
        trainer_defaults={
            "max_epochs": 1,  # data.episodes says how long; one epoch is one progress bar
            "val_check_interval": 500,
            "check_val_every_n_epoch": None,
            "enable_model_summary": False,
        },
        save_config_kwargs={"overwrite": True},
        auto_configure_optimizers=False,
        parser_kwargs={"exit_on_error": False, "fit": {"exit_on_error": False}},
    )
