"""The options of a run on a folder of the user's own, chosen from the images that lie in it."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import reduce
from itertools import zip_longest
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
import yaml
from lightning_fabric.utilities.rank_zero import rank_zero_only

from metagen.errors import MetagenError
from metagen.model import load_base
from metagen.storage.bundled import resource
from metagen.storage.files import placed
from metagen.storage.images import image_files, read_files, read_image, to_float
from metagen.tasks.folder import find_tasks
from metagen.tasks.shots import distribution_of
from metagen.tasks.splits import HELD_OUT, read_split
from metagen.tasks.support_images import FAINT, INKS, Ground, ground_of, span
from metagen.tasks.task_data import COLOURED


class Amount(NamedTuple):
    """Numbers of tasks, and of images of each."""

    tasks: int
    images: int


SIZES, LARGEST = (28, 32, 64), 128  # in pixels: that are chosen from, and the largest that there is
INK, SCRATCH = "folder/token-vae", "folder/redraw-maml"  # the configs that are chosen from
INK_SIZE = 28  # in pixels, of the models that the first may begin from
INK_MODELS = ("omniglot", "glyphs")  # bundled: of people's drawings, and of letters from fonts
COMPARED = Amount(tasks=12, images=6)  # through which one of them is chosen, at most
LEAST = Amount(tasks=5, images=3)  # below which nothing is chosen
ENOUGH = Amount(tasks=20, images=8)  # below which a warning says what to expect
READ = 256  # images that are looked at, the first of each task
RARE = 0.1  # share of images with colours that are taken to be strays, and of tasks that may have too few images
SHARE_HELD_OUT = 0.15  # share of tasks that are val tasks, and of those that are test tasks
MOST_HELD_OUT = 60  # of either
MODEL_TYPED = {  # with which nothing is chosen
    *("config", "data", "model"),
    *(f"model.{part}{how}" for part in ("generator", "learner") for how in ("", ".class_path")),
}

Options = dict[str, Any]  # by their dotted names, without the leading dashes


@dataclass(frozen=True)
class FolderSummary:
    """The facts about a folder of tasks from which options are chosen.

    Attributes:
        root: the name of the folder or archive, as typed.
        counts: the number of images of each task.
        sides: the shorter side in pixels of each image that was read.
        coloured: how many of these have colours.
        ground: the ground on which ink stands in the grey ones, "none" for photographs.
    """

    root: str
    counts: Sequence[int]
    sides: Sequence[int]
    coloured: int
    ground: Ground

    @property
    def read(self) -> str:
        """Says how many images were read, such as "all 160 images" or "200 of 900 images"."""
        read, there = len(self.sides), sum(self.counts)
        return f"all {there} images" if read == there else f"{read} of {there} images, which were read,"


@dataclass(frozen=True)
class Choices:
    """A config, options in place of some of its own, and the reasons.

    Attributes:
        config: the name of a bundled config.
        options: by their dotted names; none that the user typed.
        reasons: lines, one a choice.
    """

    config: str
    options: Options
    reasons: Sequence[str]

    @property
    def yaml(self) -> str:
        """The config with the options in place, as YAML."""
        config = config_of(self.config)
        for name, value in self.options.items():
            *groups, last = name.split(".")
            reduce(lambda group, key: group[key], groups, config)[last] = value
        return yaml.safe_dump(config, sort_keys=False)

    def begun_from(self, model: str, reason: str) -> Choices:
        """The same with a bundled model to begin from."""
        return replace(self, options={**self.options, "model.initial": model}, reasons=[*self.reasons, reason])

    @property
    def words(self) -> list[str]:
        """The words that name the config and the options on the command line."""
        values = [word for name, value in self.options.items() for word in (f"--{as_typed(name)}", _one_line(value))]
        return ["--config", f"configs/{self.config}.yaml", *values]


def config_of(name: str) -> dict[str, Any]:
    """The options in a config bundled with metagen."""
    config: dict[str, Any] = yaml.safe_load(resource("configs", f"{name}.yaml").read_text(encoding="utf-8"))
    return config


def as_typed(name: str) -> str:
    """The dotted name of an option in a config as it may be typed."""
    return name.replace(".init_args", "")


def _one_line(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("\n...")


def with_own_choices(argv: Sequence[str]) -> list[str]:
    """Put a config chosen from the images in `--data.root` before the words, where they name no config and no model.

    Prints the choices to stderr, as a dry run prints the options to stdout.

    Args:
        argv: the words after `metagen fit`.

    Raises:
        MetagenError: there is no such folder, one of its images cannot be read, or it holds too little.
    """
    typed = typed_options(argv)
    root, task_set = typed.get("data.root"), typed.get("data.task_set", "folder")
    if not root or task_set != "folder" or MODEL_TYPED & typed.keys() or {"-h", "--help", "-c"} & {*argv}:
        return [*argv]
    skips = typed.get("data.on_bad_image") == "skip"
    choices = choose(summary_of(root, skips), typed)
    if choices.config == INK and "model.initial" not in typed and not skips:
        inverts = typed.get("data.invert") or str(choices.options.get("data.invert", False))
        choices = choices.begun_from(*likeliest_model(root, inverts.lower() == "true"))
    explicit = shlex.join(["metagen", "fit", *choices.words, *(word for word in argv if word != "--print_config")])
    place = typed.get("run_dir") or choices.options["run_dir"]
    lines = [f"  {line}" for line in choices.reasons]
    tell(
        [f"{root}: options chosen from its images", *lines, f"the same, all options in {place}/config.yaml: {explicit}"]
    )
    return ["--config", choices.yaml, *argv]


def typed_options(argv: Sequence[str]) -> dict[str, str]:
    """The options among the words of a command, `--name value` or `--name=value`, without the dashes."""
    options = {}
    for word, after in zip_longest(argv, argv[1:], fillvalue=""):
        name, equals, value = word.partition("=")
        if name.startswith("--"):
            options[name[2:]] = value if equals else after
    return options


@rank_zero_only
def tell(lines: Sequence[str]) -> None:
    """Print lines to stderr, on the first process alone."""
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def summary_of(root: str, skips: bool = False) -> FolderSummary:
    """Look at the first images of each task in a folder or an archive.

    Args:
        root: the folder or archive.
        skips: whether images that cannot be read are passed over.

    Raises:
        MetagenError: there is no such folder, no image in it, one that cannot be read, or most show nothing.
    """
    folders, _ = find_tasks(root)
    files = [image_files(folder) for folder in folders.values()]
    few = max(1, READ // len(files))
    sides: list[int] = []
    images: list[torch.Tensor] = []
    for path in [path for of_task in files[:READ] for path in of_task[:few]]:
        try:
            images.append(read_image(path, SIZES[-1], 3, look=lambda image: sides.append(min(image.size))))
        except MetagenError:
            if not skips:
                raise
    if not images:
        raise MetagenError(f"{root}: none of the images that were tried can be read")
    every = to_float(torch.stack(images))
    if (blank := int((span(every) < FAINT).sum())) > len(every) / 2:
        raise MetagenError(
            f"{root}: {blank} of {len(every)} images show nothing, or nearly so, as they are read; save light ink on "
            "transparency on a dark ground"
        )
    coloured = (every - every[:, :1]).abs().flatten(1).mean(1) > COLOURED
    return FolderSummary(root, [len(each) for each in files], sides, int(coloured.sum()), ground_of(every[~coloured]))


def likeliest_model(root: str, invert: bool) -> tuple[str, str]:
    """The bundled model of ink under which images are likeliest, each given another one of its task, and the reason.

    Args:
        root: the folder or archive of the images.
        invert: whether black and white are exchanged.

    Raises:
        MetagenError: an image cannot be read.
    """
    files = [image_files(folder)[: COMPARED.images] for folder in find_tasks(root)[0].values()]
    tasks = [read_files(each, INK_SIZE, 1) for each in [each for each in files if len(each) > 1][: COMPARED.tasks]]
    ink = [(to_float(255 - each if invert else each) > 0.5).float() for each in tasks]
    nats = {name: _nats(name, ink) for name in INK_MODELS}
    best, other = sorted(nats, key=lambda name: nats[name])
    return best, f"begun from {best}: an image is {nats[other] - nats[best]:.0f} nats likelier there than under {other}"


def _nats(model: str, tasks: Sequence[torch.Tensor]) -> float:
    """Mean nats of a binary image [1, 28, 28] of a task [n, 1, 28, 28], given the first."""
    base = load_base(model)
    return -torch.cat([base.adapt(each[:1], invert=False).log_prob(each[1:]) for each in tasks]).mean().item()


def choose(summary: FolderSummary, typed: Mapping[str, str]) -> Choices:
    """Choose the options of a run that the user did not type.

    Args:
        summary: of the folder.
        typed: the options that the user typed; they win, and the others are chosen to go with them.

    Raises:
        MetagenError: there are too few tasks, or too few images of each.
    """
    size, pixels = _size(summary, typed)
    channels, colours = _channels(summary, typed)
    ink = summary.ground != "none" and channels == 1
    config = INK if ink and size == INK_SIZE else SCRATCH
    counts, numbers = _counts(summary, config_of(config)["data"], typed)
    place = Path(summary.root).name.partition(".")[0] or "own-folder"
    options = {"run_dir": f"runs/{place}", "data.size": size, "data.channels": channels, **counts}
    if ink and summary.ground == "light":
        options["data.invert"] = True
    if config == SCRATCH:
        options["model.generator.init_args.likelihood"] = "bernoulli" if ink else "gaussian"
    options = {name: value for name, value in options.items() if not {name, as_typed(name)} & typed.keys()}
    return Choices(config, options, [pixels, colours, *_model(summary, config, ink, options, typed), *numbers])


def _size(summary: FolderSummary, typed: Mapping[str, str]) -> tuple[int, str]:
    """The size in pixels, and why."""
    if given := _number(typed, "data.size"):
        return given, f"{given} px: as typed"
    low, middle, high = min(summary.sides), median(summary.sides), max(summary.sides)
    size = max(each for each in SIZES if each <= max(middle, SIZES[0]))
    sides = f"{low} px" if low == high else f"{low} to {high} px, half of them {middle:g} or more"
    other = next((each for each in (*SIZES, LARGEST) if size < each and size < middle), None)
    hint = f"; --data.size {other} shows more and takes longer" if other else ""
    return size, f"{size} px: {summary.read} are {sides}{hint}"


def _channels(summary: FolderSummary, typed: Mapping[str, str]) -> tuple[int, str]:
    """The number of channels, and why."""
    if given := _number(typed, "data.channels"):
        return given, f"{given} channel{'s' * (given > 1)}: as typed"
    if not summary.coloured:
        return 1, f"1 channel: {summary.read} are grey"
    of_these = f"{summary.coloured} of {len(summary.sides)} images have colours"
    if summary.coloured <= RARE * len(summary.sides):
        return 1, f"1 channel: {of_these}, which become grey; --data.channels 3 keeps them"
    return 3, f"3 channels: {of_these}"


def _model(summary: FolderSummary, config: str, ink: bool, options: Options, typed: Mapping[str, str]) -> list[str]:
    """The reasons for the likelihood, for the exchange of black and white, and for the config."""
    likelihood = (
        f"bernoulli likelihood: {INKS[summary.ground]}" if ink else "gaussian likelihood: not ink of one colour"
    )
    reasons = [] if "model.generator.likelihood" in typed else [likelihood]
    if "data.invert" in options:
        reasons.append("black and white exchanged, so that ink is light; --data.invert false keeps them")
    initial = typed.get("model.initial", config_of(config)["model"].get("initial"))
    initial = None if initial == "null" else initial
    if config == INK:
        typed_start = "begun at random" if initial is None else f"begun from {initial}"
        start = f"{typed_start}, as typed" if "model.initial" in typed else "begun from a model of ink"
        reasons.append(f"TokenVAE with Amortised, {start}: ink at {INK_SIZE} px")
    else:
        start = f"begun from {initial}: as typed" if initial else "begun at random: no bundled model makes such images"
        hint = f"; --data.size {INK_SIZE} begins from one of ink" if ink and not initial else ""
        reasons.append(f"Redraw with MAML, {start}{hint}")
    return reasons


def _counts(summary: FolderSummary, data: Mapping[str, Any], typed: Mapping[str, str]) -> tuple[Options, list[str]]:
    """The numbers of images and tasks of an episode, and of tasks held out, and why.

    data: the numbers in the config, which are the most that is chosen.
    """
    least = max(LEAST.images, _number(typed, "data.min_images") or 1)
    images = sorted(count for count in summary.counts if count >= least)
    if len(images) < LEAST.tasks:
        raise too_little(summary.root, summary.counts)
    usual = images[int(RARE * len(images))]  # that nearly all tasks have
    shots = _shots(data["shots"], usual // 2, typed)
    several, most = len(distribution_of(shots)) > 1, max(distribution_of(shots))
    queries = _number(typed, "data.queries") or max(1, min(data["queries"], usual - most))
    options: Options = {"data.shots": shots, "data.queries": queries}
    if several:
        options["data.val_shots"] = sorted({1, most})
    reasons = [f"{'1 to ' * several}{most} shots, {queries} queries: nearly all folders have {usual} images or more"]
    tasks, why = _tasks(summary, most + queries, data, typed)
    if len(images) < ENOUGH.tasks or usual < ENOUGH.images:
        why.append(little(len(images), usual))
    return options | tasks, reasons + why


def _tasks(
    summary: FolderSummary, images: int, data: Mapping[str, Any], typed: Mapping[str, str]
) -> tuple[Options, list[str]]:
    """The numbers of tasks of each split and of an episode, which needs so many images of each, and why."""
    there, options = len(summary.counts), Options()
    images = max(images, _number(typed, "data.min_images") or 1)
    tasks = sum(count >= images for count in summary.counts)
    if tasks < LEAST.tasks:
        raise MetagenError(
            f"{summary.root}: shots and queries need {images} images a task, and {tasks} of {there} folders have so "
            "many; lower --data.shots, --data.queries or --data.min_images"
        )
    if tasks < there:
        options["data.min_images"] = images
    held_out = _held_out(tasks, typed)
    train = tasks - sum(held_out.values())
    if path := typed.get("data.split_file"):
        held_out, train = {}, len(read_split(placed(path)).train)
    options |= {f"data.{name}": count for name, count in held_out.items()}
    options["data.tasks"] = max(1, min(data["tasks"], train))
    kept = f"{tasks} of {there} folders have {images} or more images" if tasks < there else f"{there} folders"
    parts = f"{train} train tasks" + "".join(f", {count} {name}" for name, count in held_out.items())
    episodes, drawn = (_number(typed, f"data.{name}") for name in ("episodes", "tasks"))
    count = episodes or data["episodes"]
    length = f"{count} episode{'s' * (count != 1)} of {drawn or options['data.tasks']} train tasks"
    return options, [f"{parts}: {kept}", length]


def _number(typed: Mapping[str, str], name: str) -> int | None:
    """A typed whole number above 0; None where none was typed, or what the parser refuses."""
    return int(typed[name]) or None if typed.get(name, "").isdecimal() else None


def _shots(most: int | dict[int, float], usual: int, typed: Mapping[str, str]) -> int | dict[int, float]:
    """The shots as typed; or those in the config, none above half of the usual number of images."""
    if "data.shots" in typed:
        with suppress(yaml.YAMLError):  # the parser refuses what is no number and no dictionary
            given = yaml.safe_load(typed["data.shots"])
            return given if isinstance(given, int | dict) else most
    if isinstance(most, int):
        return min(most, usual)
    shots: dict[int, float] = {}
    for k, probability in most.items():
        shots[min(k, usual)] = round(shots.get(min(k, usual), 0) + probability, 6)
    return shots


def _held_out(tasks: int, typed: Mapping[str, str]) -> dict[str, int]:
    """The number of val and of test tasks: as typed, a number or a share, or else a share of all tasks."""
    usual = min(MOST_HELD_OUT, max(1, round(SHARE_HELD_OUT * tasks)))
    counts = {}
    for name in HELD_OUT:
        given = typed.get(f"data.{name}", "")
        share = float(given) if re.fullmatch(r"0?\.\d+", given) else 0
        counts[name] = max(1, round(share * tasks)) if share else _number(typed, f"data.{name}") or usual
    return counts


def too_little(root: str, counts: Sequence[int]) -> MetagenError:
    """The error for a folder with too few tasks or images to choose options for."""
    enough = f"{LEAST.tasks} folders, one a person or thing, of {LEAST.images} images each"
    if len(counts) == 1:
        there = f"all {counts[0]} images lie in one folder; give each person or thing a folder of its own"
    else:
        full = sum(count >= LEAST.images for count in counts)
        there = f"{len(counts)} folders with images, {full} of them with {LEAST.images} or more; add some"
    return MetagenError(
        f"{root}: {there}; the least is {enough}, and {ENOUGH.tasks} folders of {ENOUGH.images} are a fair start"
    )


def little(tasks: int, images: int) -> str:
    """A line that says what to expect of few tasks, or of few images of each."""
    return (
        f"warning: {tasks} folders of {images} images are few: expect new images that stay near to those given, and a "
        f"best model chosen by few; {ENOUGH.tasks} folders of {ENOUGH.images} are a fair start"
    )
