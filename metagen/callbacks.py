"""What happens beside training: a picture at every validation, and a guard against numbers that are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import RichProgressBar, WeightAveraging

from metagen.errors import MetagenError
from metagen.evaluation import picture
from metagen.images import save_png

if TYPE_CHECKING:
    from metagen.training import MetaTraining


class EMA(WeightAveraging):
    """Averages all meta-parameters of every player, once an optimiser step; validation and export use the average.

    Args:
        decay: of the exponential average; a shorter one while fewer steps than 10 / (1 - decay) have been taken.
    """

    def __init__(self, decay: float = 0.999) -> None:
        def average(old: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
            ramp = (1 + count) / (10 + count)
            return torch.lerp(new, old, min(decay, float(ramp)))

        super().__init__(avg_fn=average)


class Progress(RichProgressBar):
    """One bar for the run, with the losses and without a version number."""

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
        gradients = {name: w.grad for name, w in pl_module.named_parameters() if w.grad is not None}
        losses = pl_module.losses
        total = torch.stack([g.sum() for g in gradients.values()] + [loss.sum() for loss in losses.values()])
        if total.isfinite().all():
            return
        bad = next((name for name, g in gradients.items() if not g.isfinite().all()), None)
        if bad is None and all(loss.isfinite().all() for loss in losses.values()):
            return  # only the sums overflowed
        path = Path(trainer.default_root_dir) / "last-good.ckpt"
        trainer.save_checkpoint(path)
        where = f"gradient of {bad}" if bad else "query loss"
        raise MetagenError(
            f"{where} is not finite at step {trainer.global_step}, task {_first_bad_task(pl_module)}; the last good weights "
            f"are in {path}: lower the inner or outer rate, or clip harder"
        )


def _first_bad_task(module: MetaTraining) -> str:
    bad = [
        name
        for losses in module.losses.values()
        for name, loss in zip(module.episode.tasks, losses)
        if not loss.isfinite()
    ]
    return repr(bad[0]) if bad else "unknown (every query loss of this process is finite)"


class Samples(pl.Callback):
    """At every validation, a picture of the first val tasks: support, real, generated.

    Args:
        tasks: rows.
        generated: new images a row.
    """

    def __init__(self, tasks: int = 8, generated: int = 8) -> None:
        self.tasks, self.generated = tasks, generated

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write `samples/step-000000.png`, and hand it to a logger that takes images."""
        if not trainer.is_global_zero or trainer.sanity_checking:
            return
        data = trainer.datamodule
        episode = next(iter(data.episodes.held_out("val", self.tasks, self.tasks)))
        image = picture(pl_module.learner, episode, self.generated, device=pl_module.device)
        save_png(image, Path(trainer.default_root_dir) / "samples" / f"step-{trainer.global_step:06d}.png")
        for experiment in _image_loggers(trainer):
            experiment.add_image("val/samples", image, trainer.global_step)


def _image_loggers(trainer: pl.Trainer) -> Iterator[torch.nn.Module]:
    return (logger.experiment for logger in trainer.loggers if hasattr(logger.experiment, "add_image"))
