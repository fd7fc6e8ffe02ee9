"""The verbs: `metagen fit | adapt | sample | tune | evaluate | compare | embed | zoo | train-extractor | models`."""

from __future__ import annotations

import io
import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jsonargparse import ArgumentError

from metagen.adaptation import EmitsRule
from metagen.commands.catalogue import table
from metagen.commands.options import EXAMPLES, spelled_out
from metagen.commands.parsers import run_verb
from metagen.core.quiet import quieten
from metagen.distributed.processes import Processes, tells
from metagen.errors import MetagenError, unknown
from metagen.evaluation.evaluation_options import HeldOutSplit
from metagen.learners.conditioned.meta_generator import RANK
from metagen.metrics.extractors.extractor_files import save_extractor
from metagen.model import Steps, load_adapted, load_base
from metagen.storage.bundled import bundled
from metagen.storage.files import check_free, fresh_folder, placed
from metagen.storage.images import conversions, grid, save_png, save_pngs

if TYPE_CHECKING:
    from metagen.training.episode_data import EpisodeData

ONE = Processes()

OVERVIEW = f"""usage: metagen VERB [options]     (metagen VERB --help for each)

  fit              meta-train a model
                   {EXAMPLES["fit"]}
  adapt            become one new thing
                   {EXAMPLES["adapt"]}
  sample           make new images of it
                   {EXAMPLES["sample"]}
  tune             choose how a model samples, on val tasks
                   {EXAMPLES["tune"]}
  evaluate         measure on held-out tasks
                   {EXAMPLES["evaluate"]}
  compare          a league table of evaluated models
                   {EXAMPLES["compare"]}
  embed            tell tasks from tasks by a few numbers each
                   {EXAMPLES["embed"]}
  zoo              train models of many train tasks, for a learner that writes weights
                   {EXAMPLES["zoo"]}
  train-extractor  train what evaluate looks through
                   {EXAMPLES["train-extractor"]}
  models           list the models bundled with metagen
                   {EXAMPLES["models"]}

with every verb: --dry-run prints the resolved options and stops; --debug shows the traceback of an error"""


def adapt(
    model: str,
    support: str,
    out: str,
    steps: int | str | None = None,
    seed: int = 0,
    invert: bool | Literal["auto"] = "auto",
    standalone: bool = False,
    overwrite: bool = False,
) -> None:
    """Adapt a model to a folder of images; if it writes a rule for them, it is shown, and kept beside the model.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        support: a folder of images of one new thing.
        out: the folder to write the adapted model to.
        steps: inner steps; the model's own number if not given; "auto" to choose it by support images left out.
        seed: of the noise in the inner loop.
        invert: exchange black and white in the images first; "auto" to do so where their ink stands on another ground
            than the model was trained on, which is told.
        standalone: put a copy of the whole base model inside.
        overwrite: replace what stands at `out`.
    """
    base = load_base(model)
    check_free(placed(out), overwrite, [support, base.path])
    started = time.perf_counter()
    images = base.read(support, invert)
    for told in conversions(placed(support), images.shape[-1], images.shape[1]):
        print(told)
    adapted = base.adapt(images, cast(Steps, steps), seed, invert=False)
    seconds = time.perf_counter() - started
    adapted.save(out, standalone, overwrite)
    if steps == "auto":
        print(_chosen(adapted.info))
    if isinstance(base.learner, EmitsRule):
        rule = base.rule(images, invert=False)
        rule.save(placed(out))
        print(rule.table())
    print(f"adapted to {len(images)} images in {adapted.info['steps']} steps, {seconds:.2f} s; wrote {out}")


def _chosen(info: dict[str, Any]) -> str:
    there, before, ratio = info["held_out_loss"], info["held_out_loss_at_0"], info["copy_ratio"]
    return (
        f"chose {info['steps']} steps: by left-out images {there:.2f} there and {before:.2f} at 0 steps, less being "
        f"better; copy ratio {ratio:.2f}"
    )


def sample(model: str, n: int, out: str, seed: int = 0, overwrite: bool = False, **settings: float | None) -> None:
    """Sample from an adapted model: PNG files, and all of them in grid.png.

    Args:
        model: an adapted model's folder.
        n: how many images.
        out: the folder to write them to.
        seed: image i of a seed is the same at every n.
        overwrite: replace what stands at `out`.
        settings: sampling options in place of the model's own, where not None.
    """
    adapted = load_adapted(model)
    check_free(placed(out), overwrite, [bundled("models", model), adapted.model.path])
    changed = {name: value for name, value in settings.items() if value is not None}
    images, own = adapted.sample(n, seed, **changed), adapted.model.sampling
    columns = min(n, max(1, round(n**0.5)))
    blank = -n % columns
    cells = torch.cat([images, torch.ones(blank, *images.shape[1:])]).unflatten(0, (-1, columns))
    with fresh_folder(placed(out), overwrite) as folder:
        save_pngs(images, folder)
        save_png(grid(cells), folder / "grid.png")
    told = [f"{name} {value:g} (its own: {own[name]:g})" for name, value in changed.items() if value != own[name]]
    print(f"wrote {n} images and grid.png to {out}" + "".join(f"; {each}" for each in told))


def tune(
    model: str,
    out: str,
    data: EpisodeData,
    shots: tuple[int, ...] = (1, 5),
    extractor: str | None = None,
    limit: int | None = 100,
    seed: int = 0,
    accelerator: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write a copy of a model whose sampling options are chosen on val tasks, as at the end of fit.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write the copy to.
        data: options of the tasks; those that the model was trained on where not given.
        shots: numbers of support images at which samples are judged; the mean over them counts.
        extractor: what samples are looked at through: a folder, or the name of one bundled with metagen; by
            default the one of the task set to choose by ("glyphs-select", "omniglot-select").
        limit: take only this many val tasks, chosen once and for all; null for all.
        seed: of the noise.
        accelerator: "auto" (a GPU where there is one), "cpu", "gpu" or another that Lightning knows.
        overwrite: replace what stands at `out`.
    """
    from metagen.evaluation.sampling_choice import tune as run  # slow to import, and for this verb alone

    run(model, placed(out), data, shots, extractor, limit, seed, Processes(accelerator=accelerator), overwrite)


def evaluate(
    model: str,
    out: str,
    data: EpisodeData,
    split: HeldOutSplit = "test",
    limit: int | None = 100,
    extractor: str | None = None,
    inception: str | None = None,
    lpips: str | None = None,
    metrics: list[str] | None = None,
    full: bool = False,
    joint: str | None = None,
    baselines: bool = True,
    steps: int | None = None,
    auto: bool = False,
    curve: tuple[int, ...] = (0, 1, 2, 5, 10, 20, 50),
    seed: int = 0,
    batch: int = 8,
    trainer: Processes = ONE,
    overwrite: bool = False,
) -> None:
    """Measure a model on held-out tasks: result.json, values.safetensors, samples.png, curve.png and a table.

    What is measured is kept in OUT.unfinished until the end: the same command goes on where it was stopped.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        split: "test" or "val".
        limit: take only this many tasks, chosen once and for all; null for all.
        extractor: what the measures look through: a folder, or the name of one bundled with metagen; by default
            the one of the task set ("glyphs-report", "omniglot-report"); "none" to measure the query loss alone.
        inception: for FID, Inception Score and KID as they are published: the weights file of torch-fidelity, or
            "download" to fetch it.
        lpips: for the diversity of a task's samples by LPIPS: torchvision's weights file alexnet-owt-7be5be79.pth, or
            "download" to fetch it.
        metrics: names of figures, such as fd or fd[omniglot-report], and of studies (log_likelihood, gain, cost); by
            default every figure that is quickly measured, also beside studies.
        full: let studies take all images, and all tasks within the limit.
        joint: a model trained jointly on the same tasks (learner Joint), for the row "joint + fine-tune"; a model that
            was trained without steps is its own.
        baselines: measure the rows that are fine-tuned, scratch and joint; they are the same for all models over one
            generator, and take most of the time.
        steps: inner steps in which the model adapts, in place of its own number; choose them on val tasks.
        auto: measure a row, too, whose number of steps is chosen for each task by its support.
        curve: the numbers of inner steps at which the adapted loss is measured.
        seed: of the noise.
        batch: tasks at once; figures depend on it by rounding alone.
        trainer: the processes that share the tasks, batch by batch.
        overwrite: replace what stands at `out`.
    """
    from metagen.evaluation.evaluation_options import EvaluationOptions
    from metagen.evaluation.evaluator import evaluate as run  # slow to import, and for this verb alone

    options = EvaluationOptions(
        split, limit, extractor, inception, lpips, metrics, full, joint, baselines, steps, auto, curve, seed, batch
    )
    run(model, placed(out), data, options, trainer, overwrite)


def compare(results: list[str], by: str | None = None, out: str | None = None, overwrite: bool = False) -> None:
    """A league table of evaluated models: their figures, and the differences between them, paired by task.

    The models have to be evaluated alike: on the same tasks and shots, through the same extractors, with one seed.

    Args:
        results: result folders of metagen evaluate, or runs and exported models with one result each.
        by: the figure to order by, such as fd or recognisability[omniglot-report]; the first fd if not given.
        out: a folder to write league.md, league.csv and league.json to.
        overwrite: replace what stands at `out`.
    """
    from metagen.evaluation import league  # slow to import, and for this verb alone

    league.compare(results, by, placed(out) if out else None, overwrite)


def embed(
    model: str,
    out: str,
    ways: list[str],
    data: EpisodeData,
    dims: int = 16,
    params: list[str] | None = None,
    steps: int | None = None,
    split: HeldOutSplit = "test",
    limit: int | None = None,
    fitted_on: int | None = 300,
    extractor: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Embed held-out tasks: embeddings.safetensors, embeddings.json, embedding.png and a table of how well they lie.

    Args:
        model: an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        ways: see --ways.
        data: options of the tasks; those that the model was trained on where not given.
        dims: numbers a task, at most.
        params: the weights by which gradient and fisher are taken, globs or names of parts; by default those that move
            where the model adapts.
        steps: inner steps in which the model adapts, in place of its own number.
        split: "test" or "val".
        limit: take only this many held-out tasks, chosen once and for all; null for all.
        fitted_on: take only this many train tasks to fit the embeddings on; null for all.
        extractor: what the reference looks through: a folder, or the name of one bundled with metagen; by default
            the one of the task set; "none" to leave it out.
        seed: of the noise.
        overwrite: replace what stands at `out`.
    """
    from metagen.embeddings.embedder import EmbeddingOptions  # slow to import, and for this verb alone
    from metagen.embeddings.embedder import embed as run

    options = EmbeddingOptions(dims, params, steps, split, limit, fitted_on, extractor, seed)
    run(model, ways, placed(out), data, options, overwrite)


def zoo(
    model: str,
    out: str,
    data: EpisodeData,
    tasks: int | None = None,
    images: int | None = None,
    rank: int = RANK,
    layers: tuple[str, ...] | None = None,
    steps: int = 60,
    rate: float = 1e-3,
    seed: int = 0,
    chunk: int = 16,
    trainer: Processes = ONE,
    overwrite: bool = False,
) -> None:
    """Train a model of each of many train tasks, all from one start, and keep their low-rank differences from it.

    They are what MetaGenerator learns from: metagen fit --model.zoo. What is trained is kept in OUT.unfinished until
    the end: the same command goes on where it was stopped.

    Args:
        model: the start, an exported model: a folder, or the name of one bundled with metagen.
        out: the folder to write to.
        data: options of the tasks; those that the model was trained on where not given.
        tasks: how many of the train tasks; all if not given.
        images: of each task; as many as each of them has if not given.
        rank: of the change of each weight.
        layers: whose weights change: globs over weight names, or names of the generator's parts; all, of a GAN all of
            its generator, if not given.
        steps: of Adam, each on all images.
        rate: of Adam.
        seed: of the noise, and of which tasks and images are taken.
        chunk: tasks at once.
        trainer: the processes that share the tasks.
        overwrite: replace what stands at `out`.
    """
    from metagen.training.model_zoo import Plan, make_zoo  # slow to import, and for this verb alone

    make_zoo(model, placed(out), data, Plan(tasks, images, rank, layers, steps, rate, seed), trainer, chunk, overwrite)


def train_extractor(
    out: str,
    data: EpisodeData,
    steps: int = 3000,
    rate: float = 2e-3,
    widths: tuple[int, ...] = (32, 64, 128),
    dimensions: int = 128,
    seed: int = 0,
    turned: bool = False,
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
        turned: take each task turned by quarters for three more: for characters, not for faces.
        overwrite: replace what stands at `out`.
    """
    from metagen.training.extractor_training import check_tasks, held_out_accuracy
    from metagen.training.extractor_training import train_extractor as train

    check_free(placed(out), overwrite, data.inputs)  # what can go wrong goes wrong before minutes of training
    check_tasks(data.task_set)
    data.check_apart("val", "test")
    started = time.perf_counter()
    extractor = train(data.task_set, steps, rate, widths, dimensions, seed, turned)
    seconds = round(time.perf_counter() - started, 1)
    accuracy = {split: held_out_accuracy(extractor, data.task_set, split) for split in ("val", "test")}
    training = {
        "steps": steps,
        "rate": rate,
        "seed": seed,
        "turned": turned,
        "seconds": seconds,
        "torch": torch.__version__,
    }
    info = {"data": data.description, "training": training, "accuracy": accuracy}
    save_extractor(placed(out), extractor, info, data.task_set.split, overwrite, data.seen)
    for split, found in accuracy.items():
        print(f"{split}: {100 * found['mean']:.1f} % right, {found['ways']}-way 1-shot, {found['tasks']} tasks")
    print(f"wrote {out}; look through it with: metagen evaluate --extractor {out}")


def models() -> None:
    """List the models bundled with metagen: name, size in pixels, what they were trained on, and how good they are.

    `metagen adapt --model NAME` and `metagen.load("NAME")` take them by name.
    """
    print(table())


def fit(argv: Sequence[str]) -> None:
    """Meta-train a model."""
    from metagen.training.fitting import fit as run  # Lightning takes seconds to import, and other verbs do without

    run(argv)


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "fit": fit,
    "adapt": lambda argv: run_verb(adapt, argv),
    "sample": lambda argv: run_verb(sample, argv),
    "tune": lambda argv: run_verb(tune, argv),
    "evaluate": lambda argv: run_verb(evaluate, argv),
    "compare": lambda argv: run_verb(compare, argv),
    "embed": lambda argv: run_verb(embed, argv),
    "zoo": lambda argv: run_verb(zoo, argv),
    "train-extractor": lambda argv: run_verb(train_extractor, argv),
    "models": lambda argv: run_verb(models, argv),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; 0 if it went well, 2 for a mistake of the user's, told in one line, 130 if interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold what a terminal cannot show
    if logging.lastResort:  # what prints warnings
        logging.lastResort.addFilter(tells)
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    if not words or words[0] in ("-h", "--help"):
        print(OVERVIEW)
        return 0
    try:
        if words[0] not in VERBS:
            raise unknown("verb", words[0], VERBS)
        quieten()
        VERBS[words[0]](spelled_out(words[1:]))
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
