"""Is a meta-learned generator better on new tasks than the same network trained plainly and then fine-tuned?

    python -m experiments.plain_training --root DIR [--inception FILE]     # DIR holds Omniglot; two hours on one core

Both are a token VAE with the tokenizer of the bundled `omniglot` and an untrained prior, and are given as many
meta-steps of as many images. The meta-learned one sees tasks of one character each, and learns to read its support. The
plain one sees mixed tasks: their images are each of another character, so that a support says nothing of a query, and
the network learns the images of all characters together. `metagen evaluate` fine-tunes it on each test task, rate and
number of steps chosen on val tasks, beside the network without any training ("scratch"). Writes
results/plain-training/README.md. With the weights of Inception (see docs/evaluation.md) figures are through that, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from experiments.pages import RESULTS, paragraphs, result_table, row_of, write_page
from experiments.runs import config_of, evaluated, fitted, parser, revision_of, weights
from experiments.shifts import Tasks, write
from metagen.core.seeding import numpy_rng
from metagen.evaluation.baselines import untrained
from metagen.evaluation.criterion import ByLoss
from metagen.learners import Amortised, adapt_after
from metagen.model import Model, load_base
from metagen.report.result import read_result
from metagen.storage.strict_json import to_json
from metagen.tasks.omniglot import Omniglot
from metagen.training.episode_data import EpisodeData

OF_A_TASK, MIXED = 20, {"train": 800, "val": 30, "test": 30}  # images, each of another character; tasks
STILL_READS = 1.0  # nats an image that a support is worth to a model which is not plain yet
FIGURES = ("fd", "is", "recognisability", "diversity_relative", "copy_ratio", "near_copies")
META, PLAIN, SCRATCH = "adapted", "joint + fine-tune", "scratch"
ROWS = {"human": "*real images*", "affine x1": "*affine x1*", META: "meta-learned", PLAIN: "plain", SCRATCH: "scratch"}
PREAMBLE = """# Meta-learned, or trained plainly and fine-tuned

Made by `python -m experiments.plain_training --root DIR` (revision {revision}). {tasks} test characters that neither
model has seen, {shots} images of each, {hardware}, torch {torch}, seed 0; 95 % intervals over tasks. Samples are not
guided. Both models are one network, a token VAE whose tokenizer is that of the bundled `omniglot`, and were trained
alike: {episodes} meta-steps of 16 tasks. *Meta-learned* saw tasks of one character each, and adapts by reading the
support, without a step. *Plain* saw the same characters in mixed tasks, whose support says nothing of the query, and is
then fine-tuned on each test character: all weights by Adam, {steps} steps, chosen on val characters with the rate.
*Scratch* is the network without training, fine-tuned alike. The Frechet distance and the Inception Score are through
{extractors}.

On val characters five images lower the query loss of the meta-learned model by {meta:.1f} nats an image, and that of
the plain one by {plain:.1f}.
"""


def mixed(omniglot: Omniglot) -> Tasks:
    """Tasks of images that are each of another character."""
    for part, count in MIXED.items():
        names, rng = omniglot.split[part], numpy_rng("mixed", part)
        for task in range(count):
            chosen = rng.choice(len(names), OF_A_TASK, replace=len(names) < OF_A_TASK)
            images = [omniglot.originals(names[n])[int(rng.integers(20))] for n in chosen]
            yield part, f"{part}/{task:03}", torch.stack(images).float() / 255


def start(runs: Path) -> Path:
    """The bundled tokenizer with an untrained prior; the folder of the model."""
    folder = runs / "start"
    if not folder.is_dir():
        Model(Amortised(untrained(load_base("omniglot").learner)), {}).save(folder)
    return folder


def trained(name: str, runs: Path, episodes: int, *tasks: object) -> Path:
    """A model trained on tasks, given by words of the command; the folder of its export."""
    begin = start(runs)
    words = ["--config", config_of("omniglot-token-vae"), "--model.initial", begin, *tasks, "--data.episodes", episodes]
    words += ["--trainer.val_check_interval", max(1, episodes // 3), "--choose_sampling", "false"]
    words += ["--model.warmup", max(1, min(100, episodes // 3)), "--ema.decay", 0.99]
    words += ["--model.generator.guidance", 0]  # samples of the model as it is, since neither was tuned
    return fitted(runs / name, *words, "--data.seed", 0, "--seed_everything", 0, of=weights(begin))


def mixed_tasks(root: str, runs: Path) -> list[object]:
    """Words of the mixed tasks, which are written where they are not there."""
    folder = runs / "mixed"
    if not folder.is_dir():
        write(folder, mixed(Omniglot(root)))
    return ["--data.task_set", "folder", "--data.root", folder / "tasks", "--data.split_file", folder / "split.json"]


def gain_of_support(model: Path, root: str, tasks: int) -> float:
    """By how much the query loss of val characters is less with five images than without any, nats an image."""
    episodes = EpisodeData("omniglot", root, shots=5, queries=10).episodes
    numbers = episodes.held_out_numbers("val", tasks)
    episode, learner, found = episodes.of("val", numbers), load_base(str(model)).learner, []
    for support in (episode.support[:, :0], episode.support):
        adapted = adapt_after(learner, support, (0, "val"), numbers, (0,))[0]
        found.append(float(ByLoss()(adapted, episode.query, (0, "val"), numbers).mean()))
    return found[0] - found[1]


def differences(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The rows that are less another."""
    named = {f"{META} - {PLAIN}": "meta-learned - plain", f"{META} - {SCRATCH}": "meta-learned - scratch"}
    return [(named[each["row"]], each) for each in result["differences"] if each["row"] in named]


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write the page."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--runs", type=Path, default=Path("runs/plain-training"))
    options.add_argument("--out", type=Path, default=RESULTS / "plain-training", help="folder of the result")
    options.add_argument("--episodes", type=int, default=1000, help="meta-steps of each model")
    options.add_argument("--only", choices=("meta-learned", "plain"), help="train this one alone, and measure nothing")
    options.add_argument("--shots", type=int, default=5)
    options.add_argument("--limit", type=int, default=100, help="test characters")
    options.add_argument("--inception", type=Path, help="file of Inception's weights")
    given = options.parse_args(argv)
    tasks = {"meta-learned": ["--data.root", given.root], "plain": mixed_tasks(given.root, given.runs)}
    if given.only:
        trained(given.only, given.runs, given.episodes, *tasks[given.only])
        return
    base, export = (trained(name, given.runs, given.episodes, *words) for name, words in tasks.items())
    gains = {"meta": gain_of_support(base, given.root, 30), "plain": gain_of_support(export, given.root, 30)}
    if gains["plain"] > STILL_READS:
        raise SystemExit(f"{export}: a support is still worth {gains['plain']:.1f} nats to it; train it longer")
    words = ["--data.root", given.root, "--data.shots", given.shots, "--data.queries", 14, "--limit", given.limit]
    words += ["--baselines", "true", "--joint", export, "--metrics", to_json(FIGURES), "--curve", "[]", "--batch", 4]
    words += ["--inception", given.inception] if given.inception else []
    result: Mapping[str, Any] = read_result(evaluated(base, given.runs / "evaluation", *words))
    about = {"tasks": result["tasks"], "shots": given.shots, "episodes": given.episodes, **result["environment"]}
    about |= {"revision": revision_of(export), "steps": row_of(result, PLAIN)["steps"]}
    about["extractors"] = " and ".join(f"`{each['name']}`" for each in result["extractors"])
    named = [(title, row_of(result, row)) for row, title in ROWS.items()]
    columns = ("query_loss", *FIGURES)
    lines = [paragraphs(PREAMBLE.format(**about, **gains)), *result_table(named, columns), ""]
    write_page(given.out, [*lines, *result_table(differences(result), columns)])


if __name__ == "__main__":
    main()
