"""The conditional log-likelihood log p(x | support), as Bartunov & Vetrov (2018, arXiv:1612.02192) measure it."""

from __future__ import annotations

import torch

from metagen.errors import MetagenError
from metagen.evaluation.studies.base import StudyContext, figure
from metagen.learners import adapt_tasks
from metagen.learners.importance_sampling import log_likelihood
from metagen.report.result import LogLikelihood, LogLikelihoodRow
from metagen.tasks.episodes import Episode
from metagen.tasks.omniglot import Omniglot, whole_split

SHOTS = (0, 1, 2, 3, 4, 9)
SAMPLES = 1000
TASKS, IMAGES = 100, 2  # of a quick study
PUBLISHED = {0: -90.9, 1: -82.8, 2: -78.8, 3: -76.4, 4: -74.2, 9: -64.6}
SOURCE = (
    "Generative Matching Network, Bartunov & Vetrov 2018 (arXiv:1612.02192), Table 1, trained with C = 1: canonical "
    "test characters, 1000 importance samples; of their own 28 px binary images"
)


def conditional_log_likelihood(context: StudyContext) -> LogLikelihood:
    """Log p(x | k images), nats per image, by importance sampling with S = 1000, for k = 0, 1, 2, 3, 4 and 9.

    Supports are nested, x are the images after the largest support, and the importance noise is the same for every k,
    so that differences between k are of adaptation alone. k = 0 is the unadapted model without support; k stops where
    some task would have fewer than two images left.

    Returns:
        `rows`, one for each k: the figure over tasks (of each, the mean over its images), its `gain` over k = 0, and
        the published value or None; `source` of these.

    Raises:
        MetagenError: the model has no Bernoulli likelihood of its samples, an image is not binary, or a task has fewer
            than three images.
    """
    check(context)
    tasks = context.subset(TASKS)
    fewest = context.least_images(tasks)
    shots = [k for k in SHOTS if k + IMAGES <= fewest]
    images = fewest - shots[-1] if context.full else IMAGES
    episodes = context.recut(shots[-1], images)

    def work(batch: list[int]) -> dict[str, torch.Tensor]:
        episode = context.episode(episodes, batch)
        _check_binary(episode)
        return {str(k): _of_tasks(context, episode, k) for k in shots}

    values = context.sharded.over("log_likelihood", tasks, work)
    published = PUBLISHED if _is_theirs(context) else {}
    rows: list[LogLikelihoodRow] = [
        {
            "shots": k,
            **figure(values[str(k)]),
            "gain": figure(values[str(k)] - values["0"]),
            "published": published.get(k),
        }
        for k in shots
    ]
    return {
        "unit": "nats per image",
        "samples": SAMPLES,
        "images": images,
        "rows": rows,
        "source": SOURCE if published else None,
    }


def _of_tasks(context: StudyContext, episode: Episode, shots: int) -> torch.Tensor:
    """The mean over each task's query, [T], after adaptation to the first images of its support."""
    steps = context.learner.test_steps if shots else 0
    support = episode.support[:, :shots]
    adapted = adapt_tasks(context.learner, support, (context.seed, context.split), episode.numbers, steps)
    keys = [(context.seed, context.split, number, "log_likelihood") for number in episode.numbers]
    each = [
        log_likelihood(adapted[task], query, SAMPLES, key).mean()
        for task, (query, key) in enumerate(zip(episode.query, keys, strict=True))
    ]
    return torch.stack(each)


def check(context: StudyContext) -> None:
    """Refuse before any work what `conditional_log_likelihood` cannot measure; pixels are looked at of one task alone.

    Raises:
        MetagenError: see there.
    """
    tasks = context.subset(TASKS)
    fewest = context.least_images(tasks)
    if fewest < 1 + IMAGES:
        raise MetagenError(f"log_likelihood: expected {1 + IMAGES} images a task or more, got {fewest}; add images")
    _check_binary(context.episode(context.recut(1, IMAGES), tasks[:1]))
    generator = context.learner.generator
    if not generator.likelihood_of_samples:
        raise MetagenError(
            f"log_likelihood: expected a model with a VAE, got {type(generator).__name__}, which has no likelihood of "
            "its samples (redraw's is a surrogate, of its drawings blurred; a token VAE's is of samples with guidance "
            "0, temperature 1 and top_p 1); leave this study out"
        )
    if generator.likelihood != "bernoulli":
        raise MetagenError(
            f"log_likelihood: expected a VAE with a bernoulli likelihood, got {generator.likelihood!r}, whose "
            "densities are no probabilities of binary images; leave this study out"
        )


def _check_binary(episode: Episode) -> None:
    for task, images in zip(episode.tasks, torch.cat([episode.support, episode.query], 1), strict=True):
        if not ((images == 0) | (images == 1)).all():
            raise MetagenError(
                f"log_likelihood: expected pixels of 0 and 1, got grey ones in task {task!r}; binarise the images "
                "(omniglot: --data.binarise true)"
            )


def _is_theirs(context: StudyContext) -> bool:
    """Whether the published values are of these tasks: canonical test characters of Omniglot, binary, at 28 px."""
    given = context.episodes.task_set
    if not isinstance(given, Omniglot) or context.split != "test" or (given.size, given.channels) != (28, 1):
        return False
    return given.binarise and set(given.split.test) <= set(whole_split("canonical").test)
