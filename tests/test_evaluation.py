"""The held-out protocol: intervals, pairing, what is chosen on which split, and that no query leaks."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch

from metagen.core.warps import DRAWS, random_affine
from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation import baselines, scorecard, trial
from metagen.evaluation.baselines import tuned, untrained
from metagen.evaluation.contenders import Contender, contenders, criterion_after
from metagen.evaluation.criterion import ByLoss, BySamples
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.generators import Generator
from metagen.learners import MAML, Amortised, Joint, LowRankMAML, Reptile, RuleEngine, adapt_after, auto_steps
from metagen.metrics import Extractor, metrics
from metagen.report.tables import table
from metagen.tasks.episodes import Episode, Episodes
from tests.doubles import Blobs, tiny_generator, tiny_vae

KEY = (0, "test")


@pytest.fixture(scope="module")
def learner():
    torch.manual_seed(0)
    return Reptile(tiny_vae(size=28), steps=1, rate=0.02, test_steps=2, optimiser="adam").requires_grad_(False)


@pytest.fixture
def small_grid(monkeypatch):
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-2, 1), (3e-2, 2)))


class Recorded(Episodes):
    """Episodes that remember what was asked of them."""

    def __init__(self, task_set) -> None:
        super().__init__(task_set, 2, 3)
        self.asked: list[tuple] = []
        self.given: list[tuple[str, Episode]] = []

    def train(self, *args, **kwargs):
        self.asked.append(("train",))
        return super().train(*args, **kwargs)

    def held_out_numbers(self, split, limit=None):
        self.asked.append((split, limit))
        return super().held_out_numbers(split, limit)

    def of(self, split, numbers):
        episode = super().of(split, numbers)
        self.given.append((split, episode))
        return episode


# measuring


def test_differences_are_paired_and_rows_are_what_they_say(learner, small_grid, monkeypatch):
    """Tasks differ a thousandfold more than the contenders do, so that only pairing can tell these apart."""
    hardness = torch.linspace(100, 2000, 6)
    gains = {0: torch.zeros(6), 1: torch.zeros(6) + 0.5, 2: torch.tensor([1.0, 1.1, 0.9, 1.2, 0.8, 1.0])}

    def loss(criterion, contender, query, key, tasks):
        return hardness - gains[contender.steps] + (7 if contender.sees == "other" else 0)

    monkeypatch.setattr(Contender, "adapted", lambda contender, *_: contender)
    monkeypatch.setattr(trial, "adapt_after", lambda learner, *_, **__: {n: Contender(learner, n) for n in range(3)})
    monkeypatch.setattr(ByLoss, "__call__", loss)
    scratch = Joint(tiny_vae(size=28), test_steps=1)
    monkeypatch.setattr(baselines, "tuned", lambda *_: scratch)
    result = measure(learner, Recorded(Blobs()), EvaluationOptions(limit=None, curve=(0, 1, 2), baselines=True)).result
    rows = {row["row"]: row["figures"]["query_loss"] for row in result["rows"]}
    means = {name: figure["mean"] for name, figure in rows.items()}
    assert list(means) == ["unadapted", "scratch", "another task's support", "adapted"]
    assert [row["steps"] for row in result["rows"]] == [0, 1, 2, 2]
    unpaired = rows["adapted"]["high"] - rows["adapted"]["low"]
    for difference, gain in zip(result["differences"], (1.0, 0.5, 7.0), strict=True):
        name, figure = difference["row"].removeprefix("adapted - "), difference["figures"]["query_loss"]
        assert figure["mean"] == pytest.approx(means["adapted"] - means[name], abs=1e-3)
        assert figure["mean"] == pytest.approx(-gain, abs=1e-3)
        assert figure["high"] < 0
        assert figure["high"] - figure["low"] < unpaired / 1000
    assert [point["steps"] for point in result["curve"]] == [0, 1, 2]
    assert [point["mean"] for point in result["curve"]] == [means["unadapted"], means["scratch"], means["adapted"]]
    json.dumps(result)


@pytest.mark.parametrize("split", ["test", "val"])
def test_what_is_asked_of_the_tasks(learner, small_grid, split):
    """Scratch is tuned on val tasks alone, and no train task is looked at."""
    episodes = Recorded(Blobs())
    result = measure(learner, episodes, EvaluationOptions(split, 4, curve=(0, 2), baselines=True)).result
    assert sorted(episodes.asked) == sorted([(split, 4), ("val", baselines.TUNING_TASKS)])
    scratch = result["fine_tuned"]["scratch"]
    assert scratch["chosen_on"] == "val"
    assert (scratch["rate"], scratch["steps"]) in baselines.SCRATCH_GRID
    assert result["tasks"] == 4
    figures = {row["row"]: row["figures"]["query_loss"] for row in result["rows"]}
    assert {figure["tasks"] for figure in figures.values()} == {4}
    assert result["split_sha256"] == episodes.task_set.split.hash
    points = {point["steps"]: point["mean"] for point in result["curve"]}
    assert points[0] == figures["unadapted"]["mean"]
    assert points[2] == figures["adapted"]["mean"]


def test_fine_tuning_is_the_best_of_its_grid_on_what_it_is_given(learner, monkeypatch):
    episodes = Episodes(Blobs(), 2, 3)
    losses = dict(zip(baselines.SCRATCH_GRID, (3.0, 1.0, 2.0, 1.0), strict=True))
    seen = []

    def fake(scratch, given, key, steps, criterion):
        seen.append((scratch.rate, steps, given.tasks))
        return torch.full((len(given.tasks),), losses[scratch.rate, steps])

    monkeypatch.setattr(baselines, "criterion_after", fake)
    best = tuned("scratch", learner.generator, baselines.SCRATCH_GRID, episodes, ByLoss())
    for rate, steps in baselines.SCRATCH_GRID:
        tasks = [task for r, s, given in seen if (r, s) == (rate, steps) for task in given]
        assert tuple(tasks) == episodes.task_set.split.val
    assert (best.rate, best.test_steps) == baselines.SCRATCH_GRID[1]
    assert best.generator is learner.generator


def test_scratch_has_nothing_that_meta_training_put_into_it(learner):
    state = torch.get_rng_state()
    weights, theirs = untrained(learner).state_dict(), learner.generator.state_dict()
    assert torch.equal(state, torch.get_rng_state())
    assert weights.keys() == theirs.keys()
    assert all(w.shape == theirs[name].shape for name, w in weights.items())
    torch.manual_seed(0)
    fresh = tiny_vae(size=28).state_dict()
    assert all(torch.equal(w, fresh[name]) for name, w in weights.items())


def test_scratch_is_the_plain_generator_whatever_a_learner_adds_to_it(learner):
    found = untrained(LowRankMAML(tiny_vae(size=28), rank=1)).state_dict()
    expected = untrained(learner).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(w, expected[name]) for name, w in found.items())


def _loss(contender: Contender, episode: Episode, others: torch.Tensor) -> torch.Tensor:
    return ByLoss()(contender.adapted(episode, others, KEY), episode.query, KEY, episode.numbers)


def test_the_measured_loss_is_of_the_query_after_adaptation_to_the_support(learner):
    episode = next(Episodes(Blobs(), 2, 3).held_out("test", 16, 4))
    losses = criterion_after(learner, episode, (0, "test"), 2, ByLoss())
    assert losses.shape == (4,)
    other_query = episode._replace(query=episode.query.roll(1, 0))
    other_support = episode._replace(support=episode.support.roll(1, 0))
    for other in (other_query, other_support):
        assert not torch.allclose(losses, criterion_after(learner, other, (0, "test"), 2, ByLoss()), rtol=1e-5)
    unadapted = criterion_after(learner, episode, (0, "test"), 0, ByLoss())
    torch.testing.assert_close(unadapted, criterion_after(learner, other_support, (0, "test"), 0, ByLoss()))
    halves = [
        Episode(0, episode.tasks[s], episode.numbers[s], episode.support[s], episode.query[s])
        for s in (slice(0, 1), slice(1, 4))
    ]
    parts = [criterion_after(learner, half, (0, "test"), 2, ByLoss()) for half in halves]
    torch.testing.assert_close(torch.cat(parts), losses)  # batching changes nothing


def test_no_support_image_is_a_query_image_and_no_test_task_is_a_train_task(learner, small_grid):
    episodes = Recorded(Blobs())
    measure(learner, episodes, EvaluationOptions(limit=None, curve=(0,), baselines=True))
    for split in ("val", "test"):
        looked_at = {task for given, episode in episodes.given if given == split for task in episode.tasks}
        assert looked_at == set(episodes.task_set.split[split])
    for _, episode in episodes.given:
        assert not set(episode.tasks) & set(episodes.task_set.split.train)
        for support, query in zip(episode.support, episode.query, strict=True):
            shown = {tuple(image.flatten().tolist()) for image in support}
            assert len(shown) == 2
            assert not shown & {tuple(image.flatten().tolist()) for image in query}


def test_the_same_seed_gives_the_same_figures(learner, small_grid):
    def figures(seed):
        result = measure(
            learner, Episodes(Blobs(), 2, 3), EvaluationOptions(limit=3, curve=(0, 1), seed=seed, baselines=True)
        ).result
        return [
            [{k: v for k, v in row.items() if k != "seconds"} for row in result[part]] for part in ("rows", "curve")
        ]

    assert figures(0) == figures(0)
    assert figures(0) != figures(1)


@pytest.mark.parametrize(
    ("split", "limit", "curve", "said"),
    [
        ("train", 3, (0,), "split: expected one of val, test, got 'train'"),
        ("tset", 3, (0,), "got 'tset'"),
        ("test", 0, (0,), "limit of 1 or more"),
        ("test", 3, (0, -1), "0 or more steps"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(learner, split, limit, curve, said):
    episodes = Recorded(Blobs())
    with pytest.raises(MetagenError, match=said):
        measure(learner, episodes, EvaluationOptions(split, limit, curve=curve))
    assert not episodes.asked


# the scorecard


class Half(Extractor):
    """Sees images at half their size: pixels as features."""

    size, channels = 28, 1

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


@pytest.fixture(scope="module")
def card(learner):
    """A scorecard with every row, of a model without context, beside a joint one."""
    joint = Joint(tiny_vae(size=28), test_steps=1).requires_grad_(False)
    with pytest.MonkeyPatch.context() as patch:
        for grid in ("SCRATCH_GRID", "JOINT_GRID"):
            patch.setattr(baselines, grid, ((1e-2, 1),))
        return measure(
            learner,
            Episodes(Blobs(tasks=80), 2, 8),
            EvaluationOptions(limit=None, curve=(0,), baselines=True),
            {"half": Half()},
            joint=joint,
        ).result


def test_a_scorecard_has_every_row_and_every_metric(card):
    names = ["human", "copy", "affine x1", "affine x1.5", "reconstruction", "unadapted", "scratch", "joint + fine-tune"]
    names += ["another task's support", "adapted"]
    assert [row["row"] for row in card["rows"]] == names
    usual = {f"{name}[half]" for name, column in metrics.items() if not column.on_request and name != "is"}
    for row in card["rows"]:
        with_loss = {"query_loss"} if row["steps"] is not None else set()
        assert set(row["figures"]) == with_loss | usual
        assert all(f["low"] <= f["mean"] <= f["high"] for f in row["figures"].values())
    assert card["tasks"] == 20
    assert card["real"] == card["made"] == 20 * 4
    expected = [f"adapted - {name}" for name in names if name not in ("human", "adapted")]
    assert [row["row"] for row in card["differences"]] == expected
    json.dumps(card)


def test_the_baselines_score_as_they_must(card):
    figures = {row["row"]: {m.partition("[")[0]: f["mean"] for m, f in row["figures"].items()} for row in card["rows"]}
    assert figures["copy"]["copy_ratio"] == 0
    assert figures["human"]["copy_ratio"] == pytest.approx(1)
    assert figures["human"]["diversity_relative"] == pytest.approx(100)
    assert figures["human"]["fd"] < figures["scratch"]["fd"]
    assert figures["human"]["recognisability"] > 25  # chance is 5
    assert figures["copy"]["diversity"] < figures["affine x1"]["diversity"] < figures["affine x1.5"]["diversity"]
    assert figures["another task's support"]["recognisability"] <= figures["adapted"]["recognisability"]


def test_reconstructions_are_of_the_human_half_by_the_model_as_it_is_adapted(learner, monkeypatch):
    seen: list[torch.Tensor] = []

    def of(self, images):
        seen.append(images)
        return Extractor.of(self, images)

    monkeypatch.setattr(Half, "of", of)
    episodes = Episodes(Blobs(), 2, 8)
    result = measure(learner, episodes, EvaluationOptions(limit=3, curve=(), baselines=False), {"half": Half()})
    episode = episodes.of("test", episodes.held_out_numbers("test", 3))
    adapted, start = (Contender(learner, n).adapted(episode, episode.support, KEY) for n in (2, 0))
    again, by_the_start = (each.each("reconstruct", {"images": episode.query[:, 4:]}) for each in (adapted, start))
    assert torch.equal(seen[-1], again)
    assert not torch.equal(again, by_the_start)
    row = next(row for row in result.result["rows"] if row["row"] == "reconstruction")
    assert (row["steps"], row["diverged"]) == (None, 0)


def test_no_row_of_reconstructions_where_there_is_no_encoder():
    for name in ("redraw", "wgan_gp"):
        model = Amortised(tiny_generator(name, size=28)) if name == "redraw" else MAML(tiny_generator(name, size=28), 1)
        model.requires_grad_(False).eval()
        options = EvaluationOptions(limit=3, curve=(), baselines=False)
        card = measure(model, Episodes(Blobs(), 2, 8), options, {"half": Half()}).result
        assert "reconstruction" not in [row["row"] for row in card["rows"]]


def test_the_human_half_and_the_reference_are_disjoint_and_no_support(learner, small_grid, monkeypatch):
    seen = []

    def of(self, images):
        seen.append(images)
        return Extractor.of(self, images)

    monkeypatch.setattr(Half, "of", of)
    measure(learner, Episodes(Blobs(tasks=80), 2, 8), EvaluationOptions(limit=None, curve=(0,)), {"half": Half()})
    support, reference, human = seen[:3]
    assert (support.shape[1], reference.shape[1], human.shape[1]) == (2, 4, 4)
    for one, other in ((support, reference), (support, human), (reference, human)):
        assert not (one[:, :, None] == other[:, None]).all(-1).all(-1).all(-1).any()


def test_a_model_that_looks_at_its_support_is_also_measured_without_steps_and_without_support():
    looking = MAML(tiny_generator("redraw"), steps=2).eval()
    scratch = {"scratch": Joint(tiny_vae(), test_steps=50)}
    rows = contenders(looking, scratch)
    assert {name: (c.steps, c.sees) for name, c in rows.items()} == {
        "unadapted": (0, "none"),
        "scratch": (50, "own"),
        "another task's support": (2, "other"),
        "context only": (0, "own"),
        "adapted": (2, "own"),
    }
    assert "context only" not in contenders(Amortised(tiny_generator("redraw")), scratch)


def test_a_model_trained_without_steps_is_its_own_joint_baseline(monkeypatch, small_grid):
    monkeypatch.setattr(baselines, "JOINT_GRID", ((1e-4, 1),))
    amortised = Amortised(tiny_generator("redraw", size=28)).requires_grad_(False).eval()
    result = measure(amortised, Episodes(Blobs(), 2, 3), EvaluationOptions(limit=3, curve=(), baselines=True)).result
    assert [row["row"] for row in result["rows"]][2] == "joint + fine-tune"
    assert result["fine_tuned"]["joint + fine-tune"] == {"rate": 1e-4, "steps": 1, "chosen_on": "val"}


def test_baselines_can_be_left_out_and_change_nothing_else(learner, small_grid):
    whole, short = (
        measure(learner, Episodes(Blobs(), 2, 3), EvaluationOptions(limit=3, curve=(0, 2), baselines=which)).result
        for which in (True, False)
    )
    assert {row["row"] for row in whole["rows"]} - {row["row"] for row in short["rows"]} == {"scratch"}
    figures = {row["row"]: row["figures"] for row in whole["rows"]}
    assert all(row["figures"] == figures[row["row"]] for row in short["rows"])
    assert short["fine_tuned"] == {}


def test_a_row_may_choose_its_steps_by_the_support(learner):
    episodes = Episodes(Blobs(), 3, 3)
    result = measure(learner, episodes, EvaluationOptions(limit=None, curve=(), baselines=False, auto=True))
    row = next(row for row in result.result["rows"] if row["row"] == "auto steps")
    assert row["steps"] == "auto"
    episode = episodes.first("test", 6)
    chosen = auto_steps(learner, episode.support, (0, "test", "auto"), episode.numbers).steps
    for task, steps in enumerate(chosen):
        alone = criterion_after(learner, episode, (0, "test"), steps, ByLoss())[task]
        torch.testing.assert_close(result.values["auto steps/query_loss"][task], alone.double(), rtol=1e-4, atol=1e-3)


def test_a_rule_may_be_read_from_another_task():
    torch.manual_seed(0)
    engine = RuleEngine(tiny_vae(size=28), steps=2, rate=1e-2)
    with torch.no_grad():
        for weight in engine.step.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    rows, episode = contenders(engine.requires_grad_(False), {}), Episodes(Blobs(), 2, 3).first("test", 3)
    others = episode.support.roll(1, 0)
    own, other = (_loss(rows[name], episode, others) for name in ("adapted", "another task's rule"))
    assert not torch.allclose(own, other)
    assert torch.equal(own, _loss(rows["another task's rule"], episode, episode.support))
    assert "another task's rule" not in contenders(MAML(tiny_vae()), {})


@pytest.mark.parametrize("batch", [1, 5, 16])
def test_another_support_is_of_another_task_whatever_the_batches(learner, small_grid, monkeypatch, batch):
    shown: dict[str, list[torch.Tensor]] = {"own": [], "other": [], "none": []}

    def adapted(contender, episode, others, key):
        shown[contender.sees] += list(
            {"own": episode.support, "other": others, "none": episode.support[:, :0]}[contender.sees]
        )

    monkeypatch.setattr(Contender, "adapted", adapted)
    monkeypatch.setattr(ByLoss, "__call__", lambda criterion, adapted, query, *_: torch.zeros(len(query)))
    options = EvaluationOptions(limit=None, curve=())
    measure(learner, Episodes(Blobs(), 2, 3), options, sharded=ShardedTasks(batch=batch))
    own = Episodes(Blobs(), 2, 3).first("test", 6).support
    assert torch.equal(torch.stack(shown["other"]), own.roll(1, 0))


def test_a_contender_is_shown_what_it_is_to_see(learner):
    episode = Episodes(Blobs(), 2, 3).first("test", 3)
    others = episode.support.roll(1, 0)
    loss = {sees: _loss(Contender(learner, 2, sees), episode, others) for sees in ("own", "other")}
    exchanged = _loss(Contender(learner, 2), episode._replace(support=others), others)
    torch.testing.assert_close(loss["other"], exchanged)
    assert not torch.allclose(loss["own"], loss["other"])


def test_too_few_queries_or_tasks_are_one_error(learner, small_grid):
    with pytest.raises(MetagenError, match="4 or more images a task"):
        measure(learner, Episodes(Blobs(), 2, 3), EvaluationOptions(limit=None, curve=(0,)), {"half": Half()})
    with pytest.raises(MetagenError, match="3 tasks or more"):
        measure(learner, Episodes(Blobs(), 2, 6), EvaluationOptions(limit=2, curve=(0,)), {"half": Half()})


# three cheats


class Cheat(Generator):
    """Looks at its support and makes what it is told to of it; there is nothing to train."""

    players: ClassVar[tuple[str, ...]] = ("cheat",)
    uses_support: ClassVar[bool] = True
    size, channels = 28, 1

    def __init__(self, trick: str) -> None:
        super().__init__()
        self.trick, self.weight = trick, torch.nn.Parameter(torch.zeros(1))
        self.blob = Blobs().images("blob-0")[:1] / 255

    def noise(self, n, draws):
        return {"uniform": draws.uniform(n, DRAWS)}

    def context(self, support, mask):
        return support

    def loss(self, player, images, noise, context):
        return self.weight.square().sum()

    def sample(self, noise, context):
        draws = noise["uniform"]
        if not len(context) or self.trick == "blind":
            context = self.blob
        sources = context[torch.arange(len(draws)) % len(context)]
        if self.trick == "copy":
            return sources
        return context[:1].expand_as(sources) if self.trick == "single" else random_affine(sources, draws)


@pytest.fixture
def cheating(monkeypatch):
    """The scorecard of a cheat: by row (or the row that the adapted one is compared with), means by column."""
    monkeypatch.setattr(scorecard, "fine_tuned_baselines", lambda *_: {})

    def card(trick):
        cheat = Amortised(Cheat(trick)).requires_grad_(False).eval()
        options = EvaluationOptions(limit=None, curve=())
        result = measure(cheat, Episodes(Blobs(tasks=80), 2, 8), options, {"half": Half()}).result
        rows = result["rows"] + result["differences"]
        return {row["row"]: {name.partition("[")[0]: f for name, f in row["figures"].items()} for row in rows}

    return card


def test_a_model_that_returns_its_support_is_exposed_by_the_copy_ratio(cheating):
    copies, honest = cheating("copy"), cheating("affine")
    assert copies["adapted"]["copy_ratio"]["high"] < 1e-3
    assert honest["adapted"]["copy_ratio"]["low"] > 0.2
    assert (
        copies["adapted"]["recognisability"]["mean"] >= honest["adapted"]["recognisability"]["mean"]
    )  # nothing else does


def test_a_model_that_returns_one_image_is_exposed_by_its_diversity(cheating):
    assert cheating("single")["adapted"]["diversity_relative"]["high"] == 0
    assert cheating("affine")["adapted"]["diversity_relative"]["low"] > 20


def test_a_model_that_ignores_its_support_is_exposed_by_another_tasks_support(cheating):
    row = "adapted - another task's support"
    assert cheating("blind")[row]["recognisability"]["mean"] == 0
    assert cheating("affine")[row]["recognisability"]["low"] > 10


# games


@pytest.fixture(scope="module")
def game():
    torch.manual_seed(0)
    return Reptile(tiny_generator("r3", size=28), steps=1, rate=0.01).requires_grad_(False)


def test_a_game_has_no_query_loss_and_a_curve_of_what_it_is_judged_by(game, small_grid):
    options = EvaluationOptions(limit=None, curve=(0, 1), baselines=True)
    found = measure(game, Episodes(Blobs(tasks=40), 2, 8), options, {"half": Half()}).result
    figures = {row["row"]: row["figures"] for row in found["rows"]}
    assert not [name for row in figures.values() for name in row if name.startswith("query_loss")]
    assert found["criterion"] == "energy[half]"
    assert [row["diverged"] for row in found["rows"] if row["steps"] is not None] == [0] * 4
    assert figures["copy"]["energy[half]"]["mean"] < figures["unadapted"]["energy[half]"]["mean"]
    episode = Episodes(Blobs(tasks=40), 2, 8).first("test", 10)
    expected = criterion_after(game, episode, KEY, 1, BySamples("half", Half().of)).mean()
    assert found["curve"][1]["mean"] == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(MetagenError, match="says nothing of its images"):
        measure(game, Episodes(Blobs(), 2, 8), EvaluationOptions(limit=None, curve=()))


def test_a_task_that_diverges_is_counted_and_shown_grey(game, small_grid, monkeypatch):
    adapted, after = Contender.adapted, adapt_after

    def spoiled(found):
        for difference in found.difference.values():
            difference[1] = torch.nan
        return found

    def broken(contender, *given):
        own = contender.sees == "own" and contender.learner is game
        return spoiled(adapted(contender, *given)) if own else adapted(contender, *given)

    monkeypatch.setattr(Contender, "adapted", broken)
    monkeypatch.setattr(
        trial, "adapt_after", lambda *given, **more: {n: spoiled(a) for n, a in after(*given, **more).items()}
    )
    sharded, extractors = ShardedTasks(batch=10), {"half": Half()}
    options = EvaluationOptions(limit=None, curve=(1,), baselines=True)
    found = measure(game, Episodes(Blobs(tasks=40), 2, 8), options, extractors, sharded=sharded)
    rows = {row["row"]: row["diverged"] for row in found.result["rows"] if row["steps"] is not None}
    assert rows == {"unadapted": 0, "scratch": 0, "another task's support": 0, "adapted": 1}
    assert found.result["curve"][0]["tasks"] == 9
    assert "diverged, so counted as grey: adapted, 1 of 10 tasks" in table({**found.result, "extractors": []})
    assert found.values["adapted/diversity[half]"][1] == 0 < found.values["adapted/diversity[half]"][0]
