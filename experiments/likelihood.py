"""How likely are images of a new character, given k of them? Binary Omniglot, beside published values.

    python -m experiments.likelihood --root DIR       # DIR holds Omniglot; two hours on two cores

A token VAE is made of the bundled `omniglot`: its tokenizer is trained on with binary images, then, with that
tokenizer, its prior. A set VAE is trained by configs/omniglot/set-vae-binary.yaml. `metagen evaluate` then takes the
log likelihood of test characters: of the token VAE, whose posterior is a point mass, by the bound, with and without
steps on its biases (their number chosen on val characters at 4 images); of the set VAE by importance sampling. Writes
results/likelihood/README.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from experiments.pages import RESULTS, paragraphs, write_page
from experiments.runs import config_of, evaluated, fitted, parser, revision_of, weights
from experiments.steps import Place, val_losses
from metagen.evaluation.sampling_choice import take_sampling
from metagen.generators import TokenVAE
from metagen.generators.tokens.tokenizer import Tokenizer
from metagen.learners import Amortised, Joint
from metagen.model import Model, load_base
from metagen.report.result import read_result
from metagen.report.tables import markdown_table, with_ends

CHOOSING_SHOTS, CHOOSING_TASKS = 4, 30  # val characters that choose the number of steps
ADAM = {"adapted_params": ("biases",), "rate": 1e-3}
PLAIN = {"guidance": 0.0, "temperature": 1.0, "top_p": 1.0, "contrast": 1.0}
PREAMBLE = """# The likelihood of new images of a character, given k

Made by `python -m experiments.likelihood --root DIR {options}`, DIR holding Omniglot. Nats an image, more is better,
with 95 % intervals over {tasks} test characters, {images} images each: the same for every k and every row of one table.
Binary images of 28 x 28 pixels.

The token VAE has a point mass for its posterior, so what stands here is a lower bound, by as much as other codes would
add; of the set VAE and of the published row it is an estimate by {samples} importance samples. The published row is of
other binary images of the same characters, made smaller otherwise. Seed 0, {hardware}, torch {torch}, revision
{revision}.
"""


def shipped() -> tuple[Model, TokenVAE]:
    """The bundled model, and its generator."""
    model = load_base("omniglot")
    return model, cast(TokenVAE, model.learner.generator)


def tokenizer_start(folder: Path) -> Path:
    """The tokenizer of the bundled model as a model of its own."""
    model, of_tokens = shipped()
    own = of_tokens.tokenizer
    tokenizer = Tokenizer(own.size, own.channels, own.width, own.levels, own.halvings, own.likelihood)
    tokenizer.load_state_dict(own.state_dict())
    learner = Joint(tokenizer, adapted_params=(), test_steps=0)
    Model(learner, model.info, split=model.split, seen=model.seen).save(folder, overwrite=True)
    return folder


def prior_start(tokenizer: Path, folder: Path) -> Path:
    """The bundled model with another tokenizer."""
    model, of_tokens = shipped()
    of_tokens.tokenizer.load_state_dict(load_base(str(tokenizer)).learner.generator.state_dict())
    model.save(folder, overwrite=True)
    return folder


def binary(root: str) -> list[object]:
    """Words of a command: the data."""
    return ["--data.root", root, "--data.binarise", "true", "--data.seed", 0, "--seed_everything", 0]


def token_vae(root: str, runs: Path, tokens: int, prior: int) -> Path:
    """The token VAE of binary images; the folder of its export."""
    start = tokenizer_start(runs / "tokenizer-start")
    words = ["--config", config_of("omniglot-tokenizer"), "--model.initial", start, "--model.rate", 3e-4]
    few = ["--data.episodes", tokens, "--trainer.val_check_interval", max(1, tokens // 3)]
    tokenizer = fitted(runs / "tokenizer", *words, *few, *binary(root), of=weights(start))
    begun = prior_start(tokenizer, runs / "prior-start")
    words = ["--config", config_of("omniglot-token-vae"), "--model.initial", begun, "--model.rate", 5e-4]
    few = ["--data.episodes", prior, "--trainer.val_check_interval", max(1, prior // 3), "--choose_sampling", "false"]
    few += ["--model.warmup", min(100, max(1, prior // 3))]
    return fitted(runs / "prior", *words, *few, *binary(root), of=weights(begun))


def moving(export: Path, folder: Path) -> Path:
    """The same model, which moves its biases by Adam where it is asked to, and samples as its likelihood says."""
    model = load_base(str(export))
    learner = Amortised(model.learner.generator, **ADAM)  # type: ignore[arg-type]
    take_sampling(PLAIN, learner)
    Model(learner, model.info, split=model.split, seen=model.seen).save(folder, overwrite=True)
    return folder


def steps_of(export: Path, root: str) -> int:
    """The number of steps that val characters ask for."""
    characters = Place("", {"task_set": "omniglot", "root": root, "binarise": True}, (CHOOSING_SHOTS,))
    by_steps = val_losses(export, characters, CHOOSING_SHOTS, CHOOSING_TASKS, 10)
    return min((n for n in by_steps if n), key=by_steps.__getitem__)


def measured(export: Path, out: Path, limit: int, root: str, full: bool, steps: int = 0) -> Mapping[str, Any]:
    """The result of the study of a model."""
    words = ["--metrics", '["log_likelihood"]', "--limit", limit, "--full", str(full).lower()]
    words += ["--baselines", "false", "--curve", "[]", "--data.shots", 1, "--data.queries", 10]
    return read_result(evaluated(export, out, *words, *binary(root)[:4], *(["--steps", steps] if steps else [])))


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each model, a column for each k; the gain over k = 0 below it, and the published values last."""
    studies = {name: result["studies"]["log_likelihood"]["rows"] for name, result in rows.items()}
    first = next(iter(studies.values()))
    lines: list[list[object]] = []
    for name, study in studies.items():
        lines.append([name, *(with_ends(each, 1) for each in study)])
        lines.append([f"{name}, over k = 0", "", *(with_ends(each["gain"], 1) for each in study[1:])])
    published = [each["published"] for each in first]
    if any(value is not None for value in published):
        lines.append(["GMN (Bartunov & Vetrov 2018)", *(value or "" for value in published)])
    return markdown_table(["", *(f"k = {each['shots']}" for each in first)], lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Train, measure, write the page."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--runs", type=Path, default=Path("runs/likelihood"))
    options.add_argument("--out", type=Path, default=RESULTS / "likelihood", help="folder of the result")
    options.add_argument("--tokenizer_episodes", type=int, default=500)
    options.add_argument("--prior_episodes", type=int, default=2000)
    options.add_argument("--set_vae_episodes", type=int, default=10000)
    options.add_argument("--limit", type=int, default=473, help="test characters of the token VAE")
    options.add_argument("--set_vae_limit", type=int, default=100, help="test characters of the set VAE")
    given = options.parse_args(argv)
    prior = token_vae(given.root, given.runs, given.tokenizer_episodes, given.prior_episodes)
    model = moving(prior, given.runs / "moving")
    steps = steps_of(model, given.root)
    every = {
        "token VAE": measured(model, given.runs / "all", given.limit, given.root, True),
        f"token VAE, N = {steps}": measured(model, given.runs / "all-steps", given.limit, given.root, True, steps),
    }
    few = ["--data.episodes", given.set_vae_episodes, "--trainer.val_check_interval", given.set_vae_episodes // 5 or 1]
    sets = fitted(given.runs / "set-vae", "--config", config_of("omniglot-set-vae-binary"), *few, *binary(given.root))
    beside = {
        "token VAE": measured(model, given.runs / "few", given.set_vae_limit, given.root, False),
        "set VAE": measured(sets, given.runs / "few-set-vae", given.set_vae_limit, given.root, False),
    }
    first = next(iter(every.values()))
    study, environment = first["studies"]["log_likelihood"], first["environment"]
    about = {"tasks": study["rows"][0]["n"], "images": study["images"], "samples": study["samples"]}
    about |= {"hardware": environment["hardware"], "torch": environment["torch"], "revision": revision_of(prior)}
    trained = ("tokenizer_episodes", "prior_episodes", "set_vae_episodes")
    about["options"] = " ".join(f"--{name} {getattr(given, name)}" for name in trained)
    lines = [paragraphs(PREAMBLE.format(**about)), *table(every), ""]
    few_images = beside["set VAE"]["studies"]["log_likelihood"]["images"]
    lines += [f"Of {given.set_vae_limit} test characters, {few_images} images each:\n", *table(beside)]
    write_page(given.out, lines)


if __name__ == "__main__":
    main()
