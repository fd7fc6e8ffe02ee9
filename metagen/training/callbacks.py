"""Callbacks of training: averaged weights, a picture at every validation, a guard against non-finite numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, WeightAveraging

from metagen.distributed.processes import gathered
from metagen.errors import MetagenError
from metagen.report.tables import picture
from metagen.storage.images import save_png
from metagen.training.meta_training import MetaTraining


class EMA(WeightAveraging):
    """Averages all meta-parameters of every player, once an optimiser step; validation and export use the average.

    Args:
        decay: of the exponential average; a shorter one while fewer steps than some 9 / (1 - decay) have been taken.

    Raises:
        MetagenError: the decay is not in [0, 1).
    """

    _count: torch.Tensor  # of averages taken; on the CPU, where reading it waits for no device

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise MetagenError(f"ema.decay: expected 0 or more and less than 1, got {decay}")
        self.decay = decay
        super().__init__(use_buffers=False, multi_avg_fn=self._average)  # a buffer holds what training wrote last

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Average in the precision and on the device of the run, to which Lightning brings the weights only later."""
        trainer.precision_plugin.convert_module(pl_module)
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)
        if self._average_model is not None:
            self._count = self._average_model.n_averaged = self._average_model.n_averaged.cpu()

    def _average(self, old: list[torch.Tensor], new: list[torch.Tensor], _: torch.Tensor | int) -> None:
        ramp = (1 + self._count) / (10 + self._count)
        keep = min(self.decay, float(ramp))
        torch._foreach_copy_(old, torch._foreach_lerp(new, old, keep))


class Progress(RichProgressBar):
    """One bar for the run, with the losses and without a version number."""

    @property
    def sanity_check_description(self) -> str:
        """The name of the bar of the validation before training."""
        return "Validation of the start"

    def _get_train_description(self, current_epoch: int) -> str:  # Lightning's own counts epochs, of which there is one
        return "Training"

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Rounded losses."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: f"{value:.1f}" for name, value in metrics.items() if isinstance(value, float)}


class NonFiniteGuard(pl.Callback):
    """Stops at the first loss or gradient that is not finite, before it reaches the weights.

    The last good weights are kept as `last-good.ckpt` in the run's folder.

    Raises:
        MetagenError: naming the tensor, the step and the task.
    """

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Look once a meta-step, after the processes have averaged their gradients."""
        module = _ours(pl_module)
        gradients = {name: w.grad for name, w in module.named_parameters() if w.grad is not None}
        first_bad = None
        norm = torch.nn.utils.get_total_norm([*gradients.values(), *module.losses.values()])
        if not norm.isfinite():  # looked at in one go; now one by one: squares can overflow
            first_bad = _first_bad(gradients, module)
        if trainer.strategy.reduce_boolean_decision(first_bad is not None, all=False):
            self._stop(trainer, first_bad)

    def _stop(self, trainer: pl.Trainer, first_bad: tuple[str, str | None] | None) -> None:
        path = Path(trainer.default_root_dir) / "last-good.ckpt"
        trainer.save_checkpoint(path)
        of_all = [each for each in gathered(first_bad) if each]
        tensor, task = min(of_all, key=lambda each: each[1] is None)
        if not trainer.is_global_zero:
            raise SystemExit(2)  # rank 0 says it for all
        where = f", task {task!r}" if task else ""
        raise MetagenError(
            f"{tensor} is not finite at step {trainer.global_step}{where}; the last good weights are in {path}: "
            "look at that task's images, lower the inner or outer rate, or clip harder"
        )


def _first_bad(gradients: dict[str, torch.Tensor], module: MetaTraining) -> tuple[str, str | None] | None:
    """The first tensor and, if a query loss tells it, the first task that is not finite."""
    tasks = module.episode.tasks if module.episode else ()
    pairs = [pair for losses in module.losses.values() for pair in zip(tasks, losses, strict=True)]
    task = next((name for name, loss in pairs if not loss.isfinite()), None)
    bad = next((f"gradient of {name}" for name, g in gradients.items() if not g.isfinite().all()), None)
    return (bad or "query loss", task) if bad or task else None


def _ours(module: pl.LightningModule) -> MetaTraining:
    if not isinstance(module, MetaTraining):
        raise MetagenError(f"this callback goes with MetaTraining, got {type(module).__name__}")
    return module


class Samples(pl.Callback):
    """At every validation, a picture of the first val tasks: support, real, generated.

    Args:
        tasks: rows.
        generated: new images a row.
        at_start: whether there is one before training, too.
    """

    def __init__(self, tasks: int = 8, generated: int = 8, at_start: bool = False) -> None:
        self.tasks, self.generated, self.at_start = tasks, generated, at_start

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write `samples/step-000000.png` of the weights that training begins from."""
        if self.at_start and not trainer.global_step:
            self.on_validation_epoch_end(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write `samples/step-000000.png`, and hand it to a logger that takes images."""
        rehearsal = trainer.sanity_checking or getattr(trainer, "fast_dev_run", False)
        if rehearsal or not trainer.is_global_zero:
            return
        module = _ours(pl_module)
        episode = module.data.episodes.first("val", self.tasks)
        image = picture({"generated": module.learner}, episode, self.generated)
        save_png(image, Path(trainer.default_root_dir) / "samples" / f"step-{trainer.global_step:06d}.png")
        for logger in trainer.loggers:
            add_image = getattr(getattr(logger, "experiment", None), "add_image", None)
            if add_image:
                add_image("val/samples", image, trainer.global_step)
