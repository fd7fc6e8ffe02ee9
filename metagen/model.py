"""The Python API: load a model, adapt it to a few images, sample from the result.

The examples begin with: import metagen, torch
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from metagen.adaptation import EmitsRule, Rule
from metagen.core.philox import Draws, rows_of
from metagen.errors import MetagenError, check_at_least, whole
from metagen.generators import generators, with_sampling
from metagen.learners import Adapted, Learner, adapt_each, adapt_tasks, auto_steps, learners, model_files
from metagen.learners.importance_sampling import log_likelihood, parts_of
from metagen.storage import bundled
from metagen.storage.artifacts import FULL, check_tensors, read_config
from metagen.storage.files import placed
from metagen.tasks.seen import SeenTasks, seen_in, seen_of
from metagen.tasks.splits import Split, split_of
from metagen.tasks.support_images import Images, Invert, read_support, tell_blank, turned

LOOKED_AT = 20  # of the images of many tasks, to see what ink stands on
SAMPLES_AT_ONCE = 256  # images of each task, so that memory is bounded
Steps = int | Literal["auto"] | None


def load(name: str | Path, device: str = "cpu") -> Model | AdaptedModel:
    """Load a saved model or adapted model: a folder, or the name of a model bundled with metagen.

    >>> metagen.load("omniglot").info["data"]["task_set"]
    'omniglot'

    Raises:
        MetagenError: there is none, or it is damaged.
    """
    path = bundled.bundled("models", name)
    kind = read_config(path, "model", "adapted")["kind"]
    return load_base(path, device) if kind == "model" else load_adapted(path, device)


def load_base(name: str | Path, device: str = "cpu") -> Model:
    """Load a saved model, named as for `load`.

    Raises:
        MetagenError: there is none, it is damaged, or something else.
    """
    path = bundled.bundled("models", name)
    learner, info, weights_hash = model_files.load_model(path)
    try:
        learner = learner.to(device)
    except (RuntimeError, AssertionError, TypeError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        raise MetagenError(f"device: cannot use {device!r} ({reason}); name one that is there, such as cpu") from error
    return Model(learner, info, path.resolve(), weights_hash, split_of(path), seen_of(path, info))


def load_adapted(name: str | Path, device: str = "cpu") -> AdaptedModel:
    """Load a saved adapted model, named as for `load`.

    Raises:
        MetagenError: there is none, it is damaged, or something else.
    """
    path = bundled.bundled("models", name)
    difference, support, base, info = model_files.load_adapted(path)
    model = load_base(base, device)
    generator = model.learner.generator
    weights = {n: w for n, w in generator.named_parameters() if n in model.learner.adapted_names}
    still = model.learner.context_only and not difference  # adapted in no step
    check_tensors(path / "difference.safetensors", difference, {} if still else weights)
    if generator.uses_support:
        if support is None:
            raise MetagenError(f"{path}: has no support.safetensors, at which its generator looks; adapt again")
        model.check(support, f"{path / 'support.safetensors'}")
    else:
        support = torch.zeros(0, generator.channels, generator.size, generator.size)
    stacked = {n: d[None].to(device) for n, d in difference.items()}
    return AdaptedModel(model, Adapted(generator, stacked, support[None].to(device)), info)


class Model:
    """A meta-trained model.

    >>> model = metagen.load("omniglot")
    >>> mine = model.adapt(torch.rand(5, 1, 28, 28))  # five images of something new
    >>> mine.sample(4, seed=0).shape
    torch.Size([4, 1, 28, 28])

    Attributes:
        learner: generator and learner with their weights.
        info: how it was made.
        path: where it is saved, or None.
        weights_hash: SHA-256 of its weights file, or None.
        split: the tasks it was trained on and those held out, or None.
        seen: all that it has seen; by default what the split says, or None.
    """

    def __init__(
        self,
        learner: Learner,
        info: dict[str, Any],
        path: Path | None = None,
        weights_hash: str | None = None,
        split: Split | None = None,
        seen: SeenTasks | None = None,
    ) -> None:
        self.learner = learner.requires_grad_(False).eval()
        self.info, self.path, self.weights_hash, self.split = info, path, weights_hash, split
        self.seen = seen_in(info.get("data", {}).get("task_set"), split) if seen is None and split else seen

    def adapt(self, images: Images, steps: Steps = None, seed: int = 0, invert: Invert = "auto") -> AdaptedModel:
        """Adapt to `images`: return a generator of what they show.

        >>> metagen.load("omniglot-redraw").adapt(torch.rand(5, 1, 28, 28), steps=1).info
        {'shots': 5, 'seed': 0, 'steps': 1}

        Args:
            images: a tensor [k, C, H, W] in [0, 1], PIL images, or a folder of image files.
            steps: N; the model's own number if None; "auto" to choose it by images left out (see `auto_steps`).
            seed: of the noise in the inner loop.
            invert: see `read`.

        Raises:
            MetagenError: no image, one that cannot be read, or what `adapt_many` refuses.
        """
        support = self.read(images, invert, "adapt")
        return self._adapted(support[None], steps, seed)[0]

    def adapt_many(self, support: torch.Tensor, steps: Steps = None, seed: int = 0) -> AdaptedModels:
        """Adapt to T supports at once: support [T, k, C, H, W] in [0, 1]; if "auto", in as many steps as suit each.

        >>> several = metagen.load("omniglot").adapt_many(torch.rand(3, 5, 1, 28, 28))
        >>> len(several), several.sample(2).shape
        (3, torch.Size([3, 2, 1, 28, 28]))

        Raises:
            MetagenError: a tensor of the wrong shape or range, or steps that are neither "auto" nor a number that
                `check_steps` lets pass.
        """
        shape = list(support.shape) if isinstance(support, torch.Tensor) else type(support).__name__
        if not isinstance(support, torch.Tensor) or support.ndim != 5 or support.is_sparse:
            raise MetagenError(f"adapt: expected supports [T, k, C, H, W], got {shape}")
        self.check(support.flatten(0, 1), "adapt")
        turned(support.flatten(0, 1)[:LOOKED_AT], self.info, "auto", read=False)  # of a tensor it only warns
        return self._adapted(support, steps, seed)

    def _adapted(self, support: torch.Tensor, steps: Steps, seed: int) -> AdaptedModels:
        learner, seed = self.learner, whole("seed", seed)  # the learner, which `save` may replace, is one throughout
        if steps is not None and steps != "auto":
            steps = whole("steps", steps, otherwise=" or auto")
            self.check_steps(steps)
        support, key, info = support.to(self.device), (seed, "adapt"), {"shots": support.shape[1], "seed": seed}
        if steps == "auto":
            choice = auto_steps(learner, support, (*key, "auto"))
            adapted = adapt_each(learner, support, key, choice.steps)
            return AdaptedModels(self, adapted, info, [choice.of(task) for task in range(len(support))])
        adapted = adapt_tasks(learner, support, key, steps=steps)
        count = learner.test_steps if steps is None else steps
        return AdaptedModels(self, adapted, {**info, "steps": count})

    def rule(self, images: Images, invert: Invert = "auto") -> Rule:
        """The update rule by which the model adapts to `images`, which are given as to `adapt`.

        Raises:
            MetagenError: the learner emits no rule, or the images are such as `adapt` refuses.
        """
        if not isinstance(self.learner, EmitsRule):
            able = ", ".join(cls.__name__ for cls in learners.classes if issubclass(cls, EmitsRule))
            raise MetagenError(f"rule: expected a model with the learner {able}, got {type(self.learner).__name__}")
        support = self.read(images, invert, "rule")
        return self.learner.rule(support.to(self.device))

    def save(self, path: str | Path, overwrite: bool = False, stored_as: str = FULL) -> None:
        """Write the model to a folder.

        >>> model = metagen.load("omniglot")
        >>> model.save("halved", stored_as="float16")
        >>> metagen.load("halved").weights_hash == model.weights_hash
        True

        stored_as: "float32", or "float16" for a file of half the size; the model goes on with the weights that the
            file holds, so that what is adapted from it is the same after loading.

        Raises:
            MetagenError: the folder is not empty and may not be overwritten, or cannot be written, or float16 cannot
                hold a weight.
        """
        place = placed(path).resolve()  # adapted models name it also when the current folder is another one
        self.weights_hash = model_files.save_model(
            place, self.learner, self.info, self.split, overwrite, stored_as, self.seen
        )
        if stored_as != FULL:
            rounded = copy.deepcopy(self.learner)  # not in place: other threads read the weights
            rounded.load_state_dict(model_files.load_model(place)[0].state_dict())
            self.learner = rounded
        self.path = place

    @property
    def sampling(self) -> dict[str, float]:
        """The options of sampling by name, as the model has them; `sample` takes others.

        >>> metagen.load("omniglot-redraw").sampling
        {'temperature': 1.0}
        """
        generator = self.learner.generator
        return {name: getattr(generator, name) for name in generator.sampling}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.learner.parameters()).device

    def read(self, images: Images, invert: Invert = "auto", what: str = "read") -> torch.Tensor:
        """Images as the model takes them: [k, C, H, W] in [0, 1]; cut square and resized, unless they are a tensor.

        Warns of blank images, or nearly blank ones; not of a tensor's where `invert` is given.

        >>> from PIL import Image
        >>> metagen.load("omniglot").read([Image.effect_noise((105, 80), 50)]).shape
        torch.Size([1, 1, 28, 28])

        Args:
            images: see `adapt`.
            invert: whether to exchange black and white. "auto" does so, with a warning, for files and PIL images with
                light on dark where the model was trained on dark on light, or the reverse.
            what: is to be done with them, for messages.

        Raises:
            MetagenError: see `adapt`, or `check` refuses them.
        """
        generator, read = self.learner.generator, not isinstance(images, torch.Tensor)
        if isinstance(images, torch.Tensor):
            support, names = images, [f"image {number}" for number in range(len(images))]
        else:
            support, names = read_support(images, generator.size, generator.channels)
        self.check(support, what)
        if read or invert == "auto":
            tell_blank(support, names)
        return turned(support, self.info, invert, read)

    def check_steps(self, steps: int) -> None:
        """Refuse a number of inner steps in which the model cannot adapt.

        Raises:
            MetagenError: it is below 0, or above although nothing of the model moves.
        """
        check_at_least("steps", steps, 0)
        if steps and not self.learner.adapted_names:
            kind = type(self.learner).__name__
            raise MetagenError(f"steps: nothing of {kind} moves, so expected 0, got {steps}; leave steps out")

    def check(self, images: torch.Tensor, what: str) -> None:
        """Refuse images that are not [n, C, H, W] in [0, 1] as the model takes them, or none at all.

        Raises:
            MetagenError: naming `what` was to be done with them.
        """
        generator, dtype = self.learner.generator, next(self.learner.parameters()).dtype
        if not isinstance(images, torch.Tensor):
            raise MetagenError(f"{what}: expected a tensor of images, got {type(images).__name__}; see `Model.read`")
        if images.layout != torch.strided or images.is_meta:
            raise MetagenError(
                f"{what}: expected a dense tensor that holds values, got {images.layout} on {images.device}"
            )
        shape = [generator.channels, generator.size, generator.size]
        if images.ndim != 4 or list(images.shape[1:]) != shape:
            expected = ", ".join(map(str, shape))
            raise MetagenError(f"{what}: expected images [k, {expected}], got {list(images.shape)}")
        if not len(images):
            raise MetagenError(f"{what}: got no image; give at least one")
        if images.is_floating_point() and images.dtype != dtype:
            raise MetagenError(f"{what}: expected {dtype} as the weights are, got {images.dtype}; convert the images")
        if not images.is_floating_point() or not ((images >= 0) & (images <= 1)).all():
            raise MetagenError(f"{what}: expected float images with values in [0, 1] and no NaN; divide bytes by 255")


class AdaptedModels:
    """T adapted models at once: `info` is what they share, `own` what each task adds to it; None where none does."""

    def __init__(
        self, model: Model, adapted: Adapted, info: dict[str, Any], own: Sequence[dict[str, Any]] | None = None
    ) -> None:
        self.model, self._adapted, self.info, self.own = model, adapted, info, own

    @property
    def adapted(self) -> Adapted:
        """The tasks' weights, as differences from those that the model has now."""
        return self._adapted.over(self.model.learner.generator)

    def __len__(self) -> int:
        return len(self._adapted)

    def __getitem__(self, task: int) -> AdaptedModel:
        if not -len(self) <= task < len(self):
            raise IndexError(task)
        own = {} if self.own is None else self.own[task]
        return AdaptedModel(self.model, self.adapted[task % len(self)], {**self.info, **own})

    def sample(self, n: int, seed: int = 0, **settings: float) -> torch.Tensor:
        """New images [T, n, C, H, W] in [0, 1]; image i of a seed is the same at every n.

        settings: sampling options in place of the model's own (see `Model.sampling`), such as temperature=0.8.

        Raises:
            MetagenError: n is below 1, or the generator has no such option, or it is out of range.
        """
        n, seed = whole("n", n, 1), whole("seed", seed)
        adapted = self._adapted.over(with_sampling(self.model.learner.generator, settings))
        parts = parts_of(n, SAMPLES_AT_ONCE)
        return torch.cat([self._sampled(adapted, seed, range(part.start, part.stop)) for part in parts], 1)

    def _sampled(self, adapted: Adapted, seed: int, numbers: Iterable[int]) -> torch.Tensor:
        """Images of these numbers, [T, n, C, H, W]."""
        draws = Draws((seed, "sample"), rows_of([*numbers]), adapted.support.device)  # a row an image
        noise = {name: x[:, 0].to(adapted.support) for name, x in adapted.generator.noise(1, draws).items()}
        return adapted.generate({name: x.expand(len(self), *x.shape) for name, x in noise.items()})


class AdaptedModel:
    """A generator of one new thing."""

    def __init__(self, model: Model, adapted: Adapted, info: dict[str, Any]) -> None:
        self.model, self._adapted, self.info = model, adapted, info

    @property
    def adapted(self) -> Adapted:
        """The weights, as a difference from those that the model has now."""
        return self._adapted.over(self.model.learner.generator)

    @property
    def sampling(self) -> dict[str, float]:
        """The options of sampling by name, as this model has them, which may be others once steps moved weights."""
        after = self.model.learner.generator.after_steps if self._adapted.moved.any() else {}
        return {**self.model.sampling, **after}

    def sample(self, n: int, seed: int = 0, **settings: float) -> torch.Tensor:
        """New images [n, C, H, W] in [0, 1]; image i of a seed is the same at every n.

        >>> mine = metagen.load("omniglot").adapt(torch.rand(5, 1, 28, 28))
        >>> torch.allclose(mine.sample(2, seed=1), mine.sample(3, seed=1)[:2], atol=1e-5)
        True

        settings: see `AdaptedModels.sample`, as are the errors.
        """
        return AdaptedModels(self.model, self.adapted, self.info).sample(n, seed, **settings)[0]

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """The latents [n, latent] of images [n, C, H, W]: a VAE's posterior means, a GAN's by descent.

        >>> mine = metagen.load("omniglot").adapt(torch.rand(5, 1, 28, 28))
        >>> mine.project(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 49])

        Raises:
            MetagenError: the generator has no latent of an image alone, or the images are such as `adapt` refuses.
        """
        return self._run("project", images=images)

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images [n, C, H, W] through the latent and back, in [0, 1].

        >>> mine = metagen.load("omniglot").adapt(torch.rand(5, 1, 28, 28))
        >>> mine.reconstruct(torch.rand(3, 1, 28, 28)).shape
        torch.Size([3, 1, 28, 28])
        """
        return self._run("reconstruct", images=images)

    def interpolate(self, first: torch.Tensor, last: torch.Tensor, steps: int = 8) -> torch.Tensor:
        """From each image of `first` [n, C, H, W] to that of `last`: [n, steps, C, H, W] in [0, 1].

        >>> mine = metagen.load("omniglot").adapt(torch.rand(5, 1, 28, 28))
        >>> mine.interpolate(torch.rand(2, 1, 28, 28), torch.rand(2, 1, 28, 28), steps=6).shape
        torch.Size([2, 6, 1, 28, 28])
        """
        steps = whole("steps", steps, 2)
        return self._run("interpolate", first=first, last=last, steps=steps)

    def log_prob(self, images: torch.Tensor, samples: int = 1000, seed: int = 0) -> torch.Tensor:
        """Log p(image | support) in nats, [n]: a lower bound, by importance sampling unless one evaluation gives it.

        >>> mine = metagen.load("omniglot").adapt(torch.rand(5, 1, 28, 28))
        >>> mine.log_prob(torch.rand(3, 1, 28, 28).round()).shape
        torch.Size([3])

        Args:
            images: [n, C, H, W]; for a Bernoulli likelihood every pixel is 0 or 1.
            samples: S, importance samples an image.
            seed: of the samples.

        Raises:
            MetagenError: the generator has no likelihood, or the images are not binary where they must be.
        """
        generator = self._capable("log_prob" if hasattr(self.model.learner.generator, "log_prob") else "log_weights")
        self.model.check(images, "log_prob")
        generator.log_likelihood.check(images)
        samples, seed = whole("samples", samples, 1), whole("seed", seed)
        return log_likelihood(self.adapted, images.to(self.model.device), samples, (seed, "log_prob"))

    def save(self, path: str | Path, standalone: bool = False, overwrite: bool = False) -> None:
        """Write the difference from the base to a folder; with a copy of the base if standalone.

        >>> mine = metagen.load("omniglot").adapt(torch.rand(5, 1, 28, 28))
        >>> mine.save("mine")
        >>> metagen.load("mine").sample(4).shape
        torch.Size([4, 1, 28, 28])

        The support goes along where the generator looks at it (`uses_support`), and nowhere else.

        Raises:
            MetagenError: the base was never saved, or the folder is taken or cannot be written.
        """
        if self.model.path is None:
            raise MetagenError("save: save the base model first (model.save), so that the adapted one can name it")
        difference = {name: d[0] for name, d in self.adapted.difference.items()}
        support = self.adapted.support[0] if self.adapted.generator.uses_support else None
        model_files.save_adapted(placed(path), difference, support, self.model.path, self.info, standalone, overwrite)

    def _run(self, method: str, steps: int | None = None, **images: torch.Tensor) -> torch.Tensor:
        self._capable(method)
        for each in images.values():
            self.model.check(each, method)
        counts = [len(each) for each in images.values()]
        if len({*counts}) > 1:
            raise MetagenError(f"{method}: expected as many images at both ends, got {' and '.join(map(str, counts))}")
        common, adapted = {} if steps is None else {"steps": steps}, self.adapted
        own = {name: each.to(self.model.device)[None] for name, each in images.items()}
        parts = parts_of(counts[0], max(SAMPLES_AT_ONCE // (steps or 1), 1))
        made = [adapted.each(method, {name: x[:, part] for name, x in own.items()}, **common)[0] for part in parts]
        return torch.cat(made)

    def _capable(self, method: str) -> Any:  # noqa: ANN401
        generator = self.model.learner.generator
        if not hasattr(generator, method):
            able = ", ".join(cls.__name__ for cls in generators.classes if hasattr(cls, method))
            raise MetagenError(f"{type(generator).__name__} cannot {method.replace('_', ' ')}; these can: {able}")
        return generator
