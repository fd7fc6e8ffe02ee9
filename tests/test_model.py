"""The Python face: load, adapt, sample, and what else an adapted model can do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import metagen
from metagen.errors import MetagenError
from metagen.generators import Redraw, with_sampling
from metagen.learners import MAML, Adapted, Amortised, Joint, Reptile
from metagen.model import Model
from metagen.storage import bundled
from metagen.storage.images import read_folder, save_pngs
from tests.doubles import TINY, Quadratic, tiny_generator, tiny_vae


def make_model(**options) -> Model:
    torch.manual_seed(0)
    return Model(Reptile(tiny_vae(**options), steps=3, rate=0.05, test_steps=2), {"made": "here"})


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def adapted(model):
    return model.adapt(images(3, 1))


def images(n: int, seed: int, channels: int = 1) -> torch.Tensor:
    """Images that bytes hold exactly."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, channels, 8, 8), generator=rng) / 255


def binary(n: int, seed: int = 0) -> torch.Tensor:
    return (images(n, seed) > 0.5).float()


# adapting


def test_a_tensor_pil_images_and_a_folder_come_to_the_same(model, tmp_path):
    support = images(3, 1)
    pictures = [Image.fromarray((255 * x[0]).round().byte().numpy()) for x in support]
    save_pngs(support, tmp_path)
    assert torch.equal(read_folder(tmp_path, 8, 1) / 255, support)
    results = [model.adapt(given).sample(4) for given in (support, pictures, tuple(pictures), tmp_path, str(tmp_path))]
    assert results[0].shape == (4, 1, 8, 8)
    assert results[0].min() >= 0
    assert results[0].max() <= 1
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert torch.equal(model.adapt(pictures[0]).sample(4), model.adapt(support[:1]).sample(4))
    assert not torch.equal(results[0], model.adapt(images(3, 2)).sample(4))


def test_pictures_of_any_size_and_mode_are_taken(model):
    picture = Image.fromarray(np.full((30, 50, 3), 255, np.uint8))
    assert torch.equal(model.read(picture), torch.ones(1, 1, 8, 8))


def test_colour():
    colourful = make_model(channels=3, likelihood="gaussian")
    assert colourful.adapt(images(2, 1, channels=3)).sample(2).shape == (2, 3, 8, 8)


def test_many_tasks_at_once_are_the_tasks_one_by_one(model):
    supports = torch.stack([images(3, seed) for seed in range(3)])
    many = model.adapt_many(supports, seed=5)
    assert len(many) == 3
    drawn = many.sample(2, seed=6)
    assert drawn.shape == (3, 2, 1, 8, 8)
    first = model.adapt(supports[0], seed=5)
    alone = model.adapt_many(supports[:1], seed=5)[0]
    assert all(torch.equal(d, alone.adapted.difference[name]) for name, d in first.adapted.difference.items())
    assert torch.equal(first.sample(2, seed=6), alone.sample(2, seed=6))
    torch.testing.assert_close(first.sample(2, seed=6), drawn[0])  # batched kernels may round otherwise
    torch.testing.assert_close(many[1].sample(2, seed=6), drawn[1])
    torch.testing.assert_close(many[-1].sample(2, seed=6), drawn[2])
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-4)
    assert [len(list(one.adapted.difference)) for one in many] == [len(model.learner.adapted_names)] * 3
    with pytest.raises(IndexError):
        many[3]


def test_steps_and_seed_of_the_adaptation_count(model):
    support = images(3, 1)
    by_default = model.adapt(support)
    assert by_default.info == {"shots": 3, "steps": 2, "seed": 0}
    assert torch.equal(by_default.sample(2), model.adapt(support, steps=2).sample(2))
    others = [model.adapt(support, steps=0), model.adapt(support, steps=7), model.adapt(support, seed=1)]
    assert all(not torch.equal(by_default.sample(2), other.sample(2)) for other in others)
    assert not any(d.any() for d in others[0].adapted.difference.values())
    assert others[1].info["steps"] == 7


def test_adapting_leaves_the_model_as_it_was(model):
    before = {name: w.clone() for name, w in model.learner.state_dict().items()}
    model.adapt(images(3, 1), steps=5).sample(2)
    assert all(torch.equal(w, before[name]) for name, w in model.learner.state_dict().items())


def test_more_steps_fit_the_support_better(model):
    support = binary(4)
    losses = [((model.adapt(support, steps=n).reconstruct(support) - support) ** 2).mean() for n in (0, 30)]
    assert losses[1] < losses[0]


# sampling


def test_an_image_of_a_seed_is_the_same_at_every_n(adapted):
    many = adapted.sample(64, seed=3)
    torch.testing.assert_close(adapted.sample(8, seed=3), many[:8], rtol=0, atol=1e-6)
    assert not torch.allclose(adapted.sample(8, seed=4), many[:8], atol=1e-4)
    assert len({tuple(image.flatten().tolist()) for image in many}) == 64


@pytest.mark.parametrize("kind", ["redraw", "set_vae"])
def test_sampling_options_may_be_changed_and_leave_the_model_as_it_is(kind):
    """As if the model had been built with them."""
    torch.manual_seed(0)
    generator = tiny_generator(kind)
    model = Model(Amortised(generator), {})
    adapted = model.adapt(images(3, 1))
    own = adapted.sample(4, seed=2)
    assert model.sampling == {"temperature": 1.0}
    cold = adapted.sample(4, seed=2, temperature=0.25)
    many = model.adapt_many(images(3, 1)[None]).sample(4, seed=2, temperature=0.25)
    assert torch.equal(cold, many[0])
    assert not torch.allclose(cold, own)
    assert model.sampling == {"temperature": 1.0}
    assert torch.equal(adapted.sample(4, seed=2, temperature=1), own)
    built = tiny_generator(kind, temperature=0.25)
    built.load_state_dict(generator.state_dict())
    assert torch.equal(cold, Model(Amortised(built), {}).adapt(images(3, 1)).sample(4, seed=2))
    changed = with_sampling(generator, {"temperature": 0.5})
    assert [vars(each)["temperature"] for each in (changed, generator)] == [0.5, 1.0]
    assert all(a is b for a, b in zip(changed.parameters(), generator.parameters(), strict=True))


class Meeting(Redraw):
    """Samples only when two threads are at it, both with their weights in place."""

    barrier: ClassVar[Barrier] = Barrier(2, timeout=30)

    def sample(self, noise, context):
        self.barrier.wait()
        return super().sample(noise, context)


def test_threads_sample_from_one_model_each_with_its_own_options():
    redraw = tiny_generator("redraw")
    meeting = Meeting(**TINY["redraw"])
    meeting.load_state_dict(redraw.state_dict())
    alone, shared = (Model(MAML(each, steps=1, rate=0.5), {}) for each in (redraw, meeting))
    jobs = [(images(3, seed), {"temperature": value}) for seed, value in ((1, 1.0), (2, 0.25))]
    expected = [alone.adapt(support).sample(2, **settings) for support, settings in jobs]
    adapted = [shared.adapt(support) for support, _ in jobs]
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(lambda job: adapted[job].sample(2, **jobs[job][1]), range(2)))
    assert all(map(torch.equal, made, expected))


def test_sampling_options_that_a_model_has_not_or_that_are_out_of_range_are_refused(adapted):
    mine = Model(Amortised(tiny_generator("redraw")), {}).adapt(images(3, 1))
    for value in (-0.1, float("nan"), float("inf"), "warm"):
        with pytest.raises(MetagenError, match=f"temperature: expected .* got {value}"):
            mine.sample(1, temperature=value)
    with pytest.raises(MetagenError, match=r"^Redraw has no sampling option guidance; it has temperature$"):
        mine.sample(1, temperature=0.5, guidance=1.5)
    with pytest.raises(MetagenError, match=r"^VAE has no sampling option temperature; it has none$"):
        adapted.sample(1, temperature=0.5)
    assert adapted.model.sampling == {}


@pytest.mark.parametrize("n", [0, -1])
def test_sampling_less_than_one_is_refused(adapted, n):
    with pytest.raises(MetagenError, match=f"n: expected 1 or more, got {n}"):
        adapted.sample(n)


# looking


def test_the_ends_of_an_interpolation_are_the_reconstructions(adapted):
    first, last = images(2, 7), images(2, 8)
    path = adapted.interpolate(first, last, steps=5)
    assert path.shape == (2, 5, 1, 8, 8)
    torch.testing.assert_close(path[:, 0], adapted.reconstruct(first))
    torch.testing.assert_close(path[:, -1], adapted.reconstruct(last))
    assert not torch.allclose(path[:, 0], path[:, -1], atol=1e-5)
    assert adapted.interpolate(first, last).shape[1] == 8


@pytest.mark.parametrize(("steps", "count"), [(1, 2), (5, 1)])
def test_an_interpolation_without_two_ends_is_refused(adapted, steps, count):
    with pytest.raises(MetagenError, match=r"2 or more|as many images"):
        adapted.interpolate(images(2, 7), images(count, 8), steps=steps)


def test_log_prob_is_the_same_in_one_piece_and_in_chunks(adapted, monkeypatch):
    pictures, seen = binary(3), []
    each = Adapted.each

    def recorded(self, method, per_task, **common):
        seen.append(each(self, method, per_task, **common)[0])
        return seen[-1][None]

    monkeypatch.setattr(Adapted, "each", recorded)
    result = adapted.log_prob(pictures, samples=120)
    assert [len(weights) for weights in seen] == [50, 50, 20]
    assert not torch.equal(seen[0], seen[1])
    expected = torch.cat(seen).double().exp().mean(0).log()
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(result, adapted.log_prob(pictures, samples=120))
    assert not torch.equal(result, adapted.log_prob(pictures, samples=120, seed=1))


def test_more_samples_tighten_log_prob_and_it_exceeds_the_bound(adapted):
    pictures = binary(8)
    many = adapted.log_prob(pictures, samples=400)
    one = torch.stack([adapted.log_prob(pictures, samples=1, seed=seed) for seed in range(20)])
    assert many.shape == (8,)
    assert many.isfinite().all()
    assert (many < 0).all()
    assert many.mean() > one.mean()


def test_log_prob_of_fair_coins_is_known():
    blind = make_model()
    for name, weight in blind.learner.generator.named_parameters():
        if name.startswith(("decoder", "encoder.head")):
            weight.zero_()  # every pixel a fair coin, the posterior the prior
    fair = blind.adapt(binary(1), steps=0)
    value = fair.log_prob(binary(2), samples=60)
    torch.testing.assert_close(value, torch.full((2,), -64 * float(np.log(2))), rtol=1e-4, atol=1e-3)


def test_log_prob_refuses_what_has_none(adapted):
    with pytest.raises(MetagenError, match="grey pixels"):
        adapted.log_prob(images(2, 1))
    with pytest.raises(MetagenError, match="samples: expected 1 or more, got 0"):
        adapted.log_prob(binary(2), samples=0)
    assert make_model(likelihood="gaussian").adapt(images(2, 1)).log_prob(images(2, 1), samples=60).isfinite().all()


def test_what_a_generator_cannot_do_is_refused_by_name():
    model = Model(Joint(Quadratic(torch.eye(4, dtype=torch.float64)), test_steps=1), {})
    adapted = model.adapt(torch.rand(2, 1, 2, 2, dtype=torch.float64))
    assert adapted.sample(1).shape[1:] == (1, 2, 2)
    for use in (lambda x: adapted.reconstruct(x), lambda x: adapted.interpolate(x, x), lambda x: adapted.log_prob(x)):
        with pytest.raises(MetagenError, match=r"Quadratic cannot .*; these can: .*VAE"):
            use(torch.zeros(1, 1, 2, 2))


# files


def test_saving_needs_a_saved_base(model, adapted, tmp_path):
    with pytest.raises(MetagenError, match="save the base model first"):
        adapted.save(tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_a_saved_model_can_be_used_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_model().save("base")
    loaded = metagen.load("base")
    assert isinstance(loaded, Model)
    assert loaded.info == {"made": "here"}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    adapted = loaded.adapt(images(2, 1))
    adapted.save("mine")
    assert torch.equal(metagen.load("mine").sample(2), adapted.sample(2))
    assert torch.equal(make_model().adapt(images(2, 1)).sample(2), adapted.sample(2))


def test_a_model_that_travels_with_metagen_is_found_by_name(tmp_path, monkeypatch):
    make_model().save(tmp_path / "models/tiny")
    monkeypatch.setattr(bundled, "resource", lambda kind, name: tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert isinstance(metagen.load("tiny"), Model)
    with pytest.raises(MetagenError, match=r"tinny: neither a folder nor one of the models .*; those are tiny"):
        metagen.load("tinny")


# mistakes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (torch.zeros(0, 1, 8, 8), "no image"),
        ([], "no image"),
        (torch.full((2, 1, 8, 8), float("nan")), "no NaN"),
        (torch.full((2, 1, 8, 8), 1.01), "values in"),
        (torch.full((2, 1, 8, 8), -0.01), "values in"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "divide bytes by 255"),
        (torch.zeros(1, 8, 8), r"expected images \[k, 1, 8, 8\], got \[1, 8, 8\]"),
        (torch.zeros(2, 3, 8, 8), r"expected images \[k, 1, 8, 8\], got \[2, 3, 8, 8\]"),
        (torch.zeros(2, 1, 9, 8), r"got \[2, 1, 9, 8\]"),
        (["a.png"], "expected a tensor, PIL images or a folder, got list"),
    ],
    ids=["none", "empty list", "nan", "above", "below", "bytes", "3-d", "colour", "size", "names"],
)
def test_bad_images_are_refused(model, given, said):
    with pytest.raises(MetagenError, match=said) as info:
        model.adapt(given)
    assert "\n" not in str(info.value)


def test_bad_tensors_are_refused_everywhere(model, adapted):
    bad = torch.full((2, 1, 8, 8), 2.0)
    good = torch.zeros(2, 1, 8, 8)
    for use in (
        lambda: adapted.reconstruct(bad),
        lambda: adapted.interpolate(good, bad),
        lambda: adapted.log_prob(bad),
        lambda: model.adapt_many(bad[None]),
    ):
        with pytest.raises(MetagenError, match="values in"):
            use()
    with pytest.raises(MetagenError, match=r"expected supports \[T, k, C, H, W\], got \[2, 1, 8, 8\]"):
        model.adapt_many(good)
    for support in (torch.zeros(0, 2, 1, 8, 8), torch.zeros(2, 0, 1, 8, 8)):
        with pytest.raises(MetagenError, match="no image"):
            model.adapt_many(support)


def test_a_model_of_which_nothing_moves_takes_no_step():
    context = Model(Amortised(tiny_generator("redraw")), {})
    assert [context.adapt(images(2, 1), steps=steps).info["steps"] for steps in (None, 0)] == [0, 0]
    with pytest.raises(MetagenError, match="steps: nothing of Amortised moves, so expected 0, got 3"):
        context.adapt(images(2, 1), steps=3)


def test_bad_numbers_and_folders_are_refused(model, tmp_path):
    with pytest.raises(MetagenError, match="steps: expected 0 or more, got -1"):
        model.adapt(images(2, 1), steps=-1)
    for steps in (2.5, True, "3"):
        with pytest.raises(MetagenError, match=f"steps: expected a whole number or auto, got {steps!r}"):
            model.adapt(images(2, 1), steps=steps)
    with pytest.raises(MetagenError, match="seed: expected 0 or more, got -1"):
        model.adapt(images(2, 1), seed=-1)
    with pytest.raises(MetagenError, match="absent"):
        model.adapt(tmp_path / "absent")
    with pytest.raises(MetagenError, match="no image"):
        model.adapt(tmp_path)
