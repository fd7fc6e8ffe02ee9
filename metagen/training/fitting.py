"""`metagen fit`: meta-training on LightningCLI, so that every Trainer flag works, and the export of its best model."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import ArgumentError
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy

from metagen.commands.options import EXAMPLES, explained, refused_class
from metagen.core.quiet import quieten
from metagen.core.seeding import DRAWING
from metagen.errors import MetagenError, some
from metagen.evaluation.criterion import PIXELS
from metagen.evaluation.sampling_choice import Choice, choose_sampling, describe_choice, take_sampling
from metagen.generators import VAE, SearchVAE, generators
from metagen.learners import Learner, learners
from metagen.learners.model_files import describe, save_model
from metagen.storage.artifacts import check_tensors, read_config
from metagen.storage.bundled import bundled
from metagen.storage.earlier import run_record
from metagen.storage.files import check_no_input, placed, remove, strangers, write_atomically
from metagen.tasks.seen import seen_by, seen_in, seen_of
from metagen.tasks.splits import split_of
from metagen.training.callbacks import EMA, NonFiniteGuard, Progress, Samples
from metagen.training.checkpoints import Checkpoints, WholeFiles, find_checkpoint, read_checkpoint, stops_on_interrupt
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from metagen.training.model_zoo import check_taught
from metagen.training.resuming import Changes, changed, resume_message, settings_of, unused

log = logging.getLogger(__name__)

SPLIT = "split.json"  # the first file of a run, so that a folder without one was not left by a run
FOUND = "found.yaml"  # the config of a plain run with the architecture that was found
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
    FOUND,
    SPLIT,
)
WITHIN = {  # what a run leaves in its folders, as patterns; the others tell their kind themselves
    "checkpoints": r"(last|best|before-last|epoch=.+)\.ckpt|\.before-last\.tmp",  # the last of Lightning's own callback
    "samples": r"step-\d+\.png",
    "tensorboard": r"events\.out\.tfevents\..+|hparams\.yaml",
}
STRICT = {"exit_on_error": False, "allow_abbrev": False}
ABOUT = {
    "description": "Meta-train a model.",
    "epilog": f"example: {EXAMPLES['fit']}",
}


class FitCLI(LightningCLI):
    """The options of a run, and what surrounds `Trainer.fit`."""

    changes: Changes | None = None  # of the settings of a run that this one continues

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's folder, the averaged weights, and sizes that follow from the data."""
        parser.add_argument("--run_dir", type=str, default="runs/metagen", help="folder for all that the run leaves")
        parser.add_argument("--overwrite", type=bool, default=False, help="replace an earlier run in run_dir")
        about = "choose the sampling options on val tasks at the end, where the generator has a grid of them"
        parser.add_argument("--choose_sampling", type=bool, default=True, help=about)
        parser.add_lightning_class_args(Samples, "samples")
        parser.add_lightning_class_args(EMA, "ema")
        for option in ("size", "channels"):
            parser.link_arguments(f"data.{option}", f"model.generator.init_args.{option}")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Fit alone: held-out tasks are judged by `metagen evaluate`."""
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule", "weights_only"}}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """Parse, and take out where to continue: a rerun of the saved config begins anew."""
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, ValueError, OverflowError) as error:  # the last two of NULs and huge integers
            choices: dict[str, list[type[Any]]] = {
                "model.generator": generators.classes,
                "model.learner": learners.classes,
            }
            raise explained(error, "fit", self._parser("fit")._option_string_actions, choices) from error
        options = self.config["fit"]
        for name, value in [*options.items()]:
            if isinstance(value, str) and value.startswith("~"):
                options[name] = str(placed(value))
        self.run_dir, self.overwrite = placed(options["run_dir"]), options["overwrite"]
        name = options["ckpt_path"]
        self.resumed = find_checkpoint(name, self.run_dir / "checkpoints") if name else None
        options["ckpt_path"] = None

    def instantiate_classes(self) -> None:
        """Make all that the run is made of, from the seed whatever other threads draw."""
        with DRAWING:
            self._set_seed()
            try:
                super().instantiate_classes()
            except ValueError as error:
                if (refused := refused_class(error)) is None:
                    raise
                raise MetagenError(f"fit: {refused}") from error

    def before_instantiate_classes(self) -> None:
        """Refuse to write over an earlier run unasked, or over what is no run."""
        folder, left = self.run_dir, self._left
        if left and not (self.overwrite and _is_run(folder)):
            hint = "replace it with --overwrite" if _is_run(folder) else "nothing was touched"
            raise MetagenError(
                f"{folder}: holds an earlier run ({left[0].name}); give another --run_dir, continue it with "
                f"--ckpt_path last, or {hint}"
            )
        data, model = self.config["fit"].data, self.config["fit"].model
        inputs = [data.root, data.split_file, model.initial, model.zoo, model.chosen_by]
        replaced = left or [folder / "export"] if getattr(rank_zero_only, "rank", 0) == 0 else []
        for place in replaced:
            check_no_input(place, inputs)
            if place.is_dir() and (strange := strangers(place, WITHIN.get(place.name))):
                raise MetagenError(f"{place}: holds {some(strange)}, which no run left there; move it away")

    @property
    def _left(self) -> list[Path]:
        """What an earlier run left in the folder, which this one does not continue."""
        folder = self.run_dir
        if getattr(rank_zero_only, "rank", 0) != 0:  # rank 0 has looked, and has begun to write
            return []
        if self.resumed and folder.resolve() in self.resumed.resolve().parents:
            return []
        return sorted(path for pattern in LEFT_BY_A_RUN for path in folder.glob(pattern))

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:  # noqa: ANN401
        """The trainer with its loggers, its checkpoints and the guard."""
        folder, given = self.run_dir, self._get(self.config_init, "trainer")
        _check_trainer_options(given)
        self.rehearsal = bool(given["fast_dev_run"])
        self.checkpoints = Checkpoints(folder / "checkpoints")
        kwargs["default_root_dir"] = str(folder)
        kwargs["plugins"] = [*_as_list(given["plugins"]), WholeFiles()]
        if given["logger"] is None:
            kwargs["logger"] = _loggers(folder)
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
        self.datamodule.check_outside(self.run_dir)
        describe(self.model.learner)  # refuses what could not be exported
        self.datamodule.check(self.trainer.world_size)
        self.datamodule.check_apart("val")
        self.datamodule.tell_blank("train")
        self.origins = {"initial": self._initial(), "zoo": self._zoo()}
        self._go_on()
        if not self.trainer.is_global_zero or self.rehearsal:
            return
        for place in self._left:
            remove(place)
        _set_aside(self.run_dir / "metrics.csv")
        write_atomically(self.run_dir / SPLIT, self.datamodule.task_set.split.to_json().encode())

    def _initial(self) -> dict[str, str | None]:
        """What is told of the model that the run begins from; it may not have seen what is held out here."""
        name = self.config["fit"].model.initial
        if name is None:
            check_random_start(self.model.learner)
            return {}
        path = bundled("models", name)
        config = read_config(path)  # `begun` has read the rest, and checked it
        self.datamodule.go_on(name, config["info"], seen_of(path, config["info"]))
        self.datamodule.tell_ground(name, config["info"])
        return {
            "name": name,
            "weights_sha256": config["weights_sha256"],
            "initialised_from": self.model.initialised_from,
        }

    def _zoo(self) -> dict[str, Any]:
        """What is told of the zoo that the run learns from; none of its models may be of what is held out here."""
        name, zoo = self.config["fit"].model.zoo, self.model.zoo
        if zoo is None:
            return {}
        self.datamodule.go_on(name, zoo.info, zoo.seen)
        check_taught(name, zoo, self.datamodule)
        return {"name": name, "weights_sha256": zoo.weights_hash, "regress": self.model.learner.regress}

    def _go_on(self) -> None:
        """Tell what is changed of the run that this one continues, which may not have seen what is held out here."""
        settings = settings_of(self.config["fit"].as_dict(), self.datamodule.task_set.split.hash)
        self.begun_at = 0
        record: dict[str, Any] = {"settings": settings, "origins": self.origins, "changes": []}
        if self.resumed is not None:
            checkpoint, place = read_checkpoint(self.resumed), str(self.resumed)
            self.begun_at = checkpoint["global_step"]
            check_tensors(self.resumed, checkpoint["state_dict"], self.model.state_dict())
            self._check_resumed(checkpoint.get(type(self.datamodule).__qualname__))
            before = checkpoint["callbacks"].get(Checkpoints.__qualname__, {}).get("record")
            if before is None:
                log.warning("%s: keeps no settings, so what is changed is not told; those given are used", place)
            else:
                record = self._continued(run_record(before), record)
        self.checkpoints.record = record

    def _check_resumed(self, state: dict[str, Any] | None) -> None:
        """Refuse to go on from a checkpoint that has seen what is held out: one of before by the split of its run."""
        place, data = Path(self.resumed or ""), self.datamodule
        if state is not None:
            data.go_on(str(place), {}, seen_by(state.get("seen"), place))
        elif (split := split_of(place.parent.parent)) is None:
            log.warning("%s: nobody knows on which tasks it was trained; so that is not checked", place)
        else:
            data.go_on(str(place), {"data": {"task_set": data.name}}, seen_in(data.name, split))

    def _continued(self, before: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
        """The record of this run after that of the run before: settings that are not used stay as they were."""
        self.changes = changed(before["settings"], record["settings"])
        idle = unused(self.changes)
        if self.changes and self.trainer.is_global_zero:
            log.warning("%s", resume_message(self.begun_at, self.changes, idle))
        used = {name: both for name, both in self.changes.items() if name not in idle}
        kept = {name: both[0] for name, both in self.changes.items() if name in idle}
        self.origins = before["origins"] | {"zoo": record["origins"]["zoo"]}
        return {
            "settings": {**record["settings"], **kept},
            "origins": self.origins,
            "changes": [*before["changes"], *([{"step": self.begun_at, **used}] if used else [])],
        }

    def fit(self, **kwargs: Any) -> None:  # noqa: ANN401
        """`Trainer.fit`, which Ctrl-C stops after a step."""
        try:
            with stops_on_interrupt(self.checkpoints):
                self.trainer.fit(**{**kwargs, "ckpt_path": self.resumed})
        except KeyboardInterrupt:
            if not self.trainer.is_global_zero:
                raise SystemExit(130) from None  # rank 0 says it for all
            last = self.checkpoints.path("last")
            hint = f"; continue with --run_dir {self.run_dir} --ckpt_path last" if last.is_file() else ""
            raise KeyboardInterrupt(f"at step {self.trainer.global_step}{hint}") from None

    def after_fit(self) -> None:
        """Export the model that was best on val tasks, with its averaged weights."""
        if not self.trainer.is_global_zero or self.rehearsal:
            return
        best, step = self.checkpoints.path("best"), self.trainer.global_step
        if self.resumed is not None and step == self.begun_at and self._left_as_it_is():
            return
        if not best.is_file() or math.isinf(self.checkpoints.best):
            print(f"stopped at step {step} without a validation that was finite, so there is no model to export yet")
            return
        state = read_checkpoint(best)["state_dict"]
        learner = self.model.learner.cpu().float().eval()  # whatever precision it was trained in
        learner.load_state_dict({n.removeprefix("learner."): w for n, w in state.items() if n.startswith("learner.")})
        split = self.datamodule.task_set.split
        told_of = {"split": split, "seen": self.datamodule.seen, "overwrite": True}
        save_model(self.run_dir / "export", learner, self._info(), **told_of)
        if choice := self._chosen_sampling(learner):
            info = {**self._info(), "sampling": choice.info}
            save_model(self.run_dir / "export", learner, info, **told_of)
        by = self.model.criterion.figure.replace("_", " ")
        print(f"best val {by} {self.checkpoints.best:.2f}; exported the model to {self.run_dir / 'export'}")
        if learner.generator.searched:
            self._write_found(learner.generator)

    def _left_as_it_is(self) -> bool:
        """Tell that a run that goes on had nothing left to do, and whether its export stays."""
        stays, most = self._is_exported(), self.trainer.max_steps
        asked = f"data.episodes {self.datamodule.episodes_per_epoch}"
        asked += f" and trainer.max_steps {most}" if most > 0 else ""
        end = f"; {self.run_dir / 'export'} stays as it is" if stays else ""
        end += ", and what was changed is not used" if stays and self.changes else ""
        print(f"nothing left to train: the run is at step {self.begun_at}, and {asked} asks for no more{end}")
        return stays

    def _is_exported(self) -> bool:
        """Whether the best model of all that was trained is exported already."""
        try:
            told = read_config(self.run_dir / "export", "model")["info"]["training"]
            return bool([told["meta_steps"], told["best_step"]] == [self.begun_at, self.checkpoints.best_step])
        except (MetagenError, KeyError, TypeError):
            return False

    def _chosen_sampling(self, learner: Learner) -> Choice | None:
        """Choose sampling options on val tasks and take them; None where nothing was chosen, which is told."""
        if not learner.generator.grid:
            return None
        if not self.config["fit"].choose_sampling:
            print("sampling options stay as they are, as --choose_sampling false says; metagen tune chooses them")
            return None
        by = None if self.model.chosen_by == PIXELS else self.model.chosen_by
        try:
            choice = choose_sampling(learner.to(self.trainer.strategy.root_device), self.datamodule, extractor=by)
        except MetagenError as error:
            print(f"sampling options stay as they are: {error}")
            return None
        finally:
            learner.cpu()
        take_sampling(choice.settings, learner)
        print(describe_choice(choice))
        return choice

    def _write_found(self, generator: SearchVAE) -> None:
        options, found, place = self.config["fit"].clone(), generator.searched, self.run_dir / FOUND
        plain = {"class_path": f"metagen.generators.{VAE.__name__}", "init_args": type(options)(found)}
        options.model.generator = type(options)(plain)
        options.model.initial = None
        options.run_dir, options.overwrite = f"{self.run_dir}-found", False
        write_atomically(place, self._parser("fit").dump(options, skip_none=False).encode())
        print(f"found {', '.join(found['blocks'])}; train it with: metagen fit --config {place}")

    def _info(self) -> dict[str, Any]:
        data, checkpoints, regulariser = self.datamodule, self.checkpoints, self.model.learner.regulariser
        given = {**self.origins, "augment": data.augment, "regularise": regulariser and regulariser.terms}
        given["changed"] = checkpoints.record.get("changes")
        return {
            "data": {**data.description, "shots": data.shots, "queries": data.queries},
            "ground": data.ground,
            "split_sha256": data.task_set.split.hash,
            "training": {
                "meta_steps": self.trainer.global_step,
                "tasks_per_step": data.tasks,
                "rate": self.model.rate,
                **{name: value for name, value in given.items() if value},
                "seed": data.seed,
                "chosen_by": self.model.criterion.figure,
                "best_val": checkpoints.best,
                "best_step": checkpoints.best_step,
                "seconds": round(checkpoints.state_dict()["seconds"], 1),
                "torch": torch.__version__,
            },
        }


def check_random_start(learner: Learner) -> None:
    """Refuse a learner that keeps the generator as it is when training begins, for one that begins at random.

    Raises:
        MetagenError: its generator is frozen, in part or as a whole, or an encoder reads gradients of a copy of it.
    """
    generator = learner.generator
    if generator.frozen:
        raise MetagenError(
            f"initial: {type(generator).__name__} keeps {', '.join(generator.frozen)} as they are when training "
            "begins, which would be random; give a model that has them as --model.initial"
        )
    if part := learner.needs_trained:
        raise MetagenError(
            f"initial: {type(learner).__name__} ({part}) keeps the generator as it is when training begins, which "
            "would be random; give a trained model as --model.initial"
        )


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


def _loggers(folder: Path) -> list[Logger]:
    """CSV always; TensorBoard beside it where it is installed."""
    loggers: list[Logger] = [CSVLogger(folder, name="", version="")]
    if importlib.util.find_spec("tensorboard"):
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    return loggers


def _is_run(folder: Path) -> bool:
    """Whether a run was begun in a folder; a split or a config alone may be of the user's making."""
    config = folder / CONFIG
    if config.is_file() and not config.read_bytes().startswith(b"# pytorch_lightning"):
        return False
    return (folder / SPLIT).is_file() and (config.is_file() or (folder / "checkpoints").is_dir())


def _set_aside(metrics: Path) -> None:
    """Keep the figures of the part before: the CSV logger begins its file anew."""
    if metrics.is_file():
        part = 1 + len(list(metrics.parent.glob("metrics-*.csv")))
        metrics.rename(metrics.with_name(f"metrics-{part}.csv"))


def fit(argv: Sequence[str]) -> None:
    """Meta-train a model as the options say."""
    quieten()
    try:
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
            parser_kwargs={"prog": "metagen", **STRICT, "fit": {**STRICT, **ABOUT}},
        )
    except (MisconfigurationException, ModuleNotFoundError) as error:  # the latter of what a callback needs, say
        raise MetagenError(str(error)) from error
