"""The token VAE: a prior whose probabilities are exact, samples that agree with them, and a tokenizer that stays."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from metagen import load
from metagen.core.philox import Draws
from metagen.core.warps import random_affine
from metagen.errors import MetagenError
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.scorecard import measure
from metagen.evaluation.studies import studies
from metagen.generators import TokenVAE, with_sampling
from metagen.generators.tokens import token_vae
from metagen.generators.tokens.token_networks import Past, WrittenPast
from metagen.generators.tokens.token_sampling import Sampling, draw_codes
from metagen.learners import MAML, Amortised, Joint, LowRankMAML
from metagen.learners.stopping import adapt_each
from metagen.model import Model
from metagen.tasks import task_sets
from metagen.tasks.episodes import Episodes
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from tests.doubles import Blobs, tiny_generator
from tests.test_evaluation import Half
from tests.test_studies_log_likelihood import Ink, held_out

PLAIN = Sampling(0.0, 1.0, 1.0)


def images(n: int, seed: int = 0, size: int = 4, channels: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=rng, dtype=torch.float64)


def made(size: int = 4, **options) -> Any:
    """At 4 px 9 codes at 4 places, far from alike in how likely they are; a support means much."""
    torch.manual_seed(0)
    given = {"size": size, "halvings": 1 if size == 4 else 2, "blocks": 2, "contrast": 1.0, "guidance": 0.0, **options}
    generator = tiny_generator("token_vae", **given).double().eval()
    with torch.no_grad():
        for weight in generator.prior.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return generator


@pytest.fixture
def vae():
    return made()


def noise_of(generator: TokenVAE, n: int, seed: int = 0) -> dict[str, torch.Tensor]:
    return {name: x.double() for name, x in generator.noise(n, Draws((seed,))).items()}


def everything(generator: TokenVAE) -> torch.Tensor:
    """All sequences of codes, [9 ** 4, 4]."""
    return torch.tensor(list(itertools.product(range(9), repeat=4)))


def log_chances(generator: TokenVAE, codes: torch.Tensor, support: torch.Tensor) -> torch.Tensor:
    """Log p(codes [n, 4] | support), by hand from the logits."""
    logits = generator.prior(codes, generator.prior.memory(support), None)
    return logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0].sum(-1)


# the prior
@pytest.mark.parametrize("shots", [0, 2])
@torch.no_grad()
def test_the_chances_of_all_codes_sum_to_one_and_samples_are_as_frequent(vae, shots):
    support, every = images(shots), everything(vae)
    exact = log_chances(vae, every, support)
    torch.testing.assert_close(exact.exp().sum(), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(vae._code_nats(every, {}, vae._of_all(support)), -exact)
    assert exact.std() > 1
    uniform = torch.rand(20000, 4, generator=torch.Generator().manual_seed(1))
    codes, _ = draw_codes(vae.prior, uniform, vae.prior.memory(support), None, PLAIN)
    found = exact.view(9, 9, 9, 9)[tuple(codes.T)]
    entropy, spread = -(exact.exp() * exact).sum(), (exact.exp() * exact**2).sum()
    assert abs(found.mean() + entropy) < 4 * ((spread - entropy**2) / 20000).sqrt()
    for first, last in itertools.combinations(range(4), 2):
        others = [place for place in range(4) if place not in (first, last)]
        expected = 20000 * exact.exp().view(9, 9, 9, 9).sum(others).flatten()
        counts = torch.bincount(9 * codes[:, first] + codes[:, last], minlength=81)
        likely = expected > 5
        chi = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
        assert chi < likely.sum() + 5 * (2 * likely.sum()).sqrt()


@pytest.mark.parametrize("kind", [Past, lambda: WrittenPast(4)], ids=["joined", "written"])
@torch.no_grad()
def test_a_step_with_what_it_kept_gives_the_logits_of_all_at_once(vae, kind):
    codes, memory = everything(vae)[::500], vae.prior.memory(images(2))
    mask = torch.rand(len(codes), memory[0][0].shape[-2], generator=torch.Generator().manual_seed(0)) < 0.5
    mask[:, : vae.null_tokens] = True
    logits, past = vae.prior(codes, memory, mask), [kind() for _ in range(2)]
    for place in range(4):
        before = codes[:, place - 1] if place else codes[:, 0]
        torch.testing.assert_close(vae.prior.step(place, before, past, memory, mask), logits[:, place])


@torch.no_grad()
def test_a_code_bears_on_those_after_it_alone(vae):
    codes, memory = everything(vae)[4321:4322], vae.prior.memory(images(2))
    before = vae.prior(codes, memory, None)[0]
    for place in range(4):
        changed = codes.clone()
        changed[0, place] = (changed[0, place] + 1) % 9
        apart = (vae.prior(changed, memory, None)[0] - before).abs().amax(-1)
        assert (apart[: place + 1] == 0).all()
        assert (apart[place + 1 :] > 1e-4).all()


# the support
@torch.no_grad()
def test_the_order_of_the_support_does_not_matter_and_what_is_in_it_does(vae):
    support, targets, noise = images(4), images(3, 1), noise_of(vae, 3)
    before = vae.log_prob(targets, support)
    torch.testing.assert_close(vae.log_prob(targets, support[[2, 0, 3, 1]]), before)
    torch.testing.assert_close(vae.generate(noise, support[[2, 0, 3, 1]]), vae.generate(noise, support))
    assert (vae.log_prob(targets, support[:3]) - before).abs().min() > 1e-4


@torch.no_grad()
def test_an_image_of_the_support_does_not_see_itself(vae):
    support, others = images(3), ~torch.eye(3, dtype=torch.bool)
    codes = vae.project(support)
    changed = torch.cat([images(1, 5), support[1:]])
    before, after = (vae._code_nats(codes, {}, vae.context(known, others)) for known in (support, changed))
    assert before[0] == after[0]
    assert (before[1:] - after[1:]).abs().min() > 1e-5
    each = [vae._code_nats(codes[i : i + 1], {}, vae._of_all(support[others[i]])) for i in range(3)]
    torch.testing.assert_close(before, torch.cat(each))
    torch.testing.assert_close(vae.support_loss("vae", support, noise_of(vae, 3)), before.mean())


@torch.no_grad()
def test_no_support_is_a_hidden_one_and_what_training_drops(vae):
    support, targets, noise = images(3), images(4, 1), noise_of(vae, 4)
    empty = vae._code_nats(vae.project(targets), {}, vae._of_all(support[:0]))
    hidden = vae.context(support, torch.zeros(4, 3, dtype=torch.bool))
    torch.testing.assert_close(vae._code_nats(vae.project(targets), {}, hidden), empty)
    torch.testing.assert_close(vae.sample(noise, hidden), vae.generate(noise, support[:0]))
    vae.null_rate, vae.dropout = 1 - 1e-9, 0.0
    torch.testing.assert_close(vae.train().query_loss("vae", targets, noise, support), empty.mean())
    own = vae._code_nats(vae.project(support), noise_of(vae, 3), vae._of_all(support[:0])).mean()
    torch.testing.assert_close(vae.support_loss("vae", support, noise_of(vae, 3)), own)
    vae.null_rate = 0.5
    some = {**noise, "null": torch.tensor([[0.4], [0.6], [0.6], [0.4]], dtype=torch.float64)}
    seeing = vae._code_nats(vae.project(targets), some, vae._of_all(support))
    torch.testing.assert_close(seeing[[0, 3]], empty[[0, 3]])
    torch.testing.assert_close(
        seeing[[1, 2]], vae.eval()._code_nats(vae.project(targets), {}, vae._of_all(support))[1:3]
    )


def test_a_step_takes_some_images_of_a_large_support(vae, monkeypatch):
    monkeypatch.setattr(token_vae, "STEP_IMAGES", 3)
    support, noise = images(5), noise_of(vae, 5)
    found = vae.support_loss("vae", support, noise)
    few = [support[list(each)] for each in itertools.combinations(range(5), 3)]
    losses = torch.stack([vae.support_loss("vae", each, noise_of(vae, 3)) for each in few])
    assert (losses - found).abs().min() < 1e-9
    others = torch.stack([vae.support_loss("vae", support, noise_of(vae, 5, seed)) for seed in range(20)])
    assert len({round(each.item(), 6) for each in others}) > 5  # other steps take others
    assert ((losses[:, None] - others).abs().min(0).values < 1e-9).all()


@torch.no_grad()
def test_a_step_may_see_its_support_through_one_affine_map(vae):
    support, noise = images(3), noise_of(vae, 3)
    alike = torch.cat([random_affine(each[None], noise["copy"][:1], 0.7) for each in support])
    expected = vae.support_loss("vae", alike, noise)
    assert (expected - vae.support_loss("vae", support, noise)).abs() > 1e-4
    vae.support_augment = 0.7
    torch.testing.assert_close(vae.support_loss("vae", support, noise), expected)


def test_a_step_of_a_large_support_is_the_same_for_a_batch_of_tasks(vae, monkeypatch):
    monkeypatch.setattr(token_vae, "STEP_IMAGES", 3)
    supports, each = torch.stack([images(5, 1), images(5, 2)]), [noise_of(vae, 5, seed) for seed in (3, 4)]
    draws = {name: torch.stack([noise[name] for noise in each]) for name in each[0]}
    apart = torch.stack([vae.support_loss("vae", *pair) for pair in zip(supports, each, strict=True)])
    together = torch.func.vmap(lambda support, noise: vae.support_loss("vae", support, noise))(supports, draws)
    torch.testing.assert_close(together, apart)


@torch.no_grad()
def test_a_single_image_sees_an_affine_copy_of_itself(vae):
    support, noise = images(1), noise_of(vae, 1)
    loss = vae.support_loss("vae", support, noise)
    seen = {"copy": random_affine(support, noise["copy"]), "itself": support, "nothing": support[:0]}
    nats = {name: vae._code_nats(vae.project(support), {}, vae._of_all(each)).mean() for name, each in seen.items()}
    torch.testing.assert_close(loss, nats.pop("copy"))
    assert all((loss - other).abs() > 1e-4 for other in nats.values())


@torch.no_grad()
def test_channels_are_dropped_of_each_target_alone_and_kept_ones_grow(vae):
    codes, memory = everything(vae)[::3000], vae.prior.memory(images(2))
    noise = noise_of(vae, len(codes))
    vae.dropout, vae.null_rate = 0.5, 0.0
    nats = vae.train()._code_nats(codes, noise, vae._of_all(images(2)))
    dropout_mask = torch.where(noise["dropout"] < 0.5, 0.0, 2.0)
    assert set(dropout_mask.unique().tolist()) == {0.0, 2.0}
    logits = torch.cat([vae.prior(codes[i : i + 1], memory, None, dropout_mask[i : i + 1]) for i in range(len(codes))])
    by_hand = -logits.log_softmax(-1).gather(-1, codes[..., None])[..., 0].sum(-1)
    torch.testing.assert_close(nats, by_hand)
    assert (nats + log_chances(vae, codes, images(2))).abs().min() > 1e-4


# the bound
def test_the_loss_is_nats_of_codes_and_of_pixels_and_training_leaves_the_latter_out(vae):
    support, targets, noise = images(2), images(5, 1).round(), noise_of(vae, 5)
    codes, told = vae.project(targets), vae.diagnostics(targets, noise, support)
    pixels = torch.distributions.Bernoulli(logits=vae.tokenizer.decode(codes)).log_prob(targets).sum((1, 2, 3))
    exact = log_chances(vae, codes, support) + pixels
    torch.testing.assert_close(vae.log_prob(targets, support), exact)
    loss = vae.query_loss("vae", targets, noise, support)
    torch.testing.assert_close(loss, -exact.mean())
    torch.testing.assert_close(told["pixel_nats"], -pixels.mean())
    torch.testing.assert_close(told["code_nats"] + told["pixel_nats"], loss)
    vae.dropout = vae.null_rate = 0.0
    weights = dict(vae.prior.named_parameters())
    judged = torch.autograd.grad(loss, list(weights.values()))
    trained = vae.train().query_loss("vae", targets, noise, support)
    torch.testing.assert_close(trained, told["code_nats"])
    for name, one, other in zip(weights, judged, torch.autograd.grad(trained, list(weights.values())), strict=True):
        torch.testing.assert_close(one, other, msg=name)
        assert one.abs().max() > 0, name


def test_the_likelihood_is_one_evaluation_of_the_model_as_it_is():
    ink = images(3, 1).float().round()
    mine = Model(Amortised(made().float()), {}).adapt(images(2).float())
    found = mine.log_prob(ink, samples=1)
    assert torch.equal(found, mine.log_prob(ink, samples=1000, seed=3))
    guided = Model(Amortised(made(guidance=2.0, top_p=0.5, contrast=2.0).float()), {}).adapt(images(2).float())
    assert torch.equal(guided.log_prob(ink), found)
    with pytest.raises(MetagenError, match="got grey pixels"):
        mine.log_prob(images(2).float())


@pytest.mark.parametrize(
    ("options", "so"),
    [({}, True), ({"contrast": 2.0}, True)] + [({n: 0.5}, False) for n in ("guidance", "temperature", "top_p")],
)
def test_whether_samples_have_the_likelihood(options, so):
    assert with_sampling(made(), options).likelihood_of_samples is so


def test_samples_after_steps_have_options_of_their_own(tmp_path):
    """Those of `after_steps`, unless asked otherwise; of several tasks only where weights moved."""
    after = {"guidance": 0.0, "temperature": 0.3}
    generator = made(guidance=2.0, after_steps=after).float()
    model = Model(Amortised(generator, adapted_params=["biases"], rate=0.1, test_steps=0), {})
    model.save(tmp_path / "model")
    support = images(2).float()
    still, moved = model.adapt(support), model.adapt(support, steps=1)
    assert (still.sampling["guidance"], moved.sampling["guidance"]) == (2.0, 0.0)
    assert torch.equal(still.sample(3), still.sample(3, guidance=2.0, temperature=1.0))
    assert torch.equal(moved.sample(3), moved.sample(3, **after))
    asked = moved.sample(3, guidance=2.0, temperature=1.0)
    assert not torch.equal(moved.sample(3), asked)
    assert torch.equal(moved.sample(3, guidance=2.0), moved.sample(3, guidance=2.0, temperature=0.3))
    moved.save(tmp_path / "moved")
    assert torch.equal(load(tmp_path / "moved").sample(3), moved.sample(3))
    both = adapt_each(model.learner, torch.stack([support, support]), (0,), [0, 1], [0, 0])
    assert both.moved.tolist() == [False, True]
    noise = {name: x[None].expand(2, *x.shape) for name, x in generator.noise(3, Draws((0,))).items()}
    apart = [both[task].generate({name: x[:1] for name, x in noise.items()})[0] for task in range(2)]
    torch.testing.assert_close(both.generate(noise), torch.stack(apart))
    assert not made(after_steps=after).likelihood_of_samples


@pytest.mark.parametrize("wrong", [{"guidance": -1.0}, {"speed": 1.0}])
def test_options_after_steps_are_checked(wrong):
    with pytest.raises(MetagenError, match=next(iter(wrong))):
        made(after_steps=wrong)


# images and codes
def test_reconstructions_are_decoded_codes_and_ways_begin_at_maps_not_yet_rounded():
    vae = made(contrast=1.5)
    first, last = images(3), images(3, 1)
    codes = vae.project(first)
    assert torch.equal(codes, vae.tokenizer.project(first))
    torch.testing.assert_close(vae.reconstruct(first), (1.5 * vae.tokenizer.decode(codes)).sigmoid())
    way = vae.interpolate(first, last, 4)
    assert way.shape == (3, 4, 1, 4, 4)
    for place, end in ((0, first), (3, last)):
        torch.testing.assert_close(way[:, place], (1.5 * vae.tokenizer._decoded(vae.tokenizer.bounded(end))).sigmoid())


def test_contrast_changes_pictures_alone(vae):
    support, noise = images(2), noise_of(vae, 6)
    plain = vae.generate(noise, support)
    strong: Any = with_sampling(vae, {"contrast": 2.0})
    torch.testing.assert_close(strong.generate(noise, support).logit(), 2 * plain.logit())
    assert torch.equal(strong.project(support), vae.project(support))
    given = support, noise_of(vae, 2), support
    assert strong.query_loss("vae", *given) == vae.query_loss("vae", *given)
    assert strong.diagnostics(*given) == vae.diagnostics(*given)


@pytest.mark.parametrize("options", [{"size": 64, "halvings": 3}, {"size": 28, "halvings": 2}])
def test_photographs_in_colour(options):
    torch.manual_seed(0)
    vae = tiny_generator("token_vae", channels=3, likelihood="gaussian", **{**options, "contrast": 1.0}).eval()
    size = options["size"]
    support, query = images(2, 0, size, 3).float(), images(3, 1, size, 3).float()
    noise = vae.noise(3, Draws((0,)))
    assert vae.query_loss("vae", query, noise, support).isfinite()
    drawn = vae.generate(noise, support)
    assert drawn.shape == query.shape
    assert ((drawn >= 0) & (drawn <= 1)).all()


# what moves
@pytest.mark.parametrize("part", ["head", "cross_attention", "last_block", "normalisation", "biases"])
def test_every_part_may_move_and_the_tokenizer_never_does(part):
    select_params = MAML(made(), adapted_params=(part,)).adapted_names
    own = {
        "head": lambda n: n.startswith("prior.head."),
        "cross_attention": lambda n: ".cross." in n,
        "last_block": lambda n: n.startswith(("prior.blocks.1.", "prior.norm.", "prior.head.")),
        "normalisation": lambda n: ".norm." in n or ".mix.0." in n,
        "biases": lambda n: n.endswith(".bias"),
    }[part]
    names = [name for name, _ in made().named_parameters() if not name.startswith("tokenizer.")]
    assert select_params == {name for name in names if own(name)} != set()


def test_low_rank_deltas_of_the_attention_to_the_support():
    learner = LowRankMAML(made(), layers=("cross_attention",))
    assert len(learner.adapted_names) == 2 * 2 * 3  # blocks, L and R, layers
    assert all(".cross." in name for name in learner.adapted_names)
    assert not any(name.startswith("tokenizer.") for name in LowRankMAML(made()).adapted_names)


# a tokenizer alone, then a prior over it
SMALL: dict[str, Any] = {"tokenizer_width": 4, "levels": (3, 3), "width": 8, "heads": 2, "blocks": 1, "null_tokens": 2}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """The folder of a saved tokenizer of 28 px."""
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("saved") / "tokenizer"
    learner = Joint(tiny_generator("tokenizer", size=28, levels=(3, 3)), adapted_params=(), test_steps=0)
    Model(learner, {}).save(place)
    return place


def begun(tokenizer) -> Any:
    """The training of an amortised token VAE, which has taken the tokenizer."""
    torch.manual_seed(1)
    return MetaTraining(TokenVAE(**SMALL, guidance=0.0), Amortised, initial=str(tokenizer), warmup=0, weight_decay=0.1)


def test_a_saved_tokenizer_is_taken_and_stays_as_it_is(tokenizer, monkeypatch, tmp_path):
    monkeypatch.setitem(task_sets._classes, "blobs", Blobs)
    module, saved = begun(tokenizer), load(tokenizer).learner.generator.state_dict()
    assert module.initialised_from == "tokenizer"
    generator = module.learner.generator
    before = {name: w.detach().clone() for name, w in generator.prior.named_parameters()}
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, EpisodeData("blobs", shots=2, queries=3, tasks=4, val_tasks=3, episodes=4))
    assert trainer.global_step == 4
    assert generator.tokenizer.state_dict().keys() == saved.keys()
    for name, w in generator.tokenizer.state_dict().items():
        assert torch.equal(w, saved[name]), name
    still = [name for name, w in generator.prior.named_parameters() if torch.equal(w, before[name])]
    assert still == []


# held-out tasks
def test_a_scorecard_has_reconstructions_and_the_study_of_likelihood_takes_it(tokenizer):
    learner = begun(tokenizer).learner.requires_grad_(False).eval()
    for weight in learner.generator.prior.parameters():
        weight.add_(0.3 * torch.randn_like(weight))
    episodes = Episodes(Ink(images=11), 2, 8)
    options = EvaluationOptions(limit=3, curve=(), baselines=False)
    card = measure(learner, episodes, options, {"half": Half()}).result
    row = next(row for row in card["rows"] if row["row"] == "reconstruction")
    assert (row["steps"], row["diverged"]) == (None, 0)
    assert math.isfinite(row["figures"]["fd[half]"]["mean"])
    result = studies["log_likelihood"].run(held_out(learner, Ink(images=11)))
    drawn = Episodes(Ink(images=11), 9, 2).of("test", range(6))
    assert [row["shots"] for row in result["rows"]] == [0, 1, 2, 3, 4, 9]
    for row in result["rows"]:
        each = [
            learner.generator.log_prob(query, support[: row["shots"]]).mean()
            for support, query in zip(drawn.support, drawn.query, strict=True)
        ]
        assert row["mean"] == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)
    assert len({row["mean"] for row in result["rows"]}) == 6
    guided = Amortised(with_sampling(learner.generator, {"guidance": 1.0})).eval()
    with pytest.raises(MetagenError, match="log_likelihood"):
        studies["log_likelihood"].run(held_out(guided, Ink(images=11)))


# options
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"levels": (8, 2)}, "levels: expected a whole number of 3 or more"),
        ({"heads": 3}, "heads: expected a divisor of the width 128, got 3"),
        ({"blocks": 0}, "blocks: expected 1 or more, got 0"),
        ({"null_tokens": 0}, "null_tokens: expected 1 or more, got 0"),
        ({"support_blocks": -1}, "support_blocks: expected 0 or more, got -1"),
        ({"tokenizer_width": 0}, "width: expected 1 or more, got 0"),
        ({"null_rate": 1.0}, "null_rate"),
        ({"dropout": math.nan}, "dropout"),
        ({"guidance": -1.0}, "guidance: expected a finite number of 0 or more, got -1.0"),
        ({"guidance": math.inf}, "guidance: expected a finite number"),
        ({"temperature": 0.0}, "temperature: expected 0.01 or more, got 0.0"),
        ({"top_p": 0.0}, "top_p: expected more than 0 and at most 1, got 0.0"),
        ({"top_p": 1.1}, "top_p: expected more than 0 and at most 1, got 1.1"),
        ({"contrast": 0.0}, "contrast: expected a finite number above 0, got 0.0"),
        ({"contrast": 2.0, "likelihood": "gaussian"}, "contrast: expected 1 with the likelihood gaussian, got 2.0"),
        ({"size": 30}, "halvings"),
    ],
)
def test_wrong_options_are_told_in_one_line(options, said):
    with pytest.raises(MetagenError, match=said) as caught:
        TokenVAE(**options)
    assert "\n" not in str(caught.value)


def test_guidance_is_less_where_there_are_few_images():
    """Of k images g is guidance k / (k + 1): at guidance 3, 1.5 of one image and 2 of two."""
    vae, draws = made(guidance=3.0), noise_of(made(), 6)
    for k, expected in ((1, 1.5), (2, 2.0)):
        memory = vae.prior.memory(images(k))
        codes, _ = draw_codes(vae.prior, draws["codes"], memory, None, Sampling(expected, 1.0, 1.0))
        assert torch.allclose(vae.generate(draws, images(k)), vae.log_likelihood.expected(vae.tokenizer.decode(codes)))
