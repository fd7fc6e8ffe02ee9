"""`metagen zoo`: a model of each of many train tasks, trained from one start and kept as low-rank deltas of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch.utils._pytree import tree_map

from metagen.adaptation import add_deltas, draw_noise
from metagen.core.functional import Weights
from metagen.core.seeding import numpy_rng
from metagen.distributed.processes import Processes, rank
from metagen.distributed.sharding import ShardedTasks, TaskTensors
from metagen.errors import MetagenError, check_at_least
from metagen.learners import Adapted, Joint, Learner, MetaGenerator, adapt_tasks
from metagen.model import Model, load_base
from metagen.report.next_steps import next_steps
from metagen.storage.artifacts import read_config
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free, placed
from metagen.storage.images import to_float
from metagen.storage.strict_json import to_json
from metagen.tasks.seen import SeenTasks, kept_in, seen_in
from metagen.tasks.splits import HELD_OUT, Split
from metagen.tasks.task_data import TaskData
from metagen.training.zoo_files import load_zoo, save_zoo


class Zoo:
    """Trained models of train tasks.

    Attributes:
        deltas: L of every delta L R by its name, [T, a, rank].
        info: how they were made; tasks has their names.
        weights_hash: SHA-256 of the file that holds the deltas.
        split: of which they are the train tasks, and which holds out none.
        seen: the same tasks, with hashes of their images where they were kept.
    """

    def __init__(self, deltas: Weights, info: dict[str, Any], weights_hash: str, seen: SeenTasks | None = None) -> None:
        self.deltas, self.info, self.weights_hash = deltas, info, weights_hash
        self.split = Split(tuple(info["tasks"]), (), ())
        self.seen = seen_in(info.get("data", {}).get("task_set"), self.split) | (seen or SeenTasks())
        self._places = {task: place for place, task in enumerate(info["tasks"])}

    def of(self, tasks: Sequence[str]) -> Weights:
        """Every L of each task, [T, a, rank]; 0 of tasks that it lacks."""
        places = [self._places.get(task) for task in tasks]
        return {
            name: torch.stack([torch.zeros_like(each[0]) if place is None else each[place] for place in places])
            for name, each in self.deltas.items()
        }


@runtime_checkable
class TaughtByZoo(Protocol):
    """A learner that writes low-rank changes of weights, and can learn them from a zoo's.

    Attributes:
        layers: whose weights change; None for those of the last player.
        rank: of each change.
        regress: the weight of the distance from the zoo's changes.
    """

    layers: tuple[str, ...] | None
    rank: int
    regress: float


def zoo_for(learner: Learner, place: str, initial: str | None, regress: float | None) -> Zoo:
    """The zoo that a learner is to learn from; `regress`, how much that counts, is set in the learner.

    Args:
        learner: that writes weights.
        place: a folder.
        initial: the model that meta-training begins from.
        regress: see `MetaGenerator`; None for its own.

    Raises:
        MetagenError: there is none, it is damaged, or it is of another base, or of other deltas.
    """
    if not isinstance(learner, TaughtByZoo):
        raise MetagenError(f"zoo: {type(learner).__name__} writes no weights; take MetaGenerator, or give no zoo")
    try:
        folder = placed(place)
        deltas, info, weights_hash = load_zoo(folder)
        zoo = Zoo(deltas, info, weights_hash, kept_in(folder))
    except MetagenError as error:
        raise MetagenError(f"zoo: {error}") from error
    base = initial and read_config(bundled("models", initial), "model")["weights_sha256"]
    if base != zoo.info["base_sha256"]:
        raise MetagenError(
            f"zoo: {place} was made from the model with weights {zoo.info['base_sha256'][:12]}, but training begins "
            f"from {base[:12] if base else 'none'}; give that model as --model.initial"
        )
    weights = dict(learner.generator.named_parameters())
    if {n: d.shape[1:] for n, d in zoo.deltas.items()} != {n: weights[n].shape for n in learner.adapted_names}:
        raise MetagenError(
            f"zoo: {place} has deltas of layers {zoo.info.get('layers')} and rank {zoo.info.get('rank')}; the "
            f"learner's are {learner.layers} and {learner.rank}; give it the same"
        )
    learner.regress = learner.regress if regress is None else regress
    return zoo


def check_taught(name: str, zoo: Zoo, data: TaskData) -> None:
    """Refuse a zoo, by what the user calls it, of which nothing would be learned of these tasks.

    Raises:
        MetagenError: it has a model of no train task, or train tasks are turned or augmented, of which it has none.
    """
    if not set(zoo.split.train) & set(data.task_set.split.train):
        raise MetagenError(f"zoo: {name} has no model of any train task of {data.name}; make one of these tasks")
    if data.turns or data.augment:
        option = "turns" if data.turns else "augment"
        raise MetagenError(f"zoo: {name} has no models of turned tasks; leave out --data.{option}")


@dataclass(frozen=True)
class Plan:
    """How the models of a zoo are trained.

    Attributes:
        tasks: how many train tasks, chosen by the seed; None for all.
        images: of each task; None for as many as each of them has.
        rank: of every delta.
        layers: whose weights have deltas (see `add_deltas`).
        steps: of Adam, each on all images.
        rate: of Adam.
        seed: of the noise, and of which tasks and images are taken.
    """

    tasks: int | None
    images: int | None
    rank: int
    layers: tuple[str, ...] | None
    steps: int
    rate: float
    seed: int


class Training:
    """The training of every model of a zoo.

    Attributes:
        numbers: of the tasks among the train tasks.
        names: theirs.
        images: how many of each.
        learner: the base with deltas, of which L moves.

    Raises:
        MetagenError: an option is out of range, or base and tasks do not go together.
    """

    def __init__(self, name: str, base: Model, data: TaskData, plan: Plan) -> None:
        generator, train = base.learner.generator, data.task_set.split.train
        data.check_size(name, generator.size, generator.channels)
        for option, value in (("tasks", plan.tasks), ("images", plan.images), ("steps", plan.steps)):
            check_at_least(option, 1 if value is None else value, 1)
        self.data, self.plan = data, plan
        if plan.tasks is not None and plan.tasks > len(train):
            raise MetagenError(f"tasks: there are {len(train)} train tasks, got {plan.tasks}; take fewer")
        self.numbers = sorted(numpy_rng(plan.seed, "zoo").permutation(len(train))[: plan.tasks].tolist())
        self.names = [train[number] for number in self.numbers]
        check_own(name, base, data, self.names)
        counts = {task: data.task_set.readable_count(task) for task in self.names}
        smallest = min(self.names, key=counts.__getitem__)
        self.images = counts[smallest] if plan.images is None else plan.images
        if self.images > counts[smallest]:
            raise MetagenError(f"images: {smallest!r} has {counts[smallest]}, got {self.images}; take fewer")
        adapted_params = add_deltas(generator, plan.rank, plan.layers, fixed=True)
        self.learner = Joint(generator, plan.rate, adapted_params=adapted_params, test_steps=plan.steps).requires_grad_(
            False
        )

    def train_batch(self, numbers: Sequence[int]) -> TaskTensors:
        """Of each task: L of every delta, and every player's support loss "before" and "after", each [T, players]."""
        support, key = self.support(numbers).to(next(self.learner.parameters())), (self.plan.seed, "zoo")
        before, after = (adapt_tasks(self.learner, support, key, numbers, steps) for steps in (0, None))
        losses = {"before": support_losses(before, key, numbers), "after": support_losses(after, key, numbers)}
        return {**after.difference, **losses}

    def support(self, numbers: Sequence[int]) -> torch.Tensor:
        """The images of train tasks by number, [T, k, C, H, W] in [0, 1]."""
        tasks, rows = self.data.task_set, []
        for name in (tasks.split.train[number] for number in numbers):
            places = numpy_rng(self.plan.seed, "zoo", name).permutation(tasks.readable_count(name))[: self.images]
            rows.append(to_float(tasks.images(name, places.tolist())))
        return torch.stack(rows)


def support_losses(adapted: Adapted, key: Sequence[int | str], numbers: Sequence[int]) -> torch.Tensor:
    """Every player's loss on its own support, with draws that the key names: [T, players]."""
    generator, support = adapted.generator, adapted.support
    noise = draw_noise(generator, (*key, "judged"), numbers, support.shape[1])
    noise = tree_map(lambda x: x.to(support), noise)
    each = [adapted.each("support_loss", {"support": support, "noise": noise[p]}, player=p) for p in generator.players]
    return torch.stack(each, -1)


def check_own(name: str, base: Model, data: TaskData, tasks: Sequence[str]) -> None:
    """Refuse a base that was trained on tasks held out here, and tasks that are held out of the base.

    Raises:
        MetagenError: naming the first such task.
    """
    for split in HELD_OUT:
        data.check_unseen(name, base.info, base.seen, split)
    if base.split is None or base.info.get("data", {}).get("task_set") != data.name:
        return
    held_out = sorted({*base.split.val, *base.split.test} & set(tasks))
    if held_out:
        raise MetagenError(
            f"{name}: {len(held_out)} of these train tasks are held out of it, {held_out[0]!r} first; give the "
            "split.json of its folder as --data.split_file"
        )


def make_zoo(
    model: str, out: Path, data: TaskData, plan: Plan, processes: Processes, chunk: int, overwrite: bool
) -> None:
    """Train a zoo and write it; what is trained is kept beside it until the end, and gone on with.

    Args:
        model: the base, an exported model.
        out: the folder to write to.
        data: whose train tasks.
        plan: how.
        processes: what shares the tasks.
        chunk: tasks at once.
        overwrite: replace what stands at `out`.

    Raises:
        MetagenError: see `Training`; or the chunk is empty, or `out` is taken, or holds other unfinished work.
    """
    check_free(out, overwrite, [bundled("models", model), *data.inputs])
    check_at_least("chunk", chunk, 1)
    base = load_base(model)
    training = Training(model, base, data, plan)
    origin = {"base_sha256": base.weights_hash, "data": data.description, "split_sha256": data.task_set.split.hash}
    about = {**origin, **asdict(plan), "images": training.images, "tasks": training.names}
    unfinished = out.with_name(f"{out.name}.unfinished")
    sharded = ShardedTasks(unfinished, {**about, "chunk": chunk}, chunk, overwrite)
    with processes.launched() as device:
        training.learner.to(device)
        trained = sharded.over("zoo", training.numbers, training.train_batch)
        if not rank():
            losses = {f"loss_{when}": trained.pop(when).mean(0).tolist() for when in ("before", "after")}
            info = {**about, **losses, "torch": torch.__version__}
            save_zoo(out, trained, info, overwrite, data.seen_of("train", training.names))
            sharded.end()
            before, after = (", ".join(f"{loss:.2f}" for loss in each) for each in losses.values())
            print(f"{len(training.names)} models; support loss {before} before, {after} after")
            print(f"wrote {out}; a run over the base's generator and tasks, by its config, learns from it")
            print(next_steps(["fit", *learning_from(out, model, plan)]))


def learning_from(zoo: Path, base: str, plan: Plan) -> list[str]:
    """The options of `metagen fit` that let a learner learn from a zoo, made of a base by a plan."""
    words = ["--model.zoo", str(zoo), "--model.initial", base, "--model.learner", MetaGenerator.__name__]
    words += ["--model.learner.rank", str(plan.rank)]
    return words + ([] if plan.layers is None else ["--model.learner.layers", to_json(plan.layers)])
