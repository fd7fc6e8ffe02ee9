"""The verbs: `metagen fit | adapt | sample | evaluate | train-extractor`."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jsonargparse import ArgumentError, ArgumentParser

from metagen.artifacts import load_extractor, save_extractor
from metagen.errors import MetagenError, unknown
from metagen.files import check_free, fresh_folder, write_atomically
from metagen.images import conversions, grid, save_png, save_pngs
from metagen.model import AdaptedModel, Model, load
from metagen.options import EXAMPLES, explained, spelled_out
from metagen.resources import travelling
from metagen.tasks.splits import Split, read_split

if TYPE_CHECKING:
    from metagen.metrics import Extractor
    from metagen.tasks.data import EpisodeData

T = TypeVar("T")

OVERVIEW = f"""usage: metagen VERB [options]     (metagen VERB --help for each)

  fit              meta-train a model
                   {EXAMPLES["fit"]}
  adapt            become one new thing
                   {EXAMPLES["adapt"]}
  sample           make new images of it
                   {EXAMPLES["sample"]}
  evaluate         measure on held-out tasks
                   {EXAMPLES["evaluate"]}
  train-extractor  train what evaluate looks through
                   {EXAMPLES["train-extractor"]}

with every verb: --dry-run prints the resolved options and stops; --debug shows the traceback of an error"""


def adapt(
    model: str,
    support: str,
    out: str,
    steps: int | None = None,
    seed: int = 0,
    invert: bool = False,
    standalone: bool = False,
    overwrite: bool = False,
) -> None:
    """Adapt a model to a folder of images.

    Args:
        model: an exported model: a folder, or the name of one that travels with metagen.
        support: a folder of images of one new thing.
        out: the folder to write the adapted model to.
        steps: inner steps; the model's own number if not given.
        seed: of the noise in the inner loop.
        invert: exchange black and white in the images first.
        standalone: put a copy of the whole base model inside.
        overwrite: replace what stands at `out`.
    """
    base = _expect(load(model), Model, model, "an adapted model cannot be adapted again; name its base")
    started = time.perf_counter()
    images = base.read(support)
    for told in conversions(Path(support), images.shape[-1], images.shape[1]):
        print(told)
    adapted = base.adapt(1 - images if invert else images, steps, seed)
    seconds = time.perf_counter() - started
    adapted.save(out, standalone, overwrite)
    print(f"adapted to {len(images)} images in {adapted.info['steps']} steps, {seconds:.2f} s; wrote {out}")


def sample(model: str, n: int, out: str, seed: int = 0, overwrite: bool = False) -> None:
    """Sample from an adapted model: PNG files, and all of them in grid.png.

    Args:
        model: an adapted model's folder.
        n: how many images.
        out: the folder to write them to.
        seed: image i of a seed is the same at every n.
        overwrite: replace what stands at `out`.
    """
    adapted = _expect(load(model), AdaptedModel, model, "adapt it first: metagen adapt --model ... --support ...")
    images = adapted.sample(n, seed)
    columns = min(n, max(1, round(n**0.5)))
    blank = -n % columns
    cells = torch.cat([images, torch.ones(blank, *images.shape[1:])]).unflatten(0, (-1, columns))
    with fresh_folder(Path(out), overwrite) as folder:
        save_pngs(images, folder)
        save_png(grid(cells), folder / "grid.png")
    print(f"wrote {n} images and grid.png to {out}")


def evaluate(
    model: str,
    out: str,
    data: dict[str, Any],
    split: str = "test",
    limit: int | None = 100,
    extractor: str | None = None,
    joint: str | None = None,
    curve: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50),
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Measure a model on held-out tasks: result.json, samples.png, curve.png and a table.

    Args:
        model: an exported model: a folder, or the name of one that travels with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        split: "test" or "val".
        limit: take only this many tasks, chosen once and for all; null for all.
        extractor: what the measures look through: a folder, or the name of one that travels with metagen; by default
            the one of the task set ("glyphs-report", "omniglot-report"); "none" to measure the query loss alone.
        joint: a model trained jointly on the same tasks (learner Joint), for the row "joint + fine-tune"; a model that
            was trained without steps is its own.
        curve: the numbers of inner steps at which the adapted loss is measured.
        seed: of the noise.
        overwrite: replace what stands at `out`.
    """
    from metagen.evaluation import check_options, measure  # slow to import, and for this verb alone
    from metagen.pictures import curve_png
    from metagen.tasks.data import EpisodeData
    from metagen.views import picture, table

    check_options(split, limit, curve)
    check_free(Path(out), overwrite)
    base = _judged(model, tasks := EpisodeData(**data), split)
    other = _judged(joint, tasks, split).learner if joint else None
    look, seen = _look_through(extractor, tasks, split)
    result: dict[str, Any] = {"model": {"weights_sha256": base.weights_hash, **base.info}, "extractor": seen}
    result["data"] = tasks.description
    result |= measure(base.learner, tasks.episodes, split, limit, curve, seed, look, other)
    with fresh_folder(Path(out), overwrite) as folder:
        write_atomically(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())
        save_png(picture(base.learner, tasks.episodes.first(split, 12), 10), folder / "samples.png")
        write_atomically(folder / "curve.png", curve_png(result))
    print(table(result))
    print(f"wrote result.json, samples.png and curve.png to {out}")


def _judged(name: str, tasks: EpisodeData, split: str) -> Model:
    """A model that may be judged on these tasks: of their size, and never trained on them."""
    base = _expect(load(name), Model, name, "name its base")
    generator = base.learner.generator
    if (tasks.task_set.size, tasks.task_set.channels) != (generator.size, generator.channels):
        raise MetagenError(
            f"{name}: makes images of {generator.size} px and {generator.channels} channels; "
            "leave out --data.size and --data.channels"
        )
    if base.info.get("data", {}).get("task_set") == tasks.name:
        _refuse_trained_on(name, base.split, tasks, split)
    return base


def _refuse_trained_on(name: str, trained: Split | None, tasks: EpisodeData, split: str) -> None:
    if trained is None:
        raise MetagenError(f"{name}: has no split.json, so nobody knows which tasks it was trained on; export it again")
    used = {*trained.train, *(trained.val if split == "test" else ())}
    seen = sorted(used & set(tasks.task_set.split[split]))
    if seen:
        raise MetagenError(
            f"{name}: was trained or chosen on {len(seen)} of these {split} tasks, {seen[0]!r} first; give the "
            "split.json of its folder as --data.split_file"
        )


def _look_through(name: str | None, tasks: EpisodeData, split: str) -> tuple[Extractor | None, dict[str, Any] | None]:
    """The extractor and what is told of it; by default the reporting one of the task set."""
    if name == "none":
        return None, None
    try:
        path = travelling("extractors", name or f"{tasks.name}-report")
    except MetagenError as error:
        if name:
            raise
        raise MetagenError(
            f"no extractor of {tasks.name} travels with metagen: name one as --extractor (metagen train-extractor "
            "makes one), or --extractor none to measure the query loss alone"
        ) from error
    extractor, info, weights = load_extractor(path)
    if info.get("data", {}).get("task_set") == tasks.name:
        _refuse_trained_on(str(path), read_split(path / "split.json"), tasks, split)
    return extractor, {"name": path.name, "weights_sha256": weights, **info}


def train_extractor(
    out: str,
    data: dict[str, Any],
    steps: int = 3000,
    rate: float = 2e-3,
    widths: tuple[int, ...] = (32, 64, 128),
    dimensions: int = 128,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Train what `evaluate` looks through, on train tasks alone.

    Train two of a domain, with other widths and seeds: one to choose by, the other to report.

    Args:
        out: the folder to write to.
        data: options of the tasks (task_set, root, size, channels, invert, split_file, partition).
        steps: batches of 144 images.
        rate: the learning rate (AdamW).
        widths: channels of each convolution; three or more multiples of 8.
        dimensions: of the features.
        seed: of weights and batches.
        overwrite: replace what stands at `out`.
    """
    from metagen.extractor_training import check_tasks, held_out_accuracy
    from metagen.extractor_training import train_extractor as train
    from metagen.tasks.data import EpisodeData

    tasks = EpisodeData(**data)
    check_free(Path(out), overwrite)  # what can go wrong goes wrong before minutes of training
    check_tasks(tasks.task_set)
    started = time.perf_counter()
    extractor = train(tasks.task_set, steps, rate, widths, dimensions, seed)
    seconds = round(time.perf_counter() - started, 1)
    accuracy = {split: held_out_accuracy(extractor, tasks.task_set, split) for split in ("val", "test")}
    training = {"steps": steps, "rate": rate, "seed": seed, "seconds": seconds, "torch": torch.__version__}
    info = {"data": tasks.description, "training": training, "accuracy": accuracy}
    save_extractor(Path(out), extractor, info, tasks.task_set.split, overwrite)
    for split, found in accuracy.items():
        print(f"{split}: {100 * found['mean']:.1f} % right, {found['ways']}-way 1-shot, {found['tasks']} tasks")
    print(f"wrote {out}; look through it with: metagen evaluate --extractor {out}")


def _expect(thing: Model | AdaptedModel, kind: type[T], name: str, hint: str) -> T:
    if not isinstance(thing, kind):
        raise MetagenError(f"{name}: expected {kind.__name__}, got {type(thing).__name__}; {hint}")
    return thing


def _run(function: Callable[..., None], argv: Sequence[str]) -> None:
    verb = function.__name__.replace("_", "-")
    parser = ArgumentParser(
        prog=f"metagen {verb}", exit_on_error=False, allow_abbrev=False, epilog=f"example: {EXAMPLES[verb]}"
    )
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_function_arguments(function, as_positional=False, skip={"data"})
    if "data" in inspect.signature(function).parameters:
        _add_data_arguments(parser, argv)
    try:
        options = parser.parse_args(list(argv)).as_dict()
    except ArgumentError as error:
        raise explained(error, verb, parser._option_string_actions) from error
    function(**{key: value for key, value in options.items() if key != "config"})


def _add_data_arguments(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """The one set of `--data.*` options; by default those that the named model was trained with."""
    from metagen.tasks.data import EpisodeData

    parser.add_class_arguments(EpisodeData, "data")
    first = argparse.ArgumentParser(exit_on_error=False, add_help=False, allow_abbrev=False)
    first.add_argument("--model", nargs="?")
    name = first.parse_known_args(list(argv))[0].model
    data = load(name).info.get("data") if name else None
    if isinstance(data, dict):
        known = inspect.signature(EpisodeData).parameters
        parser.set_defaults({f"data.{key}": value for key, value in data.items() if key in known})


def fit(argv: Sequence[str]) -> None:
    """Meta-train a model."""
    from metagen.fitting import fit as run  # Lightning takes seconds to import, and other verbs do without

    run(argv)


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "fit": fit,
    "adapt": lambda argv: _run(adapt, argv),
    "sample": lambda argv: _run(sample, argv),
    "evaluate": lambda argv: _run(evaluate, argv),
    "train-extractor": lambda argv: _run(train_extractor, argv),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; 0 if it went well, 2 for a mistake of the user's, told in one line, 130 if interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = spelled_out([word for word in words if word != "--debug"])
    if not words or words[0] in ("-h", "--help"):
        print(OVERVIEW)
        return 0
    try:
        if words[0] not in VERBS:
            raise unknown("verb", words[0], VERBS)
        VERBS[words[0]](words[1:])
    except KeyboardInterrupt as stop:
        print(f"metagen: stopped {stop}".rstrip(), file=sys.stderr)
        return 130
    except (MetagenError, ArgumentError) as error:
        if debug:
            raise
        print(f"metagen: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
