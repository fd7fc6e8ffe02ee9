"""The export of a run's best model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from metagen.errors import MetagenError
from metagen.evaluation.criterion import PIXELS
from metagen.evaluation.sampling_choice import Choice, choose_sampling, describe_choice, take_sampling
from metagen.learners import Learner
from metagen.learners.model_files import save_model
from metagen.storage.artifacts import read_config
from metagen.training.checkpoints import Checkpoints, read_checkpoint
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from metagen.training.resuming import Start


class Export:
    """The model that was best on val tasks, with its averaged weights, as a folder beside the checkpoints.

    Args:
        trainer: that has trained.
        module: the training.
        data: its tasks.
        checkpoints: which know the best model.
        run_dir: the folder of the run.
    """

    def __init__(
        self, trainer: pl.Trainer, module: MetaTraining, data: EpisodeData, checkpoints: Checkpoints, run_dir: Path
    ) -> None:
        self.trainer, self.module, self.data, self.checkpoints = trainer, module, data, checkpoints
        self.path = run_dir / "export"

    def stays(self, start: Start) -> bool:
        """Print that a run which went on had nothing left to do; whether the export of before is of its best model."""
        stays, most = self._is_current(start), self.trainer.max_steps
        limit = f"data.episodes {self.data.episodes_per_epoch}"
        limit += f" and trainer.max_steps {most}" if most > 0 else ""
        end = f"; {self.path} stays as it is" if stays else ""
        end += ", and what was changed is not used" if stays and start.changes else ""
        print(f"nothing left to train: the run is at step {start.step}, and {limit} asks for no more{end}")
        return stays

    def _is_current(self, start: Start) -> bool:
        exported = [self._exported(name) for name in ("meta_steps", "best_step")]
        return exported == [start.step, self.checkpoints.best_step]

    def is_of_the_best(self) -> bool:
        """Whether the export of before is of the model that is still the best."""
        best = [self.checkpoints.best_step, self.checkpoints.best]
        return self.checkpoints.has_best and [self._exported("best_step"), self._exported("best_val")] == best

    def _exported(self, name: str) -> Any:  # noqa: ANN401
        """An entry on the training of the model that was exported before; None where there is none."""
        try:
            return read_config(self.path, "model")["info"]["training"][name]
        except (MetagenError, KeyError, TypeError):
            return None

    def write(self, unchosen: str | None = None) -> Learner | None:
        """Export the best model or, of a run that was never validated, the last one, and print how good it is.

        None where there is none: no validation was finite.

        unchosen: why its sampling options are not chosen on val tasks; None to choose them.
        """
        step, has_best = self.trainer.global_step, self.checkpoints.has_best
        source = self.checkpoints.path("best" if has_best else "last")
        if not source.is_file() or (self.checkpoints.validated and not has_best):
            print(f"stopped at step {step} without a validation that was finite, so there is no model to export yet")
            return None
        state = read_checkpoint(source)["state_dict"]
        learner = self.module.learner.cpu().float().eval()  # whatever precision it was trained in
        learner.load_state_dict({n.removeprefix("learner."): w for n, w in state.items() if n.startswith("learner.")})
        self._save(learner, self.info)
        if choice := self._chosen_sampling(learner, unchosen):
            self._save(learner, {**self.info, "sampling": choice.info})
        print(f"{self._how_good()}; exported the model to {self.path}")
        return learner

    def _how_good(self) -> str:
        if not self.checkpoints.has_best:
            return f"no validation yet, so that the last weights are taken, those of step {self.trainer.global_step}"
        by, best = self.module.criterion.figure.replace("_", " "), self.checkpoints
        beaten = "" if best.best_step else "no better than where it began: "
        return f"{beaten}best val {by} {best.best:.2f}, less being better, at step {best.best_step}"

    def _save(self, learner: Learner, info: dict[str, Any]) -> None:
        split, seen = self.data.task_set.split, self.data.seen
        save_model(self.path, learner, info, split=split, seen=seen, overwrite=True)

    def _chosen_sampling(self, learner: Learner, unchosen: str | None) -> Choice | None:
        """Choose sampling options on val tasks and take them; None where nothing was chosen, which is printed."""
        if not learner.generator.grid:
            return None
        if unchosen is not None:
            print(f"sampling options stay as they are, {unchosen}; metagen tune chooses them")
            return None
        by = None if self.module.chosen_by == PIXELS else self.module.chosen_by
        try:
            choice = choose_sampling(learner.to(self.trainer.strategy.root_device), self.data, extractor=by)
        except MetagenError as error:
            print(f"sampling options stay as they are: {error}")
            return None
        finally:
            learner.cpu()
        take_sampling(choice.settings, learner)
        print(describe_choice(choice))
        return choice

    @property
    def info(self) -> dict[str, Any]:
        """The description of the model's tasks and training, as JSON-ready data."""
        data, checkpoints, regulariser = self.data, self.checkpoints, self.module.learner.regulariser
        given = {
            **checkpoints.record["origins"],
            "augment": data.augment,
            "regularise": regulariser and regulariser.terms,
            "changed": checkpoints.record.get("changes"),
        }
        return {
            "data": {**data.description, "shots": data.shots, "queries": data.queries},
            "ground": data.ground,
            "split_sha256": data.task_set.split.hash,
            "training": {
                "meta_steps": self.trainer.global_step,
                "tasks_per_step": data.tasks,
                "rate": self.module.rate,
                **{name: value for name, value in given.items() if value},
                "seed": data.seed,
                "chosen_by": self.module.criterion.figure,
                "best_val": checkpoints.best if checkpoints.has_best else None,
                "best_step": checkpoints.best_step if checkpoints.has_best else None,
                "seconds": round(checkpoints.state_dict()["seconds"], 1),
                "torch": torch.__version__,
            },
        }
