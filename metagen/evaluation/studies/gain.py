"""The downstream gain: what a small classifier of new classes wins by generated images (Antoniou 2017, DAGAN)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from scipy import special

from metagen.core import warps
from metagen.core.seeding import numpy_rng, seeded, torch_rng
from metagen.errors import MetagenError
from metagen.evaluation.studies.base import StudyContext
from metagen.learners import adapt_tasks
from metagen.metrics.extractors import Embedding
from metagen.report.result import Gain, StudyEstimate
from metagen.storage.images import to_float, to_uint8
from metagen.tasks.episodes import Episode, Episodes

WAYS = 20
GENERATED = 20  # images a class
CLASS_DRAWS, ALL_CLASS_DRAWS = 5, 20  # of a quick and of a full study
STEPS, BATCH, RATE = 300, 32, 3e-3  # on Omniglot three times the steps change no arm by more than 1 %
WIDTHS, DIMENSIONS = (16, 32, 64), 64
ARMS = {  # whether reals go through random affine maps, and whether half of each batch is generated
    "real": (False, False),
    "real + affine": (True, False),
    "real + generated": (False, True),
    "real + affine + generated": (True, True),
}
DIFFERENCES = (
    ("real + generated", "real"),
    ("real + generated", "real + affine"),
    ("real + affine + generated", "real + affine"),
)


def downstream_gain(context: StudyContext) -> Gain:
    """The accuracy of a small classifier of new classes, trained on k images a class, with and without generated ones.

    Each class draw takes up to 20 held-out tasks as classes, adapts the model to k images of each, generates 20 more a
    class, and trains the same network (Embedding, from the same weights, for as many steps of as many images, the same
    classes in the same order) from scratch once for each arm: on the real images alone; on random affine maps of them
    (`warps.random_affine` at strength 1); and on either with half of every batch generated. Judged by the query images.

    Returns:
        `accuracy` of each arm, and paired `differences`, in per cent of the query images, with 95 % t-intervals over
        class draws (which may share classes); `ways`, and whether the number of tasks limits them.

    Raises:
        MetagenError: fewer than two tasks.
    """
    check(context)
    draws, episodes = list(range(ALL_CLASS_DRAWS if context.full else CLASS_DRAWS)), _episodes(context)
    accuracies = context.sharded.over("gain", draws, lambda batch: _accuracies(context, episodes, batch[0]), batch=1)
    return {
        "unit": "per cent of query images",
        "ways": min(WAYS, len(context.tasks)),
        "limited_by_tasks": len(context.tasks) < WAYS,
        "shots": episodes.shots,
        "generated": GENERATED,
        "queries": episodes.queries,
        "steps": STEPS,
        "accuracy": {arm: _figure(accuracies[arm]) for arm in ARMS},
        "differences": {
            f"({one}) - ({other})": _figure(accuracies[one] - accuracies[other]) for one, other in DIFFERENCES
        },
    }


def check(context: StudyContext) -> None:
    """Refuse before any work what `downstream_gain` cannot measure.

    Raises:
        MetagenError: see there.
    """
    if len(context.tasks) < 2:
        raise MetagenError(f"gain: expected 2 tasks or more to tell apart, got {len(context.tasks)}; raise --limit")


def _episodes(context: StudyContext) -> Episodes:
    """Those that were given, or with all images that are not shots as queries."""
    shots = context.episodes.shots
    return context.recut(shots, context.least_images(context.tasks) - shots) if context.full else context.episodes


def _accuracies(context: StudyContext, episodes: Episodes, draw: int) -> dict[str, torch.Tensor]:
    """The accuracy of each arm on one draw of classes, [1], in per cent."""
    key = (context.seed, context.split, "gain", draw)
    classes = numpy_rng(*key).permutation(len(context.tasks))[:WAYS]
    episode = context.episode(episodes, [context.tasks[place] for place in classes])
    made = _generated(context, episode, (*key, "sample"))
    accuracies = {}
    for arm, (affine, generated) in ARMS.items():
        network = _classifier(episode.query, torch_rng(*key, "init").initial_seed())
        _train(network, _batches(episode.support, made if generated else None, affine, key))
        accuracies[arm] = _accuracy(network, episode.query)
    return accuracies


def _generated(context: StudyContext, episode: Episode, key: tuple[int | str, ...]) -> torch.Tensor:
    """Images [T, 20, C, H, W] from the model adapted to each support, in 8 bits as real ones are."""
    adapted = adapt_tasks(context.learner, episode.support, (context.seed, context.split), episode.numbers)
    made = adapted.sample(GENERATED, key, episode.numbers)
    return to_float(to_uint8(made))


def _classifier(query: torch.Tensor, seed: int) -> Embedding:
    ways, _, channels, size, _ = query.shape
    with seeded(seed):
        return Embedding(size, channels, WIDTHS, DIMENSIONS, ways).to(query)


def _batches(
    real: torch.Tensor, made: torch.Tensor | None, affine: bool, key: tuple[int | str, ...]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images [n, C, H, W] and classes [n], the same classes in every arm; the second half from `made`, if any."""
    for step in range(STEPS):
        rng = torch_rng(*key, "batch", step)
        classes, places = torch.randint(len(real), (BATCH,), generator=rng), torch.rand(BATCH, generator=rng)
        images = real[classes, (places * real.shape[1]).long()]
        if affine:
            moved = warps.random_affine(images, torch.rand(BATCH, warps.DRAWS, generator=rng).to(real))
            images = to_float(to_uint8(moved))
        if made is not None:
            half = slice(BATCH // 2, None)
            images[half] = made[classes[half], (places[half] * made.shape[1]).long()]
        yield images, classes.to(real.device)


def _train(network: Embedding, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """AdamW on the cross entropy; the rate falls linearly to 0."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / STEPS)
    for images, classes in batches:
        optimiser.zero_grad()
        F.cross_entropy(network.head(network.features(images)), classes).backward()
        optimiser.step()
        schedule.step()


def _accuracy(network: Embedding, query: torch.Tensor) -> torch.Tensor:
    """The share of the query [T, q, C, H, W] that is classified rightly, [1], in per cent."""
    classes = network.probabilities(network.of(query)).argmax(-1)
    right = classes == torch.arange(len(query), device=query.device)[:, None]
    return 100 * right.double().mean()[None]


def _figure(values: torch.Tensor) -> StudyEstimate:
    """The mean over class draws and its 95 % t-interval: for so few a bootstrap is too narrow."""
    n, mean = len(values), float(values.mean())
    reach = float(special.stdtrit(n - 1, 0.975) * values.std() / n**0.5)
    return {"n": n, "mean": mean, "low": mean - reach, "high": mean + reach}
