"""Stopping by itself: against closed forms, plain loops, and generators that copy."""

from __future__ import annotations

import pytest
import torch

import metagen
from metagen.cli import main
from metagen.core.energy_distance import blurred, energy_score
from metagen.core.philox import Draws, rows_of
from metagen.errors import MetagenError
from metagen.learners import Amortised, Joint, Reptile, adapt_each, adapt_tasks, auto_steps
from metagen.learners.stopping import CANDIDATES, SAMPLES
from metagen.model import Model
from metagen.storage.images import save_pngs
from tests.doubles import Quadratic, tiny_generator, tiny_vae

RATE = 0.25
KEY = (0, "auto")


class FarAway(Quadratic):
    """Whose samples are never copies."""

    def sample(self, noise, context):
        return super().sample(noise, context) * 0 + 9


def quadratic(generator: type[Quadratic] = FarAway, rate: float = RATE) -> Joint:
    """From 0 in N steps to (1 - (1 - rate)^N) of the mean of the support."""
    base = generator(torch.eye(4, dtype=torch.float64))
    return Joint(base, rate=rate, optimiser="sgd", test_steps=50).requires_grad_(False)


def spread_out(shots: int, tasks: int = 6, seed: int = 0) -> torch.Tensor:
    """Images of 2 x 2 pixels with less in common from task to task: [tasks, shots, 1, 2, 2] in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.linspace(0.05, 1, tasks, dtype=torch.float64)[:, None, None, None, None]
    drawn = torch.rand(tasks, shots, 1, 2, 2, generator=rng, dtype=torch.float64)
    return ((1 - noise) * 0.4 + noise * drawn).clamp(0, 1)


def fitted(support: torch.Tensor, left_out: torch.Tensor, steps: int) -> float:
    """The loss in closed form of images [m, 1, 2, 2] at the weights that N steps on the support lead to."""
    weights = (1 - (1 - RATE) ** steps) * support.mean(0)
    return float(0.5 * (weights - left_out.mean(0)).square().sum())


def test_the_step_that_is_chosen_is_the_best_one_in_closed_form():
    """Left out of two images a, b, each wants the other's share c: the best is c = 2 a.b / (|a|^2 + |b|^2)."""
    angles = torch.tensor([0.0, 0.3, 0.6, 0.9, 1.1, 1.3, torch.pi / 2], dtype=torch.float64)
    blank = torch.zeros_like(angles)
    first = torch.stack([blank + 1, blank, blank, blank], -1)
    second = torch.stack([angles.cos(), angles.sin(), blank, blank], -1)
    support = torch.stack([first, second], 1).unflatten(-1, (1, 2, 2))
    best = angles.cos()  # the share of the way to the mean at which the loss is least
    gaps = [[abs(1 - 0.75**n - float(c)) for n in CANDIDATES] for c in best]
    expected = [CANDIDATES[gap.index(min(gap))] for gap in gaps]
    choice = auto_steps(quadratic(), support, KEY, margin=0.0)
    assert list(choice.steps) == expected
    assert len(set(expected)) > 4
    assert choice.steps[-1] == 0  # nothing in common: what is left out is not served by the other


@pytest.mark.parametrize(("shots", "folds"), [(2, 2), (5, 5), (7, 5), (10, 5)])
def test_losses_are_those_of_a_plain_loop(shots, folds):
    support = spread_out(shots)
    sizes = {2: [1] * 2, 5: [1] * 5, 7: [2, 1, 2, 1, 1], 10: [2] * 5}[shots]
    assert len(sizes) == folds
    choice = auto_steps(quadratic(), support, KEY, margin=0.0)
    for task, images in enumerate(support):
        for place, steps in enumerate(CANDIDATES):
            total, start = 0.0, 0
            for size in sizes:
                inside = range(start, start + size)
                others = torch.stack([image for i, image in enumerate(images) if i not in inside])
                total += size * fitted(others, images[start : start + size], steps)
                start += size
            assert abs(float(choice.losses[task, place]) - total / shots) < 1e-9
    assert choice.steps == tuple(CANDIDATES[place] for place in choice.losses.argmin(-1).tolist())
    assert len(set(choice.steps)) > 1


def test_where_nothing_is_better_the_learners_own_number_stays():
    black = torch.zeros(1, 3, 1, 2, 2, dtype=torch.float64)  # where theta is already
    assert auto_steps(quadratic(), black, KEY, margin=0.0).steps == (50,)


def test_the_learners_own_number_stays_unless_another_is_clearly_better():
    support = spread_out(3, tasks=40)
    found = {margin: auto_steps(quadratic(), support, KEY, margin=margin).steps for margin in (0.0, 1.0, 1e9)}
    stays = {margin: sum(each == 50 for each in steps) for margin, steps in found.items()}
    assert stays[0.0] < stays[1.0] < stays[1e9] == 40
    for images, best, chosen in zip(support, found[0.0], found[1.0], strict=True):  # the gain over folds, by hand
        gains = []
        for out in range(3):
            others = torch.stack([image for i, image in enumerate(images) if i != out])
            own, other = (fitted(others, images[out : out + 1], n) for n in (50, best))
            gains.append(own - other)
        gain = torch.tensor(gains)
        assert chosen == (best if gain.mean() > gain.std() / 3**0.5 else 50)


def test_a_number_of_steps_that_diverges_is_never_taken():
    choice = auto_steps(quadratic(rate=1e40), spread_out(3), KEY)
    assert not choice.losses[:, -1].isfinite().any()
    assert set(choice.steps) == {0}


def test_the_order_of_the_support_changes_nothing():
    support = spread_out(5)
    one, other = (auto_steps(quadratic(), images, KEY) for images in (support, support[:, [3, 1, 4, 0, 2]]))
    assert one.steps == other.steps
    torch.testing.assert_close(one.losses, other.losses)
    torch.testing.assert_close(one.copy_ratios, other.copy_ratios)


def test_a_task_is_chosen_for_alike_alone_and_among_others():
    torch.manual_seed(0)
    learner = Joint(tiny_vae(), rate=0.05).requires_grad_(False)
    support = torch.rand(20, 3, 1, 8, 8)  # in more than one chunk
    among = auto_steps(learner, support, KEY)
    for task in (0, 7, 19):
        alone = auto_steps(learner, support[task : task + 1], KEY, [task])
        assert alone.steps == among.steps[task : task + 1]
        torch.testing.assert_close(alone.losses[0], among.losses[task], rtol=1e-3, atol=1e-3)


def test_one_image_is_judged_by_affine_maps_of_it():
    rng = torch.Generator().manual_seed(1)
    support = torch.rand(2, 1, 1, 2, 2, generator=rng, dtype=torch.float64)
    seen = []

    class Watched(FarAway):
        def query_loss(self, player, query, noise, support):
            seen.append(query)
            return super().query_loss(player, query, noise, support)

    choice = auto_steps(quadratic(Watched), support, KEY)
    again = auto_steps(quadratic(), support, KEY)
    assert choice.steps == again.steps
    torch.testing.assert_close(choice.losses, again.losses)
    assert {tuple(images.shape) for images in seen} == {(1, 1, 2, 2)}
    other = auto_steps(quadratic(), support, (1, "auto"))
    assert not torch.allclose(choice.losses, other.losses)  # the maps are drawn from the key


def constant(*values: float) -> torch.Tensor:
    """One task of even images."""
    return torch.tensor(values, dtype=torch.float64)[None, :, None, None, None].expand(1, len(values), 1, 2, 2)


def test_a_generator_that_copies_is_stopped_before_it_does():
    """Samples are the weights, 0.75^N of the way from the image adapted to; the left-out one is 0.2 away from that."""
    support = constant(0.8, 0.6)
    free, stopped = (auto_steps(quadratic(kind), support, KEY, margin=0.0) for kind in (FarAway, Quadratic))
    torch.testing.assert_close(free.losses, stopped.losses)
    left = 0.75 ** torch.tensor(CANDIDATES, dtype=torch.float64)
    torch.testing.assert_close(stopped.copy_ratios[0], left * 0.7 / 0.2, rtol=0, atol=1e-4)
    assert free.steps == (12,)  # the share nearest to 2 * 0.8 * 0.6 / (0.8^2 + 0.6^2) = 0.96
    assert stopped.steps == (5,)  # at 8 the ratio is 0.35


def test_nothing_is_taken_beyond_the_first_copies():
    class Returning(Quadratic):
        def sample(self, noise, context):
            near = (self.weight.mean() - 0.4).abs() < 0.2  # copies halfway, and is far away later
            return (torch.where(near, 0.8, 9.0) + 0 * self.weight).view(1, 1, 2, 2)

    choice = auto_steps(quadratic(Returning), constant(0.8, 0.8, 0.7), KEY, margin=0.0)
    copies = choice.copy_ratios[0] < 0.5
    assert copies.any()
    assert not copies[-1]
    assert choice.steps == (CANDIDATES[int(copies.double().argmax()) - 1],)


def test_the_same_image_again_and_again_is_no_copy():
    choice = auto_steps(quadratic(Quadratic), constant(0.5, 0.5, 0.5), KEY)
    assert choice.steps == (50,)
    assert (choice.copy_ratios >= 1).all()


# where nothing moves, and where the generator looks at the support


def test_what_is_left_out_is_not_looked_at_either():
    torch.manual_seed(0)
    shapes = []
    generator = tiny_generator("redraw")
    context = generator.context

    def watched(support, mask):
        shapes.append(tuple(support.shape))
        return context(support, mask)

    generator.context = watched
    choice = auto_steps(Amortised(generator).requires_grad_(False), torch.rand(2, 3, 1, 8, 8), KEY)
    assert choice.steps == (0, 0)
    assert choice.candidates == (0,)
    assert choice.losses.shape == (2, 1)
    assert {shape[0] for shape in shapes} == {2}


# adapting


def model() -> Model:
    torch.manual_seed(0)
    return Model(Reptile(tiny_vae(), steps=3, rate=0.05, test_steps=2), {"made": "here"})


def test_each_task_takes_its_own_number_of_steps():
    torch.manual_seed(0)
    learner, support, steps = model().learner, torch.rand(4, 3, 1, 8, 8), (3, 0, 3, 1)
    found = adapt_each(learner, support, KEY, steps)
    for task, own in enumerate(steps):
        alone = adapt_tasks(learner, support[task : task + 1], KEY, [task], own)
        for name, difference in alone.difference.items():
            torch.testing.assert_close(found.difference[name][task], difference[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(found.support, support)


def test_many_tasks_are_the_tasks_one_by_one():
    many = Model(quadratic(), {}).adapt_many(spread_out(3), steps="auto")
    chosen = [many[task].info["steps"] for task in range(len(many))]
    assert len(set(chosen)) > 1
    for task, images in enumerate(spread_out(3)):
        alone = Model(quadratic(), {}).adapt(images, steps="auto")
        assert alone.info["steps"] == chosen[task]
        expected = (1 - 0.75 ** chosen[task]) * images.mean(0).flatten()
        torch.testing.assert_close(many[task].adapted.difference["weight"][0], expected)
        torch.testing.assert_close(alone.adapted.difference["weight"][0], expected)
    assert many[-1].info == many[5].info


def test_what_was_chosen_is_told_and_saved(tmp_path):
    base = model()
    support = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mine = base.adapt(support, steps="auto", seed=4)
    choice = auto_steps(base.learner, support[None], (4, "adapt", "auto"))
    place = CANDIDATES.index(choice.steps[0])
    assert mine.info == {
        "shots": 3,
        "seed": 4,
        "steps": choice.steps[0],
        "steps_chosen": "auto",
        "held_out_loss": float(choice.losses[0, place]),
        "held_out_loss_at_0": float(choice.losses[0, 0]),
        "copy_ratio": float(choice.copy_ratios[0, place]),
    }
    assert torch.equal(mine.sample(2), base.adapt(support, steps=choice.steps[0], seed=4).sample(2))
    base.save(tmp_path / "base")
    mine.save(tmp_path / "mine")
    again = metagen.load(tmp_path / "mine")
    assert again.info == mine.info
    assert torch.equal(again.sample(2), mine.sample(2))


@pytest.mark.parametrize("word", ["atuo", "", "2.5"])
def test_other_words_are_refused(word):
    with pytest.raises(MetagenError, match="steps: expected a whole number or auto, got"):
        model().adapt(torch.rand(2, 1, 8, 8), steps=word)


def test_the_verb_prints_the_choice(tmp_path, capsys):
    base = model()
    base.save(tmp_path / "base")
    images = torch.randint(0, 256, (3, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 255
    save_pngs(images, tmp_path / "support")
    expected = base.adapt(tmp_path / "support", steps="auto")
    words = ["adapt", "--model", str(tmp_path / "base"), "--support", str(tmp_path / "support"), "--steps"]
    assert main([*words, "auto", "--out", str(tmp_path / "mine")]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("chose"))
    info = expected.info
    assert line == (
        f"chose {info['steps']} steps: by left-out images {info['held_out_loss']:.2f} there and "
        f"{info['held_out_loss_at_0']:.2f} at 0 steps, less being better; copy ratio {info['copy_ratio']:.2f}"
    )
    assert torch.equal(metagen.load(tmp_path / "mine").sample(2), expected.sample(2))
    assert main([*words, "atuo", "--out", str(tmp_path / "other")]) == 2
    assert (
        capsys.readouterr().err
        == "metagen: error: --steps: expected one of int, auto, null, got 'atuo'; did you mean auto?\n"
    )
    assert not (tmp_path / "other").exists()


def test_a_game_stops_by_how_its_samples_look_beside_the_images_left_out():
    torch.manual_seed(0)
    learner = Reptile(tiny_generator("r3"), steps=2, rate=0.05, test_steps=2).requires_grad_(False)
    support = torch.rand(2, 3, 1, 8, 8)
    choice = auto_steps(learner, support, KEY, candidates=(0, 2))
    for task in range(2):
        scores = []
        for fold in range(3):  # each image is left out once
            draws = Draws((*KEY, "fold", fold, "sample"), rows_of([task]))
            drawn = {name: x[0] for name, x in learner.generator.noise(SAMPLES, draws).items()}
            made = learner.generator.generate(drawn, support[task])
            scores.append(energy_score(blurred(made), blurred(support[task, fold : fold + 1])))
        assert choice.losses[task, 0].item() == pytest.approx(float(torch.stack(scores).mean()), rel=1e-5)
    assert not torch.allclose(choice.losses[:, 0], choice.losses[:, 1])
