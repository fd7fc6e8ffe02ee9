"""The verbs: `metagen fit | adapt | sample | evaluate`."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentError, ArgumentParser

from metagen.errors import MetagenError, unknown
from metagen.files import fresh_folder, write_atomically
from metagen.images import grid, save_png, save_pngs
from metagen.model import AdaptedModel, Model, load
from metagen.options import EXAMPLES, explained, spelled_out

T = TypeVar("T")

OVERVIEW = f"""usage: metagen VERB [options]     (metagen VERB --help for each)

  fit        meta-train a model:        {EXAMPLES["fit"]}
  adapt      become one new thing:      {EXAMPLES["adapt"]}
  sample     make new images of it:     {EXAMPLES["sample"]}
  evaluate   measure on held-out tasks: {EXAMPLES["evaluate"]}

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
        limit: take only this many tasks, chosen once and for all.
        curve: the numbers of inner steps at which the adapted loss is measured.
        seed: of the noise.
        overwrite: replace what stands at `out`.
    """
    from metagen.evaluation import measure, picture, table  # slow to import, and for this verb alone
    from metagen.pictures import curve_png
    from metagen.tasks.data import EpisodeData

    base = _expect(load(model), Model, model, "name its base")
    tasks = EpisodeData(**data)
    trained_on = base.info.get("split_sha256")
    if data["task_set"] == base.info.get("data", {}).get("task_set") and tasks.task_set.split.hash != trained_on:
        raise MetagenError(
            f"{model}: was trained on another split of {data['task_set']} (hash {str(trained_on)[:12]}), so some "
            "of these tasks may have been trained on; give the split.json of its folder as --data.split_file"
        )
    generator = base.learner.generator
    if (tasks.task_set.size, tasks.task_set.channels) != (generator.size, generator.channels):
        raise MetagenError(
            f"{model}: makes images of {generator.size} px and {generator.channels} channels; "
            "leave out --data.size and --data.channels"
        )
    result: dict[str, Any] = {"model": {"weights_sha256": base.weights_hash, **base.info}}
    result |= measure(base.learner, tasks.episodes, split, limit, curve, seed)
    rows = next(tasks.episodes.held_out(split, 12, 12))
    with fresh_folder(Path(out), overwrite) as folder:
        write_atomically(folder / "result.json", (json.dumps(result, indent=1) + "\n").encode())
        save_png(picture(base.learner, rows, 10), folder / "samples.png")
        write_atomically(folder / "curve.png", curve_png(result))
    print(table(result))
    print(f"wrote result.json, samples.png and curve.png to {out}")


def _expect(thing: Model | AdaptedModel, kind: type[T], name: str, hint: str) -> T:
    if not isinstance(thing, kind):
        raise MetagenError(f"{name}: expected {kind.__name__}, got {type(thing).__name__}; {hint}")
    return thing


def _run(function: Callable[..., None], argv: Sequence[str]) -> None:
    verb = function.__name__
    parser = ArgumentParser(
        prog=f"metagen {verb}", exit_on_error=False, allow_abbrev=False, epilog=f"example: {EXAMPLES[verb]}"
    )
    parser.add_argument("--config", action="config", help="read options from a YAML file")
    parser.add_function_arguments(function, as_positional=False, skip={"data"})
    if verb == "evaluate":
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
