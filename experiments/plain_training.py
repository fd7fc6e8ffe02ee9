"""Is a meta-learned generator better on new tasks than the same network trained plainly and then fine-tuned?

    python -m experiments.plain_training --root DIR [--inception FILE]     # DIR holds Omniglot; an hour on one core

The meta-learned one is the bundled `omniglot`, which learned to read its support. The plain one begins from the same
weights, but for its support encoder, which tells it nothing, and is trained on: on mixed tasks, whose images are each
of another character, so that a support says nothing of a query either. It learns the images of all characters together.
`metagen evaluate` fine-tunes it on each test task, rate and number of steps chosen on val tasks, beside the network
without any training ("scratch"). Writes results/plain-training/README.md. With the weights of Inception (see
docs/evaluation.md) figures are through that, too.
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
from metagen.evaluation.criterion import ByLoss
from metagen.learners import adapt_after
from metagen.model import load_base
from metagen.report.result import read_result
from metagen.storage.bundled import bundled
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
model has seen, {shots} images of each, {hardware}, torch {torch}, seed 0; 95 % intervals over tasks. *Meta-learned* is
the bundled `omniglot`, without a step. *Plain* is the same network with a support encoder that tells nothing, trained
on from the same weights with {episodes} steps on mixed tasks, whose support says nothing of the query, then fine-tuned
on each character: all weights by Adam, {steps} steps, chosen on val characters with the rate. *Scratch* is the network
without training, fine-tuned alike. The Frechet distance and the Inception Score are through {extractors}.

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


def silenced(runs: Path) -> Path:
    """The bundled model with a support encoder whose tokens are the same whatever it is shown; its folder."""
    model = load_base("omniglot")
    with torch.no_grad():
        model.learner.generator.get_parameter("prior.encoder.norm.weight").zero_()
    model.save(runs / "silenced", overwrite=True)
    return runs / "silenced"


def plain(root: str, runs: Path, episodes: int) -> Path:
    """The plain model; the folder of its export."""
    begin, folder = silenced(runs), runs / "mixed"
    if not folder.is_dir():
        write(folder, mixed(Omniglot(root)))
    words = ["--config", config_of("omniglot-token-vae"), "--model.initial", begin, "--model.rate", 3e-4]
    words += ["--data.task_set", "folder", "--data.root", folder / "tasks", "--data.split_file", folder / "split.json"]
    words += ["--data.episodes", episodes, "--trainer.val_check_interval", max(1, episodes // 3)]
    words += ["--choose_sampling", "false", "--model.warmup", max(1, min(50, episodes // 3)), "--ema.decay", 0.98]
    words += ["--data.seed", 0, "--seed_everything", 0]
    return fitted(runs / "plain", *words, of=weights(begin))


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
    options.add_argument("--episodes", type=int, default=300, help="meta-steps of the plain model")
    options.add_argument("--shots", type=int, default=5)
    options.add_argument("--limit", type=int, default=100, help="test characters")
    options.add_argument("--inception", type=Path, help="file of Inception's weights")
    given = options.parse_args(argv)
    base, export = bundled("models", "omniglot"), plain(given.root, given.runs, given.episodes)
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
