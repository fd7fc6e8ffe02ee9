"""How strong should guidance be after steps on the weights? The Frechet distance of val tasks, by guidance.

    python -m experiments.steps_guidance --root DIR     # DIR holds Omniglot; after experiments.shifts

The bundled model `omniglot` from ten images, as it is and after twenty steps. Writes results/steps/guidance/README.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from experiments.pages import RESULTS, paragraphs, write_page
from experiments.runs import parser, revision
from experiments.steps import Place, places
from metagen.generators import with_sampling
from metagen.learners import adapt_after
from metagen.metrics import frechet_distance
from metagen.metrics.extractors.extractor_files import load_extractor
from metagen.model import load_base
from metagen.report.tables import markdown_table
from metagen.storage.bundled import bundled
from metagen.training.episode_data import EpisodeData

KINDS, SHOTS, STEPS, SAMPLES = ("glyphs", "digits", "typefaces"), 10, (0, 20), 10
GUIDANCE = (0.0, 0.5, 1.0, 2.0)
PREAMBLE = """# Guidance after steps on the weights

Made by `python -m experiments.steps_guidance --root DIR` (revision {revision}). The bundled model `omniglot` from ten
images: Frechet distance through `omniglot-select` between {samples} samples and as many real images of each of {tasks}
val tasks, all together; less is better. In brackets the spread within a task, that of real images being 1. Seed 0.
"""


def spread(features: torch.Tensor) -> torch.Tensor:
    """The mean distance between the images of a task, the mean over tasks of features [T, n, d]."""
    return torch.cdist(features, features).mean()


def lines(place: Place, title: str, tasks: int) -> Iterator[list[str]]:
    """A line for each number of steps, a cell for each guidance."""
    look, learner = load_extractor(bundled("extractors", "omniglot-select"))[0], load_base("omniglot").learner
    episodes = EpisodeData(**place.options(SHOTS)).episodes
    episode = episodes.of("val", episodes.held_out_numbers("val", tasks))
    real = look.of(episode.query[:, :SAMPLES].flatten(0, 1)).unflatten(0, (len(episode.tasks), -1))
    for steps, adapted in adapt_after(learner, episode.support, (0, "val"), episode.numbers, STEPS).items():
        cells = list[str]()
        for guidance in GUIDANCE:
            plain = {name: getattr(learner.generator, name) for name in learner.generator.sampling}
            drawing = adapted.over(with_sampling(learner.generator, {**plain, "guidance": guidance}))
            made = drawing.sample(SAMPLES, (0, "guidance"), episode.numbers)
            features = look.of(made.flatten(0, 1)).unflatten(0, made.shape[:2])
            distance = float(frechet_distance(features.flatten(0, 1), real.flatten(0, 1)))
            cells.append(f"{distance:.1f} ({spread(features) / spread(real):.2f})")
        yield [title, str(steps), *cells]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, write the page."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--shifts", type=Path, default=Path("runs/shifts"), help="what experiments.shifts wrote")
    options.add_argument("--tasks", type=int, default=8, help="val tasks of each kind")
    options.add_argument("--out", type=Path, default=RESULTS / "steps" / "guidance", help="folder of the result")
    given = options.parse_args(argv)
    kinds = places(given.root, given.shifts)
    rows = [line for title in KINDS for line in lines(kinds[title], title, given.tasks)]
    table = markdown_table(["tasks", "N", *(f"guidance {guidance:g}" for guidance in GUIDANCE)], rows)
    about = {"revision": revision(), "samples": SAMPLES, "tasks": given.tasks}
    write_page(given.out, [paragraphs(PREAMBLE.format(**about)), *table])


if __name__ == "__main__":
    main()
