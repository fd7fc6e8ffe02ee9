"""GANs: losses, penalties, augmentations and layers in closed form; and a game's meta-gradients."""

from __future__ import annotations

import json
import math
from fnmatch import fnmatch

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from metagen.adaptation import adapt, add_deltas
from metagen.core.philox import Draws
from metagen.core.warps import random_affine
from metagen.errors import MetagenError
from metagen.generators import GAN, VAEGAN, AdversarialGenerator, RedrawGAN, generators
from metagen.generators.gans.adversarial import LOSSES, gradient_penalty, mode_seeking_loss, r1r2
from metagen.generators.gans.critic_augmentation import AUGMENTATIONS, augmented
from metagen.generators.gans.gan_networks import Critic, MinibatchDeviation, SpectralConv2d, spectral_norm
from metagen.generators.gans.presets import PRESETS
from metagen.generators.gans.projection import interpolated
from metagen.learners import FOMAML, MAML, Amortised
from metagen.model import Model
from metagen.training.meta_training import MetaTraining
from tests.doubles import VARIANTS, class_of, tiny_generator
from tests.test_meta_gradients import batch_for, check_finite_differences, gradient

SMALL = {"size": 8, "latent": 2, "widths": (2, 4)}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draws(seed=0):
    return Draws((seed,))


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=rng(seed))


def doubled(noise):
    return {name: draw.double() for name, draw in noise.items()}


# the game


@pytest.mark.parametrize(
    ("game", "real", "fake", "critic", "generator"),
    [
        ("relativistic", [math.log(3), 0], [0, 0], math.log(4 / 3 * 2) / 2, math.log(4 * 2) / 2),
        ("hinge", [2, 0.5], [-3, 0], 0.75, 1.5),
        ("wasserstein", [2, 0.5], [-3, 0], -2.75, 1.5),
    ],
)
def test_losses_at_known_logits(game, real, fake, critic, generator):
    logits = torch.tensor([real, fake], dtype=torch.float64)
    assert LOSSES[game]["discriminator"](*logits).item() == pytest.approx(critic)
    assert LOSSES[game]["generator"](*logits).item() == pytest.approx(generator)


def test_penalties_of_a_linear_critic_know_its_slope_alone():
    slope, real, fake, mix = rand(1, 4, 4), rand(3, 1, 4, 4, seed=1), rand(3, 1, 4, 4, seed=2), rand(3, seed=3)

    def critic(x):
        return (slope * x).sum((-3, -2, -1)) + 5

    size = slope.square().sum().sqrt()
    torch.testing.assert_close(r1r2(critic, real, [fake], mix, 3.0), 3 * size**2)  # half of it at either kind
    torch.testing.assert_close(gradient_penalty(critic, real, [fake], mix, 10.0), 10 * (size - 1) ** 2)


def test_penalties_are_taken_at_their_places():
    """Of half the squared length of an image the slope is the image."""
    real, fake, mix = rand(3, 1, 4, 4), 2 * rand(3, 1, 4, 4, seed=1), torch.tensor([0.0, 1.0, 0.25])

    def critic(x):
        return x.square().sum((-3, -2, -1)) / 2

    lengths = [x.flatten(1).norm(dim=1) for x in (real, fake)]
    expected = 0.7 / 2 * sum((x**2).mean() for x in lengths)
    torch.testing.assert_close(r1r2(critic, real, [fake], mix, 0.7), expected)
    between = (0.25 * real[2] + 0.75 * fake[2]).norm()
    expected = (torch.stack([lengths[1][0], lengths[0][1], between]) - 1).square().mean()
    torch.testing.assert_close(gradient_penalty(critic, real, [fake], mix.double(), 1.0), expected)


def test_a_critic_without_any_slope_gets_a_finite_gradient():
    scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    images = rand(3, 1, 4, 4)
    gradient_penalty(lambda x: scale * x.sum((-3, -2, -1)), images, [images], rand(3), 1.0).backward()
    assert scale.grad.isfinite()


# augmentations


def test_in_the_middle_colour_and_translation_leave_images_as_they_are():
    images = rand(3, 3, 16, 16)
    torch.testing.assert_close(augmented(images, torch.full((3, 7), 0.5), ("translation", "colour")), images)


def test_colour_does_what_it_says():
    images, middle = rand(1, 3, 8, 8), torch.full((1, 7), 0.5, dtype=torch.float64)
    bright, grey, dull = (middle.index_fill(1, torch.tensor([n]), v) for n, v in ((0, 0.9), (1, 0.0), (2, 0.0)))
    alter = AUGMENTATIONS["colour"]
    torch.testing.assert_close(alter(images, bright), images + 0.2)
    torch.testing.assert_close(alter(images, grey), images.mean(1, keepdim=True).expand_as(images))
    torch.testing.assert_close(alter(images, dull), (images + images.mean()) / 2)


@pytest.mark.parametrize(("draw", "by"), [(0.0, -2), (0.399, -1), (0.5, 0), (0.61, 1), (0.999, 2)])
def test_translation_moves_by_whole_pixels(draw, by):
    images, draws = rand(1, 2, 16, 16), torch.full((1, 7), 0.5, dtype=torch.float64)
    draws[:, 3] = draw
    expected = torch.zeros_like(images)
    expected[..., max(by, 0) : 16 + min(by, 0)] = images[..., max(-by, 0) : 16 - max(by, 0)]
    assert torch.equal(AUGMENTATIONS["translation"](images, draws), expected)
    assert torch.equal(AUGMENTATIONS["translation"](images.mT, draws[:, [0, 1, 2, 4, 3, 5, 6]]), expected.mT)


@pytest.mark.parametrize(
    ("draws", "rows", "columns"), [((0.5, 0.5), (4, 12), (4, 12)), ((0.0, 0.999), (12, 16), (0, 4))]
)
def test_cutout_takes_one_square(draws, rows, columns):
    images = rand(1, 1, 16, 16) + 1
    found = AUGMENTATIONS["cutout"](images, torch.tensor([[0.5] * 5 + list(draws)], dtype=torch.float64))
    expected = images.clone()
    expected[..., slice(*rows), slice(*columns)] = 0
    assert torch.equal(found, expected)


def test_augmentations_are_differentiable_twice_and_of_each_image_alone():
    images, draws = rand(2, 3, 4, 4).requires_grad_(), rand(2, 7, seed=1)
    names = tuple(AUGMENTATIONS)
    assert gradgradcheck(lambda x: augmented(x, draws, names).tanh(), (images,))
    each = torch.func.vmap(lambda x, d: augmented(x[None], d[None], names)[0])(images, draws)
    torch.testing.assert_close(each, augmented(images, draws, names))


# layers


@pytest.mark.parametrize("shape", [(3, 50), (50, 3), (8, 4, 3, 3), (1, 16), (32, 32)])
def test_the_spectral_norm_is_the_largest_singular_value(shape):
    weight = torch.randn(shape, generator=rng(), dtype=torch.float64)
    expected = torch.linalg.matrix_norm(weight.flatten(1), ord=2)
    torch.testing.assert_close(spectral_norm(weight), expected, rtol=0.02, atol=0)
    small = spectral_norm(1e-3 * weight.float())
    torch.testing.assert_close(small, 1e-3 * spectral_norm(weight).float(), rtol=1e-4, atol=0)


def test_a_spectral_norm_apart_from_the_others_is_exact_and_differentiable_twice():
    left, right = (torch.linalg.qr(torch.randn(4, 4, generator=rng(s), dtype=torch.float64))[0] for s in (0, 1))
    values = torch.tensor([3.0, 2, 1, 0.5], dtype=torch.float64)
    weight = (left @ values.diag() @ right).requires_grad_()
    assert spectral_norm(weight).item() == pytest.approx(3, abs=1e-9)
    (found,) = torch.autograd.grad(spectral_norm(weight), weight)
    torch.testing.assert_close(found, torch.outer(left[:, 0], right[0]), rtol=0, atol=1e-8)
    assert gradcheck(spectral_norm, (weight,))
    assert gradgradcheck(spectral_norm, (weight,))


def test_a_spectral_critic_does_not_hear_how_large_its_weights_are():
    critic = Critic(8, 1, (2, 4), "residual", 1, "spectral", False).double()
    images = rand(3, 1, 8, 8)
    before = critic(images)
    with torch.no_grad():
        for name, weight in critic.named_parameters():
            weight.mul_(7 if name.endswith("weight") else 1)
    torch.testing.assert_close(critic(images), before)
    with torch.no_grad():
        critic.get_parameter("convs.0.weight").zero_()
    assert critic(images).isfinite().all()


def test_deltas_of_a_spectral_layer_are_normalised_with_it():
    sngan = GAN(**SMALL, preset="sngan")
    names = add_deltas(sngan, 1, ("discriminator.convs.0.*",))
    layer = sngan.get_submodule("discriminator.convs.0")
    with torch.no_grad():
        for name in names:
            sngan.get_parameter(name).normal_(generator=rng())
    plain = SpectralConv2d(1, 2, 4, stride=2, padding=1)
    plain.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    images = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(layer(images), plain(images))
    assert not torch.allclose(layer.weight, layer.parametrizations.weight.original)


def test_the_deviation_of_a_minibatch():
    features = rand(5, 3, 2, 2).requires_grad_()
    found = MinibatchDeviation()(features)
    assert torch.equal(found[:, :3], features)
    torch.testing.assert_close(found[:, 3], features.std(0, correction=0).mean().expand(5, 2, 2))
    same = rand(1, 3, 2, 2).repeat(5, 1, 1, 1).requires_grad_()
    MinibatchDeviation()(same).sum().backward()
    assert same.grad.isfinite().all()


def test_residual_blocks_begin_as_nothing():
    torch.manual_seed(0)
    gan = GAN(**SMALL, depth=2)
    blocks = [m for m in gan.modules() if type(m).__name__ == "Residual"]
    assert len(blocks) == 2 * 2 * 2
    for block in blocks:
        x = torch.randn(1, len(next(block.parameters())), 3, 3)
        assert torch.equal(block(x), x)


@pytest.mark.parametrize("network", ["dcgan", "residual"])
@pytest.mark.parametrize(("size", "widths"), [(28, (2, 4)), (32, (2, 4)), (64, (2, 2, 4)), (128, (2, 2, 2, 4))])
def test_networks_of_every_size_and_channels(network, size, widths):
    gan = GAN(size, 3, 2, widths, network=network, depth=1, deviation=True, augmentation=tuple(AUGMENTATIONS))
    noise, images = gan.noise(2, draws()), torch.rand(2, 3, size, size)
    assert gan.sample(noise, None).shape == images.shape
    assert all(gan.loss(player, images, noise, None).isfinite() for player in gan.players)


# practice


def test_the_mode_seeking_loss_is_the_mean_ratio_of_neighbours():
    latents, made = rand(4, 3), rand(4, 1, 2, 2, seed=1)
    ratios = []
    for one in range(3):
        apart = math.sqrt(sum((a - b) ** 2 for a, b in zip(*latents[one : one + 2].tolist(), strict=True)) / 3 + 1e-4)
        pixels = made[one : one + 2].flatten(1).tolist()
        ratios.append(apart / math.sqrt(sum((a - b) ** 2 for a, b in zip(*pixels, strict=True)) / 4 + 1e-4))
    torch.testing.assert_close(mode_seeking_loss(latents, made).item(), sum(ratios) / 3)
    assert mode_seeking_loss(latents[:1], made[:1]) == 0
    same = made[:1].repeat(4, 1, 1, 1).requires_grad_()
    assert gradcheck(lambda x: mode_seeking_loss(latents, x), (same,))  # smooth also where images are the same
    assert gradgradcheck(lambda x: mode_seeking_loss(latents, x), (same,))


@pytest.mark.parametrize("name", ["r3", "vae_gan", "redraw_gan"])
def test_the_generator_alone_pays_for_mode_seeking(name):
    plain, seeking = (tiny_generator(name, mode_seeking=weight).double() for weight in (0.0, 2.0))
    seeking.load_state_dict(plain.state_dict())
    support, images, noise = rand(2, 1, 8, 8, seed=1), rand(3, 1, 8, 8), doubled(plain.noise(3, draws()))
    worth = (
        2 * getattr(plain, "adversarial_weight", 1) * mode_seeking_loss(noise["latent"], plain.generate(noise, support))
    )
    for player, extra in (("discriminator", 0), ("generator", worth)):
        before, after = (gan.query_loss(player, images, noise, support) for gan in (plain, seeking))
        torch.testing.assert_close(after, before + extra)


@pytest.mark.parametrize("name", ["r3", "vae_gan", "redraw_gan"])
def test_a_warp_moves_the_real_images_of_both_players(name):
    plain, warping = (tiny_generator(name, warp=strength).double() for strength in (0.0, 0.7))
    warping.load_state_dict(plain.state_dict())
    support, images, noise = rand(2, 1, 8, 8, seed=1), rand(3, 1, 8, 8), doubled(plain.noise(3, draws()))
    moved = random_affine(images, noise["warp"], 0.7)
    assert warping.shared == ("warp",)
    for player in plain.players:
        found = warping.query_loss(player, images, noise, support)
        torch.testing.assert_close(found, plain.query_loss(player, moved, noise, support))
        assert not torch.allclose(found, plain.query_loss(player, images, noise, support))
    assert torch.equal(warping.generate(noise, support), plain.generate(noise, support))


def test_how_often_each_player_is_visited():
    assert GAN(**SMALL, preset="sngan", d_steps=3).player_updates == {"discriminator": 3, "generator": 1}


# the players


@pytest.mark.parametrize(
    "options",
    [
        {"network": network, "penalty": p}
        for network in ("dcgan", "residual")
        for p in ("r1r2", "gradient_penalty", "none")
    ]
    + [{"game": "hinge", "penalty": "none", "critic_norm": "spectral"}],
    ids=lambda options: "-".join(options.values()),
)
def test_meta_gradients_through_every_network_and_penalty_are_those_of_finite_differences(options):
    torch.manual_seed(0)
    training = {"deviation": True, "augmentation": ("colour",), "mode_seeking": 0.1, "warp": 0.5}
    weighted = {} if options["penalty"] == "none" else {"penalty_weight": 1.0}
    gan = GAN(**SMALL, depth=1, **weighted, **training, **{"network": "dcgan", **options}).double()
    with torch.no_grad():
        for weight in gan.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    images = rand(1, 4, 1, 8, 8)
    exact, first = (kind(gan, steps=1, rate=0.3) for kind in (MAML, FOMAML))
    batch = batch_for(exact, images[:, :2], images[:, 2:])
    for _ in range(2):
        check_finite_differences(exact, batch)
    one, other = gradient(exact, batch), gradient(first, batch)
    assert all(not torch.allclose(one[n], other[n], rtol=1e-4, atol=0) for n in one if n.endswith("stem.weight"))


def test_each_player_hears_its_own_loss_alone():
    torch.manual_seed(0)
    learner = FOMAML(tiny_generator("r3").double(), steps=2, rate=0.1)
    images = rand(1, 6, 1, 8, 8)
    batch = batch_for(learner, images[:, :3], images[:, 3:])
    found = gradient(learner, batch)
    task = next(batch.chunks(1))
    noise = {p: {name: x[0] for name, x in draws.items()} for p, draws in task.support_noise.items()}
    adapted = {n: w.detach() for n, w in adapt(learner, task.support[0], noise).items()}
    gan = learner.generator
    gan.load_state_dict(adapted)
    for player in gan.players:
        gan.zero_grad()
        draws = {name: x[0] for name, x in task.query_noise[player].items()}
        gan.loss(player, task.query[0], draws, None).backward()
        for name, weight in getattr(gan, player).named_parameters(prefix=player):
            torch.testing.assert_close(found[f"generator.{name}"], weight.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shots", [1, 2, 25])
@pytest.mark.parametrize("name", [name for name in VARIANTS if issubclass(class_of(name), AdversarialGenerator)])
def test_one_image_is_enough_and_many_are_not_too_many(name, shots):
    torch.manual_seed(0)
    gan = tiny_generator(name, deviation=True, mode_seeking=0.1, warp=0.5)
    support, query = torch.rand(shots, 1, 8, 8, generator=rng()), torch.rand(2, 1, 8, 8, generator=rng(1))
    for player in gan.players:
        assert gan.support_loss(player, support, gan.noise(shots, draws())).isfinite()
        assert gan.query_loss(player, query, gan.noise(2, draws()), support).isfinite()
    learner = MAML(gan, steps=2, rate=0.01)
    batch = batch_for(learner, support[None], query[None])
    found = gradient(learner, batch)
    assert all(each.isfinite().all() for each in found.values())
    adapted = Model(learner, {}).adapt(support)
    assert all(d.isfinite().all() for d in adapted.adapted.difference.values())
    images = adapted.sample(3)
    assert images.shape == query[:1].expand(3, -1, -1, -1).shape
    assert images.isfinite().all()


def test_a_player_of_which_nothing_moves_stays():
    torch.manual_seed(0)
    model = Model(
        MAML(tiny_generator("r3"), steps=2, rate=0.1, optimiser="adam", adapted_params=("head", "biases")), {}
    )
    assert {n.split(".")[0] for n in model.adapt(torch.rand(3, 1, 8, 8)).adapted.difference} == set(GAN.players)
    model = Model(MAML(tiny_generator("r3"), steps=2, rate=0.1, optimiser="adam", adapted_params=("head",)), {})
    difference = model.adapt(torch.rand(3, 1, 8, 8)).adapted.difference
    assert {n.split(".")[0] for n in difference} == {"generator"}
    assert all(d.any() for d in difference.values())


def test_the_part_latent_says_from_where_a_gan_samples():
    gan = GAN(**SMALL, preset="wgan_gp")
    network, noise = gan.generator, gan.noise(3, draws())
    assert torch.equal(gan.sample(noise, None), network.decoder(noise["latent"]).sigmoid())  # it begins as nothing
    with torch.no_grad():
        network.latent.shift.copy_(torch.tensor([1.0, -2.0]))
        network.latent.log_scale.copy_(torch.tensor([2.0, 0.5]).log())
    expected = network.decoder(noise["latent"] * torch.tensor([2.0, 0.5]) + torch.tensor([1.0, -2.0])).sigmoid()
    torch.testing.assert_close(gan.sample(noise, None), expected)


@pytest.mark.parametrize("name", PRESETS)
def test_the_latent_can_move_alone(name):
    model = Model(MAML(tiny_generator(name), steps=2, rate=0.1, adapted_params=("latent",)), {})
    difference = model.adapt(torch.rand(3, 1, 8, 8)).adapted.difference
    assert set(difference) == {"generator.latent.shift", "generator.latent.log_scale"}
    assert all(d.any() for d in difference.values())


def test_where_the_game_counts_nothing_a_vae_gan_is_a_vae():
    gan = VAEGAN(**SMALL, adversarial_weight=0.0).double()
    images, noise = rand(3, 1, 8, 8), doubled(gan.noise(3, draws()))
    vae = gan.generator
    expected = vae.loss("vae", images, {"latent": noise["posterior"]}, None)
    torch.testing.assert_close(gan.loss("generator", images, noise, None), expected)
    assert torch.equal(gan.reconstruct(images), vae.reconstruct(images))
    worth = VAEGAN(**SMALL, adversarial_weight=3.0).double()
    worth.load_state_dict(gan.state_dict())
    made = (vae.log_likelihood.expected(vae.decoder(_code(vae, images, noise))), vae.sample(noise, None))
    real = gan.discriminator(images)
    game = sum(LOSSES["relativistic"]["generator"](real, gan.discriminator(each)) for each in made) / 2
    torch.testing.assert_close(worth.loss("generator", images, noise, None), expected + 3 * game)


def _code(vae, images, noise):
    mean, log_variance = vae.posterior(images)
    return mean + (log_variance / 2).exp() * noise["posterior"]


def test_a_redraw_gan_is_a_drawer_that_plays_with_its_samples():
    gan = tiny_generator("redraw_gan", adversarial_weight=3.0, penalty_weight=0.3).double().eval()
    support, images, noise = rand(2, 1, 8, 8, seed=1), rand(3, 1, 8, 8), doubled(gan.noise(3, draws()))
    drawer, critic, play = gan.generator, gan.discriminator, LOSSES["relativistic"]
    fake = drawer.generate(noise, support)
    assert torch.equal(gan.generate(noise, support), fake)
    bound, logits = drawer.query_loss("vae", images, noise, support), (critic(images), critic(fake))
    found = gan.query_loss("generator", images, noise, support)
    torch.testing.assert_close(found, bound + 3 * play["generator"](*logits))
    expected = play["discriminator"](*logits) + r1r2(critic, images, [fake], noise["mix"], 0.3)
    torch.testing.assert_close(gan.query_loss("discriminator", images, noise, support), expected)


@pytest.mark.parametrize("kind", [VAEGAN, RedrawGAN])
def test_parts_are_those_of_what_makes_the_images(kind):
    gan = kind(**SMALL)
    parts = {part: set(matching(gan.generator, globs)) for part, globs in gan.generator.parts.items()}
    found = {part: set(matching(gan, gan.parts[part])) for part in ("head", "last_block")}
    assert found == {part: {f"generator.{name}" for name in parts[part]} for part in found}
    assert any(name.startswith("discriminator") for name in matching(gan, gan.parts["biases"]))


def matching(module, globs):
    return [name for name, _ in module.named_parameters() if any(fnmatch(name, glob) for glob in globs)]


@pytest.mark.parametrize("player", VAEGAN.players)
def test_real_images_pass_the_critic_once(player):
    gan, seen = VAEGAN(**SMALL, penalty="none"), []
    images = torch.rand(3, 1, 8, 8)
    gan.discriminator.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    gan.loss(player, images, gan.noise(3, draws()), None)
    assert [torch.equal(each, images) for each in seen] == [True, False, False]


def test_the_critic_sees_real_and_made_images_each_altered_in_its_own_way():
    gan = GAN(**SMALL, penalty_weight=0.3, augmentation=("colour", "cutout")).double()
    images, noise = rand(3, 1, 8, 8), doubled(gan.noise(3, draws()))
    real, fake = (
        augmented(each, noise[name], gan.augmentation)
        for name, each in (("real", images), ("fake", gan.sample(noise, None)))
    )
    logits, penalty = (
        (gan.discriminator(real), gan.discriminator(fake)),
        r1r2(gan.discriminator, real, [fake], None, 0.3),
    )
    for player, extra in (("discriminator", penalty), ("generator", 0)):
        torch.testing.assert_close(
            gan.loss(player, images, noise, None), LOSSES["relativistic"][player](*logits) + extra
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"game": "hing"}, "unknown game 'hing': did you mean hinge"),
        ({"penalty": "r1"}, "unknown penalty 'r1': did you mean r1r2"),
        ({"network": "resnet"}, "unknown network 'resnet'"),
        ({"critic_norm": "batch"}, "unknown critic_norm 'batch'"),
        ({"norm": "batch"}, "unknown norm 'batch': choose from group, none"),
        ({"augmentation": ("color",)}, "unknown augmentation 'color': did you mean colour"),
        ({"network": "residual", "depth": 0}, "depth: expected 1 or more, got 0"),
        ({"penalty_weight": -1.0}, "penalty_weight: expected 0 or more"),
        ({"latent": 0}, "latent: expected 1 or more"),
        ({"d_steps": 0}, "d_steps: expected 1 or more, got 0"),
        ({"g_steps": 0}, "g_steps: expected 1 or more, got 0"),
        ({"mode_seeking": -1.0}, "mode_seeking: expected 0 or more"),
        ({"warp": -1.0}, "warp: expected 0 or more"),
    ],
)
def test_options_that_mean_nothing_are_refused_in_one_line(options, said):
    with pytest.raises(MetagenError, match=said) as refused:
        GAN(**{**SMALL, **options})
    assert "\n" not in str(refused.value)


# presets


def test_options_that_are_not_given_are_those_of_the_preset():
    gan = GAN(**SMALL, preset="wgan_gp", depth=2)
    assert (gan.preset, gan.game, gan.penalty, gan.penalty_weight) == ("wgan_gp", "wasserstein", "gradient_penalty", 10)
    assert (gan.network, gan.depth, gan.norm, gan.critic_norm, gan.augmentation) == ("dcgan", 2, "group", "none", ())
    assert GAN(**SMALL, preset="sngan").penalty_weight == 0
    assert GAN(**SMALL).augmentation == ("translation", "cutout")
    assert GAN(**SMALL, augmentation=()).augmentation == ()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "options", [{}, {"network": "residual", "depth": 1, "d_steps": 2, "augmentation": ("colour",)}]
)
def test_a_preset_can_be_written_down_and_built_again(preset, options):
    told = generators.describe(GAN(**SMALL, preset=preset, **options))
    assert generators.describe(generators.build(json.loads(json.dumps(told)))) == told


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "r4"}, "unknown preset 'r4': did you mean r3"),
        ({"preset": "sngan", "penalty_weight": 1.0}, "penalty_weight: there is no penalty to weigh, got 1.0"),
        ({"penalty": "none", "penalty_weight": 1.0}, "penalty_weight: there is no penalty to weigh"),
    ],
)
def test_what_a_preset_has_no_use_for_is_refused(options, said):
    with pytest.raises(MetagenError, match=said) as refused:
        GAN(**{**SMALL, **options})
    assert "\n" not in str(refused.value)


# latents of images


@pytest.mark.parametrize("name", PRESETS)
def test_an_image_that_a_gan_made_is_found_again(name):
    torch.manual_seed(0)
    gan = tiny_generator(name, widths=(8, 8))
    with torch.no_grad():
        for weight in gan.generator.decoder.parameters():
            weight.mul_(2)  # a new one makes nearly the same of every latent
    images, others = (gan.sample(gan.noise(4, draws(seed)), None) for seed in (0, 1))
    with torch.no_grad():
        far, near = ((each - images).square().mean((1, 2, 3)) for each in (others, gan.reconstruct(images)))
    assert (near < far / 100).all()


def test_images_are_projected_apart_and_at_the_weights_of_each_task():
    torch.manual_seed(0)
    model = Model(MAML(tiny_generator("wgan_gp"), steps=1, rate=0.5), {})
    support = torch.rand(2, 3, 1, 8, 8, generator=rng())
    both = model.adapt_many(support)
    found = both.adapted.each("project", {"images": support})
    assert found.shape == (2, 3, 2)
    for task in range(2):
        alone = both[task].project(support[task, 1:2])
        torch.testing.assert_close(found[task, 1], alone[0], rtol=1e-2, atol=1e-2)
    assert not torch.allclose(found[0, 1], both[1].project(support[0, 1:2])[0], atol=1e-2)


def test_the_way_between_latents_stays_as_far_out_as_its_ends():
    first, last = rand(3, 8) - 0.5, 4 * (rand(3, 8, seed=1) - 0.5)
    path = interpolated(first, last, 5)
    torch.testing.assert_close(path[:, 0], first)
    torch.testing.assert_close(path[:, -1], last)
    torch.testing.assert_close(path[:, 2].norm(dim=1), (first.norm(dim=1) + last.norm(dim=1)) / 2)
    middle = (first + last) / 2
    torch.testing.assert_close(torch.cosine_similarity(path[:, 2], middle), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("name", ["wgan_gp", "vae_gan"])
def test_a_gan_interpolates_between_reconstructions(name):
    images = torch.rand(2, 1, 8, 8, generator=rng())
    mine = Model(MAML(tiny_generator(name), steps=1), {}).adapt(images)
    path, ends = mine.interpolate(images, images.flip(0), 3), mine.reconstruct(images)
    assert path.shape == (2, 3, 1, 8, 8)
    torch.testing.assert_close(path[:, 0], ends)
    torch.testing.assert_close(path[:, -1], ends.flip(0))


def test_what_is_drawn_from_a_support_has_no_latent_of_its_own():
    images = torch.rand(2, 1, 8, 8)
    mine = Model(Amortised(tiny_generator("redraw_gan")), {}).adapt(images)
    for use in (mine.project, mine.reconstruct):
        with pytest.raises(MetagenError, match=r"RedrawGAN cannot (project|reconstruct); these can: .*GAN"):
            use(images)
    gan = VAEGAN(**SMALL)
    expected, _ = gan.generator.posterior(images)
    torch.testing.assert_close(Model(MAML(gan), {}).adapt(images, steps=0).project(images), expected)


def test_a_game_begins_from_a_model_of_its_second_player(tmp_path):
    torch.manual_seed(0)
    drawer = tiny_generator("redraw", widths=(2, 4), hidden=4)
    Model(Amortised(drawer), {}).save(tmp_path / "drawer")
    game = tiny_generator("redraw_gan")
    critic = {name: w.clone() for name, w in game.discriminator.named_parameters()}
    MetaTraining(game, Amortised, initial=str(tmp_path / "drawer"))
    assert all(torch.equal(w, drawer.state_dict()[name]) for name, w in game.generator.state_dict().items())
    assert all(torch.equal(w, critic[name]) for name, w in game.discriminator.named_parameters())


def test_a_critic_that_cannot_meet_its_penalty_is_made_and_told(caplog):
    GAN(preset="wgan_gp", critic_norm="spectral", **SMALL)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("critic_norm: under spectral no slope reaches the 1")
