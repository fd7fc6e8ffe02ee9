"""Meta-training: one meta-gradient a step, handed to Lightning as a scalar whose ordinary gradient it is."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch.utils._pytree import tree_map
from torchmetrics import MeanMetric

from metagen.adaptation import MetaStep, Recorded, Regulariser, in_chunks, task_batch
from metagen.core.functional import Execution, Weights
from metagen.core.registry import options_of
from metagen.distributed.processes import gathered, rank
from metagen.errors import MetagenError, check_at_least, check_choice
from metagen.evaluation.criterion import ByLoss, BySamples, Criterion
from metagen.evaluation.extractor_choice import selection_features
from metagen.generators import Generator, PerPlayer, by_player
from metagen.learners import Learner, adapt_tasks
from metagen.storage.artifacts import check_tensors
from metagen.storage.earlier import as_of_version_1
from metagen.storage.strict_json import to_json
from metagen.tasks.episodes import Episode
from metagen.training.chunk_choice import chunk_within
from metagen.training.episode_data import EpisodeData
from metagen.training.initialisation import initialise_learner
from metagen.training.model_zoo import zoo_for

Schedule = Literal["constant", "linear", "cosine"]
LEAST = 0.02  # of the outer rate, where a cosine ends


class MetaTraining(pl.LightningModule):
    """Meta-trains a learner.

    Args:
        generator: the base generator.
        learner: how it adapts.
        rate: the outer learning rate (Adam), of all players or each one's by its name.
        schedule: "constant", "linear" to 0 over the second half of the run, or "cosine": half of one, from the end of
            the warm-up to 2 % at the end of the run.
        warmup: optimiser steps over which the outer rate rises from 0.
        weight_decay: of matrices, the parameters of 2 axes or more: the share of them that a step takes away at a rate
            of 1, apart from their gradient (AdamW, Loshchilov 2019, arXiv:1711.05101); 0 for none.
        betas: of Adam; None for the generator's.
        clip: the largest norm of each player's meta-gradient, one for all or each one's by its name; 0 for none.
        chunk: tasks whose graph is in memory at once; None for all of an episode's.
        memory: MiB that the graph of a meta-step may hold: `chunk` is as many tasks as fit; None for no limit.
        initial: a saved model that training begins from: its generator, or, of a learner of the same kind and sizes,
            all that it learned; None to begin at random.
        execution: "vmap" (all tasks of a chunk at once) or "loop" (one by one, with less memory).
        regularise: terms of the outer loss beside the query loss, any of l2, l2_start, path_norm, dropout and
            bottleneck, each with its weight or rate (see `Regulariser`); None for none.
        chosen_by: the extractor, a folder or the name of one bundled with metagen, through which samples are
            looked at to choose the best model on val tasks, or "pixels"; None to choose by the query loss where that
            says how good images are, else through TASK_SET-select or, where there is none, by pixels.
        zoo: a folder that `metagen zoo` wrote, whose models a learner that writes weights learns from, beside its query
            loss; it has to be made of `initial`. None for none.
        regress: how much what is written counts by its distance from the zoo's (see `MetaGenerator`); None for its own.

    Raises:
        MetagenError: an option is out of range, the initial weights are those of another generator, or the learner
            cannot be regularised, or cannot learn from the zoo.
    """

    def __init__(
        self,
        generator: Generator,
        learner: Callable[[Generator], Learner],
        rate: PerPlayer = 1e-3,
        schedule: Schedule = "linear",
        warmup: int = 50,
        weight_decay: float = 0.0,
        betas: tuple[float, float] | None = None,
        clip: PerPlayer = 100.0,
        chunk: int | None = None,
        memory: int | None = None,
        execution: Execution = "vmap",
        initial: str | None = None,
        regularise: dict[str, float] | None = None,
        chosen_by: str | None = None,
        zoo: str | None = None,
        regress: float | None = None,
    ) -> None:
        super().__init__()
        check_choice("schedule", schedule, Schedule)
        check_choice("execution", execution, Execution)
        for name, least in (("chunk", chunk), ("memory", memory)):
            if least is not None:
                check_at_least(name, least, 1)
        if memory is not None and (chunk is not None or execution == "loop"):
            raise MetagenError("memory: it chooses the chunk of execution vmap; leave chunk and execution out")
        check_at_least("warmup", warmup, 0)
        if not 0 <= weight_decay < math.inf:
            raise MetagenError(f"weight_decay: expected a finite number of 0 or more, got {weight_decay}")
        if betas is not None and not (len(betas) == 2 and all(0 <= beta < 1 for beta in betas)):
            raise MetagenError(f"betas: expected 2 numbers of 0 or more and below 1, got {betas}")
        if regress is not None:
            check_at_least("regress", regress, 0)
            if zoo is None:
                raise MetagenError("regress: there is no zoo to learn from; give one as --model.zoo, or leave it out")
        self.learner, self.initialised_from = initialise_learner(generator, learner, initial)
        self.learner.regulariser = regulariser_for(self.learner, regularise) if regularise else None
        if weight_decay and self.learner.keeps_generator:
            raise MetagenError(
                "weight_decay: it would shrink the generator that MetaGenerator keeps frozen; leave it out"
            )
        self.zoo = None if zoo is None else zoo_for(self.learner, zoo, initial, regress)
        self.rates, self.clips = by_player("rate", rate, generator), by_player("clip", clip, generator, at_least=0)
        self.rate, self.schedule, self.warmup = rate, schedule, warmup
        first, second = generator.betas if betas is None else betas
        self.weight_decay, self.betas = weight_decay, (first, second)
        self.meta_gradient = Recorded(self.learner.meta_gradient)
        meta = self.learner.meta_parameters()
        for name, weight in self.learner.named_parameters():
            weight.requires_grad_(name in meta)  # no graph is made for what is frozen
        self.chunk, self.memory, self.execution, self.chosen_by = chunk, memory, execution, chosen_by
        self.criterion: Criterion = ByLoss()
        self.episode: Episode | None = None  # the one being trained on, with its query losses: for callbacks
        self.losses: dict[str, torch.Tensor] = {}
        self.task_records: list[Weights] = []  # of each batch since the last optimiser step
        self.means: dict[str, MeanMetric] = {}  # over the val tasks of every process, by the names they are logged by

    def setup(self, stage: str) -> None:
        """Set the criterion that chooses the best model; let the learner set what stays fixed by train tasks.

        Raises:
            MetagenError: there are too few queries to judge samples by, or see `selection_features`.
        """
        if self.chosen_by is not None or not self.learner.generator.comparable:
            if self.data.queries < 2:
                raise MetagenError(f"data.queries: samples are judged by 2 or more images, got {self.data.queries}")
            device = self.trainer.strategy.root_device  # the module itself is brought there later
            self.criterion = BySamples(*selection_features(self.chosen_by, self.data, device))

        if self.initialised_from != "learner":  # which was prepared before
            self.learner.prepare(self._train_supports)

    def _train_supports(self, tasks: int) -> torch.Tensor:
        episodes = self.data.episodes
        chosen = episodes.train(0, min(tasks, len(episodes.task_set.split.train)))
        return chosen.to_like(self.learner).support

    def training_step(self, episode: Episode, batch_index: int) -> torch.Tensor:
        """The scalar sum_p <theta_p, stop_grad(g_p)>: its gradient is g, its value means nothing."""
        learner, key = self.learner, (self.data.seed, "train", episode.index)
        learner.anneal(min(1.0, self.global_step / self._planned_steps))
        targets = None if self.zoo is None else self.zoo.of(episode.tasks)
        batch = task_batch(learner, episode.support, episode.query, key, episode.numbers, targets)
        theta = learner.meta_parameters()
        meta = {name: w.detach() for name, w in theta.items()}
        if self.memory is not None and self.chunk is None:
            self.chunk = chunk_within(self.memory, learner.meta_gradient, learner, meta, batch)
            if not rank():
                print(f"memory: {self.chunk} of {len(batch.support)} tasks at once hold up to {self.memory} MiB")
        step = in_chunks(self.meta_gradient, learner, meta, batch, self.chunk, self.execution)
        self.episode, self.losses = episode, step.losses
        self.task_records.append(step.task_records)
        self._log_step(step)
        return torch.stack([(theta[name] * g.detach()).sum() for name, g in step.gradients.items()]).sum()

    def _log_step(self, step: MetaStep) -> None:
        scalars = {**step.diagnostics, **{f"query_loss/{player}": loss for player, loss in step.losses.items()}}
        for name, each in scalars.items():
            self.log(f"train/{name}", each.mean(), batch_size=len(each))
        total = torch.stack(list(step.losses.values())).sum(0)
        self.log("train/query_loss", total.mean(), prog_bar=True, batch_size=len(total))

    def on_validation_start(self) -> None:
        """Judge what would be exported: a loaded model is where annealing ends."""
        self.learner.anneal(1.0)

    def validation_step(self, episode: Episode, batch_index: int) -> None:
        """Adapt to val tasks and judge on their queries: the mean is over all numbers of shots, and over each."""
        key = (0, "val", 0)
        before = episode.support[:, :0] if self.learner.conditioned else episode.support  # which adapts before any step
        for name, support, steps in (("val/unadapted", before, 0), (self.monitored, episode.support, None)):
            adapted = adapt_tasks(self.learner, support, key, episode.numbers, steps)
            values = self.criterion(adapted, episode.query, key, episode.numbers)
            values = values.nan_to_num(math.inf, math.inf)  # a mean over the others would hide it
            self._mean(name).update(values)
            if name == self.monitored:
                self._mean(f"{name}/{support.shape[1]}shots").update(values)
        for name, each in adapted.diagnostics(episode.query, (*key, "told"), episode.numbers).items():
            self._mean(f"val/{name}").update(each)

    def on_validation_epoch_end(self) -> None:
        """Log the means of the criterion, adapted and not, and of the generator's diagnostics."""
        for name, mean in self.means.items():
            self.log(name, mean.compute(), prog_bar=name in (self.monitored, "val/unadapted"))
            mean.reset()

    def _mean(self, name: str) -> MeanMetric:
        return self.means.setdefault(name, MeanMetric().to(self.device))

    @property
    def monitored(self) -> str:
        """The name under which the criterion is logged."""
        return f"val/{self.criterion.figure}"

    @property
    def criterion_hash(self) -> str:
        """A hash of all that the criterion depends on beside weights: val tasks, and the learner's options."""
        described: list[Any] = self.data.val_hash
        for each in (self.learner.generator, self.learner):
            options = {name: getattr(each, name, None) for name in options_of(type(each))}
            described += as_of_version_1(type(each).__name__, options)  # whose runs may go on
        few = self._trainer.limit_val_batches if self._trainer else 1.0
        if isinstance(few, int) or few < 1:  # 1 is one batch, 1.0 are all
            described.append(few)
        return hashlib.sha256(to_json(described, default=lambda other: type(other).__name__).encode()).hexdigest()

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """One Adam over every player, each at its own rate: global_step counts meta-steps."""
        fused = True if self.device.type == "cuda" else None
        decoupled = self.weight_decay > 0
        groups = self._groups(self.weight_decay > 0)
        optimiser = torch.optim.Adam(groups, betas=self.betas, decoupled_weight_decay=decoupled, fused=fused)
        factor = partial(share_of_rate, self.schedule, total=self._planned_steps, warmup=self.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _groups(self, decaying: bool) -> list[dict[str, Any]]:
        """Parameter groups of Adam: one a player; where weights decay, its matrices in one of their own before it."""
        groups: list[dict[str, Any]] = []
        for player, rate in self.rates.items():
            own = self._of(player)
            if decaying:
                matrices = [w for w in own if w.ndim > 1]
                groups.append({"params": matrices, "lr": rate, "weight_decay": self.weight_decay})
                own = [w for w in own if w.ndim <= 1]
            groups.append({"params": own, "lr": rate})
        return groups

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Update the learner's buffers once a meta-step, by what the processes have averaged."""
        gradients = {name: w.grad for name, w in self.learner.named_parameters() if w.grad is not None}
        self.learner.update_buffers(gradients, in_order(self.task_records))
        self.task_records = []

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Clip each player's meta-gradient by its own norm."""
        for player, largest in self.clips.items():
            if largest:
                torch.nn.utils.clip_grad_norm_(self._of(player), largest)

    def _of(self, player: str) -> list[torch.nn.Parameter]:
        return [w for name, w in self.learner.meta_parameters().items() if self.learner.player_of(name) == player]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the checkpoint of another model; let the run go on by its own settings and for as long as it says.

        Raises:
            MetagenError: naming the first tensors that differ.
        """
        check_tensors(Path("checkpoint"), checkpoint["state_dict"], self.state_dict())
        if self._trainer is None:
            return
        for state, course in zip(checkpoint["optimizer_states"], checkpoint["lr_schedulers"], strict=True):
            self._take_settings(state, course)
        done = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done["is_last_batch"] = done["current"]["ready"] >= self.data.episodes_per_epoch  # a longer run goes on

    def _take_settings(self, state: dict[str, Any], course: dict[str, Any]) -> None:
        """Write rates, betas and decay of this run into the saved state of Adam and its schedule, moments kept.

        Where nothing was changed, nothing changes.
        """
        saved, groups = state["param_groups"], self._groups(self.weight_decay > 0)
        before = [w for group in self._groups(len(saved) > len(self.rates)) for w in group["params"]]
        places, moments = {id(w): place for place, w in enumerate(before)}, state["state"]
        order = [places[id(w)] for group in groups for w in group["params"]]
        state["state"] = {new: moments[old] for new, old in enumerate(order) if old in moments}
        share = share_of_rate(self.schedule, course["last_epoch"], self._planned_steps, self.warmup)
        numbers = iter(range(len(order)))
        state["param_groups"] = [
            {
                **saved[0],
                "lr": group["lr"] * share,
                "initial_lr": group["lr"],
                "betas": self.betas,
                "weight_decay": group.get("weight_decay", 0),
                "decoupled_weight_decay": self.weight_decay > 0,
                "params": [next(numbers) for _ in group["params"]],
            }
            for group in groups
        ]
        rates = [group["lr"] for group in groups]
        course |= {"base_lrs": rates, "_last_lr": [rate * share for rate in rates], "lr_lambdas": [{} for _ in rates]}

    @property
    def data(self) -> EpisodeData:
        """The data module that the trainer was given."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, EpisodeData):
            raise MetagenError("Trainer.fit: expected an EpisodeData as datamodule")
        return data

    @property
    def _planned_steps(self) -> float:
        """Optimiser steps of the whole run: where this call of `fit` stops (max_steps) bends no schedule."""
        epochs = self.trainer.max_epochs
        if epochs is None or epochs < 0:
            return self.trainer.estimated_stepping_batches
        return epochs * math.ceil(self.data.episodes_per_epoch / self.trainer.accumulate_grad_batches)


def share_of_rate(schedule: Schedule, step: int, total: float, warmup: int) -> float:
    """The share of an outer rate, from 0 to 1, at optimiser step number `step` of `total`."""
    rise = min(1.0, (step + 1) / max(warmup, 1))
    if schedule == "constant":
        return rise
    if schedule == "linear":
        return max(min(1.0, 2 * (1 - step / total)), 0.0) * rise
    done = min(1.0, max(0, step - warmup) / max(total - warmup, 1))
    return (LEAST + (1 - LEAST) * (1 + math.cos(math.pi * done)) / 2) * rise


def in_order(batches: list[Weights]) -> Weights:
    """The records of each batch's tasks by every process, in the order of the tasks' numbers: each [T, ...]."""
    if not any(batches):
        return {}
    every = gathered(tree_map(lambda x: x.detach().cpu(), batches))
    parts = [part for of_batch in zip(*every, strict=True) for part in of_batch]
    device = next(iter(batches[0].values())).device
    return {name: torch.cat([part[name] for part in parts]).to(device) for name in batches[0]}


def regulariser_for(learner: Learner, terms: dict[str, float]) -> Regulariser:
    """The terms of a learner's outer loss beside the query loss.

    Raises:
        MetagenError: one is unknown or out of range, or the learner would ignore them.
    """
    name = type(learner).__name__
    if "outer_loss_terms" not in learner.meta_gradient.hooks:
        raise MetagenError(f"regularise: {name} goes where adaptation went and looks at no outer loss; give none")
    if not (learner.steps or learner.conditioned) or not learner.adapted_names:
        raise MetagenError(f"regularise: {name} takes no inner step in meta-training, so nothing moves; give none")
    return Regulariser(terms)
