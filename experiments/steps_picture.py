"""Draw what steps on the weights change: docs/steps.png.

    python -m experiments.steps_picture --root DIR     # DIR holds Omniglot; after experiments.shifts

Two test tasks of each kind: images given, others, what the model draws that has seen them, and after twenty steps too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from experiments.runs import parser
from experiments.steps import places
from metagen.generators import with_sampling
from metagen.model import load_base
from metagen.report.tables import picture
from metagen.storage.images import save_png
from metagen.tasks.episodes import Episode
from metagen.training.episode_data import EpisodeData

KINDS = ("omniglot", "glyphs", "digits", "typefaces", "paper")
TASKS, SHOTS, GENERATED, STEPS = 2, 5, 8, 20
GUIDANCE = 0.5  # after steps, see experiments.steps_guidance


def shown(root: str, shifts: Path) -> Episode:
    """The tasks of all kinds, one below the other."""
    parts = list[Episode]()
    for title, place in places(root, shifts).items():
        if title in KINDS:
            episodes = EpisodeData(**{**place.options(SHOTS), "shots": SHOTS}).episodes
            parts.append(episodes.of("test", episodes.held_out_numbers("test", TASKS)))
    support, query = torch.cat([part.support for part in parts]), torch.cat([part.query for part in parts])
    return Episode(0, tuple(name for part in parts for name in part.tasks), tuple(range(len(support))), support, query)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw."""
    options = parser(__doc__, root="the folder that holds Omniglot")
    options.add_argument("--shifts", type=Path, default=Path("runs/shifts"), help="what experiments.shifts wrote")
    options.add_argument("--out", type=Path, default=Path("docs/steps.png"), help="the picture")
    given = options.parse_args(argv)
    base, moving = load_base("omniglot").learner, load_base("omniglot").learner
    moving.test_steps = STEPS
    moving.generator = with_sampling(moving.generator, {"guidance": GUIDANCE})
    named = {"no step": base, f"{STEPS} steps": moving}
    save_png(picture(named, shown(given.root, given.shifts), GENERATED), given.out)
    print(f"wrote {given.out}")


if __name__ == "__main__":
    main()
