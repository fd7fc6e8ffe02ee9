"""Is a meta-learned generator better on new tasks than the same network trained plainly and then fine-tuned?

    python -m experiments.plain_training --root DIR [--inception FILE]     # DIR holds Omniglot; an hour on one core

The meta-learned one is the bundled `omniglot`, which learned to read its support. The plain one is the same network
that is not shown the support: a model of the images of all train characters together. It was trained as that in the
same run, by the tenth of the targets whose support was hidden. Fine-tuning moves all its weights, rate and number of
steps chosen on val tasks, as does that of the network without any training ("scratch"). Writes
results/plain-training/README.md. With the weights of Inception (see docs/evaluation.md) figures are through that, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch

from experiments.pages import RESULTS, paragraphs, result_table, row_of, write_page
from experiments.runs import parser, revision
from metagen.evaluation.criterion import ByLoss
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.evaluator import load_extractors
from metagen.evaluation.scorecard import measure
from metagen.generators import Noise, TokenVAE, generators
from metagen.generators.tokens.token_vae import TokenContext
from metagen.learners import Joint, Learner, adapt_after
from metagen.metrics import metrics, select_figures
from metagen.model import load_base
from metagen.tasks.episodes import Episodes
from metagen.training.episode_data import EpisodeData

FIGURES = ("fd", "is", "recognisability", "diversity_relative", "copy_ratio", "near_copies")
META, PLAIN, SCRATCH = "adapted", "joint + fine-tune", "scratch"
ROWS = {"human": "*real images*", "affine x1": "*affine x1*", META: "meta-learned", PLAIN: "plain", SCRATCH: "scratch"}
PREAMBLE = """# Meta-learned, or trained plainly and fine-tuned

Made by `python -m experiments.plain_training --root DIR` (revision {revision}). {tasks} test characters that no model
has seen, {shots} images of each, {hardware}, torch {torch}, seed 0; 95 % intervals over tasks. *Meta-learned* is the
bundled `omniglot`, without a step. *Plain* is the same network that is not shown the support, as it was for a tenth of
the targets in the same training, fine-tuned on each character: all weights by Adam, {steps} steps, chosen on val
characters with the rate. *Scratch* is the network without training, fine-tuned alike. The Frechet distance and the
Inception Score are through {extractors}.

Without a step the query loss of {val} val characters is {meta:.1f} nats an image of the meta-learned model, and
{plain:.1f} of the plain one.
"""


class Plain(TokenVAE):
    """A token VAE that is not shown its support: a model of images without tasks."""

    uses_support: ClassVar[bool] = False

    def context(self, support: torch.Tensor, mask: torch.Tensor) -> TokenContext:
        """See `TokenVAE`; of no image."""
        return super().context(support[:0], mask[:, :0])

    def query_loss(self, player: str, query: torch.Tensor, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """See `Generator`."""
        return super().query_loss(player, query, noise, support[..., :0, :, :, :])

    def generate(self, noise: Noise, support: torch.Tensor) -> torch.Tensor:
        """See `Generator`."""
        return super().generate(noise, support[..., :0, :, :, :])


def plain(model: TokenVAE) -> Joint:
    """The plain model of the weights of a token VAE, whose steps see the images as they are."""
    options = {name: each for name, each in generators.describe(model).items() if name != "name"}
    generator = Plain(**{**options, "support_augment": 0.0})
    generator.load_state_dict(model.state_dict())
    return Joint(generator).requires_grad_(False).eval()


def val_loss(learner: Learner, episodes: Episodes, tasks: int) -> float:
    """The mean query loss of val characters without a step, nats an image."""
    numbers = episodes.held_out_numbers("val", tasks)
    episode = episodes.of("val", numbers)
    adapted = adapt_after(learner, episode.support, (0, "val"), numbers, (0,))[0]
    return float(ByLoss()(adapted, episode.query, (0, "val"), numbers).mean())


def differences(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The rows that are less another."""
    named = {f"{META} - {PLAIN}": "meta-learned - plain", f"{META} - {SCRATCH}": "meta-learned - scratch"}
    return [(named[each["row"]], each) for each in result["differences"] if each["row"] in named]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the page."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--out", type=Path, default=RESULTS / "plain-training", help="folder of the result")
    options.add_argument("--shots", type=int, default=5)
    options.add_argument("--limit", type=int, default=100, help="test characters")
    options.add_argument("--val", type=int, default=30, help="val characters of the loss without a step")
    options.add_argument("--inception", type=str, help="file of Inception's weights")
    given = options.parse_args(argv)
    learner, data = load_base("omniglot").learner, EpisodeData("omniglot", given.root, shots=given.shots, queries=14)
    joint = plain(cast(TokenVAE, learner.generator))
    losses = {"meta": val_loss(learner, data.episodes, given.val), "plain": val_loss(joint, data.episodes, given.val)}
    how = EvaluationOptions("test", given.limit, curve=(), baselines=True, inception=given.inception)
    loaded = load_extractors(how, data)
    extractors = {name: each.extractor for name, each in loaded.items()}
    figures = select_figures(FIGURES, metrics, extractors)
    result: Mapping[str, Any] = measure(learner, data.episodes, how, extractors, figures, joint).result
    about = {"tasks": result["tasks"], "shots": given.shots, "val": given.val, **result["environment"], **losses}
    about |= {"revision": revision(), "steps": row_of(result, PLAIN)["steps"]}
    about["extractors"] = " and ".join(f"`{name}`" for name in loaded)
    named = [(title, row_of(result, row)) for row, title in ROWS.items()]
    columns = ("query_loss", *FIGURES)
    lines = [paragraphs(PREAMBLE.format(**about)), *result_table(named, columns), ""]
    write_page(given.out, [*lines, *result_table(differences(result), columns)])


if __name__ == "__main__":
    main()
