"""`metagen fit`: meta-training on LightningCLI, so that every Trainer flag works, and the export of its best model."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
from jsonargparse import ArgumentError
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy

from metagen.commands.complaints import explained, refused_class
from metagen.core.quiet import quieten
from metagen.core.seeding import seeded
from metagen.errors import MetagenError, check_positive
from metagen.generators import VAE, generators
from metagen.learners import learners
from metagen.learners.model_files import describe
from metagen.report.next_steps import Command, adaptation, evaluation, next_steps
from metagen.storage.files import placed, write_atomically
from metagen.training.callbacks import EMA, NonFiniteGuard, Progress, Samples
from metagen.training.checkpoints import Checkpoints, WholeFiles, find_checkpoint, stops_on_interrupt
from metagen.training.episode_data import EpisodeData
from metagen.training.export import Export
from metagen.training.meta_training import MetaTraining
from metagen.training.origins import origins_of
from metagen.training.own_folder import with_own_choices
from metagen.training.resuming import settings_of, start_of
from metagen.training.run_folder import CONFIG, SEARCHED, RunFolder

NO_MODEL = "required: fit.model.generator, fit.model.learner"  # the end of the parser's complaint
STRICT = {"exit_on_error": False, "allow_abbrev": False}


class FitCLI(LightningCLI):
    """The options of a run, and what is done before and after `Trainer.fit`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run's folder, the averaged weights, and sizes that follow from the data."""
        parser.add_argument("--run_dir", type=str, default="runs/metagen", help="folder for all that the run leaves")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace an earlier run in run_dir")
        about = "choose the sampling options on val tasks at the end, where the generator has a grid of them"
        parser.add_argument("--choose_sampling", type=bool, default=True, help=about)
        about = (
            "minutes after which training ends, at the end of a step, and the best model so far is exported; of this "
            "command alone: the run's config.yaml keeps none"
        )
        parser.add_argument("--time_limit", type=float | None, default=None, help=about)
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(EMA, "ema")
        for option in ("size", "channels"):
            parser.link_arguments(f"data.{option}", f"model.generator.init_args.{option}")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Fit alone: held-out tasks are judged by `metagen evaluate`."""
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parse; a rerun of the saved config begins anew, and without a limit."""
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, ValueError, OverflowError) as error:  # the last two of NULs and huge integers
            if str(error).endswith(NO_MODEL):
                raise MetagenError(
                    "fit: no model is named; for images of your own type --data.root my_images/, where each person or "
                    "thing has a folder, else a config, such as --config configs/quickstart.yaml"
                ) from error
            choices: dict[str, list[type[Any]]] = {
                "model.generator": generators.classes,
                "model.learner": learners.classes,
            }
            raise explained(error, "fit", self._parser("fit")._option_string_actions, choices) from error
        options = self.config["fit"]
        for name, value in [*options.items()]:
            if isinstance(value, str) and value.startswith("~"):
                options[name] = str(placed(value))
        name, run_dir = options["ckpt_path"], placed(options["run_dir"])
        self.folder = RunFolder(run_dir, find_checkpoint(name, run_dir / "checkpoints") if name else None)
        self.minutes = options["time_limit"]
        options["ckpt_path"] = options["time_limit"] = None

    def instantiate_classes(self) -> None:
        """Make all that the run is made of, from the seed whatever other threads draw."""
        seed = self.config["fit"]["seed_everything"]
        with nullcontext() if seed is False else seeded(seed):
            try:
                super().instantiate_classes()
            except ValueError as error:
                if (refused := refused_class(str(error))) is None:
                    raise
                raise MetagenError(f"fit: {refused}") from error

    def before_instantiate_classes(self) -> None:
        """Refuse to write over an earlier run unasked, or over what is no run."""
        data, model = self.config["fit"].data, self.config["fit"].model
        if self.minutes is not None:
            check_positive("time_limit", self.minutes)
        inputs = [data.root, data.split_file, model.initial, model.zoo, model.chosen_by]
        self.folder.check(self.config["fit"].overwrite, inputs)

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:  # noqa: ANN401
        """The trainer with its loggers, its checkpoints and the guard."""
        folder, given = self.folder.path, self._get(self.config_init, "trainer")
        _check_trainer_options(given)
        self.rehearsal = bool(given["fast_dev_run"])
        self.checkpoints = Checkpoints(folder / "checkpoints", None if self.minutes is None else 60 * self.minutes)
        kwargs["default_root_dir"] = str(folder)
        kwargs["plugins"] = [*_as_list(given["plugins"]), WholeFiles()]
        if given["logger"] is None:
            kwargs["logger"] = self.folder.loggers()
        if given["num_sanity_val_steps"] is None:
            kwargs["num_sanity_val_steps"] = -1  # all val tasks, so that the start may stay the best
        kwargs["callbacks"] = [*_as_list(given["callbacks"]), self.checkpoints, NonFiniteGuard()]
        if given["enable_progress_bar"] is not False:
            kwargs["callbacks"].append(Progress())
        try:
            trainer = super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ImportError, ValueError, TypeError) as error:
            raise MetagenError(f"trainer: {error}") from error
        if isinstance(trainer.strategy, (FSDPStrategy, DeepSpeedStrategy)):
            raise MetagenError("trainer.strategy: sharded weights cannot be adapted; use auto or ddp")
        return trainer

    def before_fit(self) -> None:
        """Find mistakes while nothing is lost yet; then clear the place and write down which tasks are held out."""
        data, options, is_first = self.datamodule, self.config["fit"], self.trainer.is_global_zero
        data.check_outside(self.folder.path)
        describe(self.model.learner)  # refuses what could not be exported
        data.check(self.trainer.world_size)
        data.check_apart("val")
        data.tell_blank("train")
        origins = origins_of(self.model, data, options.model.initial, options.model.zoo)
        settings = settings_of(options.as_dict(), data.task_set.split.hash)
        self.start = start_of(settings, origins, self.folder.resumed, self.model, data, warns=is_first)
        self.checkpoints.record = self.start.record
        if is_first and not self.rehearsal:
            self.folder.begin(data.task_set.split)

    def fit(self, **kwargs: Any) -> None:  # noqa: ANN401
        """`Trainer.fit`, which Ctrl-C stops after a step."""
        try:
            with stops_on_interrupt(self.checkpoints):
                self.trainer.fit(**{**kwargs, "ckpt_path": self.folder.resumed})
        except KeyboardInterrupt:
            if not self.trainer.is_global_zero:
                raise SystemExit(130) from None  # rank 0 says it for all
            self._export_stopped()
            hint = f"; {next_steps(self._resumption)}" if self.checkpoints.path("last").is_file() else ""
            raise KeyboardInterrupt(f"at step {self.trainer.global_step}{hint}") from None

    def _export_stopped(self) -> None:
        """Export the best model so far of a run that has stopped between two steps."""
        export = self._export()
        if not self.checkpoints.stopped or self.rehearsal:
            return
        if export.is_of_the_best():
            print(f"{export.path} stays as it is: there is no better model since")
        else:
            export.write("since the run was stopped")

    def _export(self) -> Export:
        return Export(self.trainer, self.model, self.datamodule, self.checkpoints, self.folder.path)

    @property
    def _resumption(self) -> Command:
        """The command that goes on with this run."""
        return ["fit", "--config", self.folder.path / CONFIG, "--ckpt_path", "last"]

    def after_fit(self) -> None:
        """Export the model that was best on val tasks, with its averaged weights."""
        if not self.trainer.is_global_zero or self.rehearsal:
            return
        export = self._export()
        nothing_done = self.folder.resumed is not None and self.trainer.global_step == self.start.step
        if nothing_done and export.stays(self.start):
            return
        if self.checkpoints.time_is_up:
            print(
                f"stopped at step {self.trainer.global_step} after {self.minutes:g} minutes, as --time_limit says; the "
                "first command below goes on to the end, or for as long as a --time_limit of its own says"
            )
        learner = export.write(None if self.config["fit"].choose_sampling else "as --choose_sampling false says")
        if learner is not None and learner.generator.searched:
            self._write_searched(learner.generator.searched)
        print(next_steps(*self._next(learner is not None)))

    def _next(self, exported: bool) -> list[Command]:
        """The commands that follow the end of a run."""
        path, out = self.folder.path, self.folder.path / "evaluation"
        commands: list[Command] = [self._resumption] if self.checkpoints.time_is_up or not exported else []
        if exported:
            export = path / "export"
            commands += [adaptation(export, path / "adapted", self.datamodule)]
            commands += evaluation(export, out, self.datamodule, self.model.learner.generator.comparable)
        return commands

    def _write_searched(self, searched: dict[str, Any]) -> None:
        """Write the config of a run of the plain VAE with the options at which the search of an architecture ended."""
        options, place = self.config["fit"].clone(), self.folder.path / SEARCHED
        plain = {"class_path": f"metagen.generators.{VAE.__name__}", "init_args": type(options)(searched)}
        options.model.generator = type(options)(plain)
        options.model.initial = None
        options.run_dir, options.overwrite = f"{self.folder.path}-found", False
        write_atomically(place, self._parser("fit").dump(options, skip_none=False).encode())
        print(f"found {', '.join(searched['blocks'])}; train it with: metagen fit --config {place}")


def _check_trainer_options(given: Any) -> None:  # noqa: ANN401
    if str(given["precision"]) in ("16", "16-mixed", "16-true"):
        raise MetagenError(
            f"trainer.precision: {given['precision']} does not scale inner gradients; use bf16-mixed or 32"
        )
    if str(given["precision"]).startswith("transformer-engine"):
        raise MetagenError(
            f"trainer.precision: {given['precision']} puts layers of its own into a model; use bf16-mixed or 32"
        )
    if given["profiler"] == "xla" and not importlib.util.find_spec("torch_xla"):  # Lightning's own error is two
        raise MetagenError("trainer.profiler: xla needs torch_xla, which is not installed; choose simple or pytorch")
    if given["gradient_clip_val"] is not None:
        raise MetagenError("trainer.gradient_clip_val: has no effect here; use --model.clip, which clips each player")
    if given["limit_val_batches"] == 0:
        raise MetagenError("trainer.limit_val_batches: the best model is chosen on val tasks; expected more than 0")


def _as_list(given: Any) -> list[Any]:  # noqa: ANN401
    return given if isinstance(given, list) else [] if given is None else [given]


def fit(argv: Sequence[str], example: str) -> None:
    """Meta-train a model as the options say.

    Args:
        argv: the words after the verb.
        example: a command that the help ends with.

    Raises:
        MetagenError: an option is unknown, missing or refused, or the run cannot go on.
    """
    quieten()
    about = {"description": "Meta-train a model.", "epilog": f"example: {example}"}
    try:
        FitCLI(
            MetaTraining,
            EpisodeData,
            args=["fit", *with_own_choices(argv)],
            seed_everything_default=0,
            trainer_defaults={
                "max_epochs": 1,  # data.episodes says how long; one epoch is one progress bar
                "val_check_interval": 500,
                "check_val_every_n_epoch": None,
                "enable_model_summary": False,
            },
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            parser_kwargs={"prog": "metagen", **STRICT, "fit": {**STRICT, **about}},
        )
    except (MisconfigurationException, ModuleNotFoundError) as error:  # the latter of what a callback needs, say
        raise MetagenError(str(error)) from error
