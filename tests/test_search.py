"""Architecture search: mixtures, their draws and temperature, what is found, and that it can be trained."""

from __future__ import annotations

import json
import math

import pytest
import torch

from metagen.adaptation import adapt, in_chunks, task_batch
from metagen.cli import main
from metagen.core.philox import Draws, rows_of
from metagen.errors import MetagenError
from metagen.generators import VAE, SearchVAE
from metagen.generators.networks import OPERATIONS
from metagen.generators.search_vae import Mixed
from metagen.learners import FOMAML, MAML, Joint, Reptile, adapt_tasks
from metagen.learners.model_files import load_model
from metagen.training.episode_data import EpisodeData
from metagen.training.meta_training import MetaTraining
from tests.doubles import tiny_vae
from tests.test_meta_gradients import batch_for, check_finite_differences, gradient

TINY = {"size": 8, "latent": 2, "widths": (4, 8)}


def searched(**options) -> SearchVAE:
    """A small search, its logits away from 0."""
    torch.manual_seed(0)
    generator = SearchVAE(**{**TINY, **options})
    with torch.no_grad():
        for mixed in generator.mixtures.values():
            mixed.architecture.normal_(0, 0.1)
    return generator


def images(tasks: int = 3, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(tasks, 6, 1, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(1))


def episode(learner, tasks: int = 3):
    return batch_for(learner, images(tasks)[:, :2], images(tasks)[:, 2:])


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_mixture_with_one_logit_far_above_the_others_is_that_operation(name, norm):
    torch.manual_seed(0)
    mixed, x = Mixed(tuple(OPERATIONS), 4, norm, temperature=0.1), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        mixed.architecture[list(OPERATIONS).index(name)] = 10.0
    assert mixed.chosen == name
    assert mixed(x).shape == x.shape
    torch.testing.assert_close(mixed(x), mixed.operations[name](x), rtol=0, atol=1e-6)


def test_a_mixture_is_the_weighted_sum_of_its_operations():
    torch.manual_seed(0)
    mixed, x = Mixed(("skip", "conv3"), 4, "none", temperature=0.5), torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        mixed.architecture.copy_(torch.tensor([0.3, 0.3 + 0.5 * math.log(3)]))  # shares of 1/4 and 3/4
    torch.testing.assert_close(mixed(x), x / 4 + 3 * mixed.operations["conv3"](x) / 4)


def test_the_discrete_vae_with_the_same_weights_is_the_nearly_discrete_search():
    generator = searched(norm="group", free_bits=0.1)
    chosen = ("residual", "separable", "skip", "conv1")
    with torch.no_grad():
        for mixed, name in zip(generator.mixtures.values(), chosen, strict=True):
            mixed.architecture[generator.operations.index(name)] = 20.0
    options = generator.searched
    assert options["blocks"] == chosen
    plain = VAE(**options)
    weights = generator.state_dict()
    for place, name in zip(generator.mixtures, chosen, strict=True):
        layer = place.removesuffix(".architecture")
        weights = {n.replace(f"{layer}.operations.{name}.", f"{layer}."): w for n, w in weights.items()}
    plain.load_state_dict({n: w for n, w in weights.items() if ".operations." not in n and "architecture" not in n})
    support, noise = images(1, torch.float32)[0], plain.noise(6, Draws((0,)))
    torch.testing.assert_close(plain.generate(noise, support), generator.generate(noise, support), atol=1e-5, rtol=0)
    losses = [each.support_loss("vae", support, noise) for each in (plain, generator)]
    torch.testing.assert_close(*losses)


@pytest.mark.parametrize("choice", ["relaxed", "sampled"])
@pytest.mark.parametrize("kind", [MAML, Joint])
def test_the_gradient_of_the_architecture_is_that_of_finite_differences(kind, choice):
    generator = searched(choice=choice, warm=0.7, cold=0.7).double()
    learner = kind(generator, rate=0.01, optimiser="sgd") if kind is Joint else kind(generator, steps=2, rate=0.01)
    others = [w.requires_grad_(False) for n, w in learner.named_parameters() if not n.endswith(".architecture")]
    assert others
    check_finite_differences(learner, episode(learner))


@pytest.mark.parametrize("choice", ["relaxed", "sampled"])
def test_the_first_order_gradient_of_the_architecture_holds_the_adapted_weights_fixed(choice):
    learner = FOMAML(searched(choice=choice, cold=0.7).double(), steps=2, rate=0.01)
    batch, meta = episode(learner, 1), {n: w.detach() for n, w in learner.named_parameters()}
    found = gradient(learner, batch)
    (task,) = (type(batch)(*torch.utils._pytree.tree_map(lambda x: x[0], tuple(batch))),)
    with torch.no_grad():
        adapted = adapt(learner, task.support, task.support_noise, None, task.task_noise)
    for name in learner.generator.mixtures:
        for place in range(len(OPERATIONS)):
            shift = torch.zeros_like(adapted[name])
            shift[place] = 1e-6
            ends = [
                learner.query_losses({**adapted, name: adapted[name] + sign * shift}, task)["vae"] for sign in (1, -1)
            ]
            slope = (ends[0] - ends[1]) / 2e-6
            torch.testing.assert_close(found[f"generator.{name}"][place], slope, rtol=1e-5, atol=1e-6)
    second = MAML(learner.generator, steps=2, rate=0.01)
    exact, *_ = in_chunks(second.meta_gradient, second, meta, batch)
    assert any((exact[n] - found[n]).abs().max() > 1e-5 for n in found if n.endswith(".architecture"))


@pytest.mark.parametrize("choice", ["relaxed", "sampled"])
def test_the_inner_loop_never_moves_the_architecture(choice):
    learner = MAML(searched(choice=choice), steps=3, rate=0.01)
    difference = adapt_tasks(learner, images(2, torch.float32), (0, "test")).difference
    assert difference
    assert not [name for name in difference if "architecture" in name]
    with pytest.raises(MetagenError, match="matches no weight"):
        MAML(searched(), adapted_params=("*.architecture",))
    with pytest.raises(MetagenError, match=r"never be trained.*architecture"):
        Reptile(searched())


def test_gumbel_draws_are_one_a_task_and_choose_as_often_as_softmax_says():
    generator = searched(choice="sampled")
    learner = MAML(generator, steps=2)
    drawn = task_batch(learner, *images(3).split(3, 1), (0, "train", 0), range(3)).task_noise["generator"]
    assert drawn.keys() == generator.mixtures.keys()
    assert all(each.shape == (3, len(OPERATIONS)) for each in drawn.values())
    assert not any(torch.equal(each[0], each[1]) for each in drawn.values())
    name, mixed = next(iter(generator.mixtures.items()))
    logits = torch.linspace(-1, 1, len(OPERATIONS))
    times = 2000
    each = next(iter(generator.task_noise(Draws((0,), rows_of(range(times)))).values()))  # those of the first place
    chosen = [int(generator.for_task({name: logits}, {name: d})[name].argmax()) for d in each]
    share = torch.bincount(torch.tensor(chosen), minlength=len(OPERATIONS)) / times
    error = (logits.softmax(0) * (1 - logits.softmax(0)) / times).sqrt()
    assert ((share - logits.softmax(0)).abs() < 4 * error).all()
    assert searched(choice="relaxed").task_noise(Draws((0,))) == {}
    assert mixed.temperature == generator.cold


def test_the_temperature_falls_from_warm_to_cold_and_a_loaded_model_is_cold():
    generator, seen = searched(warm=2.0, cold=0.02), []
    learner = MAML(generator, steps=1)
    for progress in (0.0, 0.5, 1.0):
        learner.anneal(progress)
        seen.append([mixed.temperature for mixed in generator.mixtures.values()])
    for found, expected in zip(seen, (2.0, 0.2, 0.02), strict=True):
        assert found == pytest.approx([expected] * 4)
    assert {mixed.temperature for mixed in searched(warm=2.0, cold=0.02).mixtures.values()} == {0.02}


class Shifted(SearchVAE):
    """A search judged by how well its first mixture alone moves what it sees by two pixels, as `dilated` can."""

    def loss(self, player, images, noise, context):
        mixed = next(iter(self.mixtures.values()))
        x = images.expand(-1, 4, -1, -1)
        target = torch.nn.functional.silu(x.roll((2, 2), (2, 3)))
        return (mixed(x) - target)[..., 2:, 2:].square().mean() + 0 * sum(w.sum() for w in self.parameters())


@pytest.mark.parametrize(("kind", "choice"), [(MAML, "relaxed"), (FOMAML, "relaxed"), (MAML, "sampled")])
def test_a_planted_operation_is_found(kind, choice):
    """White noise moved by two pixels: a 3x3 filter reaches one, a dilated one reaches two."""
    torch.manual_seed(0)
    generator = Shifted(8, latent=2, widths=(4,), operations=("skip", "conv3", "dilated", "conv1"), choice=choice)
    learner = kind(generator, steps=1, rate=0.01)
    parameters = dict(learner.named_parameters())
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.02)
    for step in range(40):
        learner.anneal(step / 40)
        drawn = torch.randn(2, 8, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        batch = task_batch(learner, drawn[:, :4], drawn[:, 4:], (0, "train", step), range(2))
        meta = {name: w.detach() for name, w in parameters.items()}
        for name, g in in_chunks(learner.meta_gradient, learner, meta, batch)[0].items():
            parameters[name].grad = g
        optimiser.step()
    assert generator.searched["blocks"][0] == "dilated"


def test_depth_is_as_it_was_before_blocks():
    """Names and outputs of a VAE of that many 3x3 convolutions, which saved models depend on."""
    deep, blocks = tiny_vae(depth=1), tiny_vae(blocks=("conv3",) * 4)
    names = [n for n, _ in deep.named_parameters() if n.startswith("encoder.convs") and n.endswith("weight")]
    assert names == [f"encoder.convs.{n}.weight" for n in (0, 3, 6, 9)]
    names = [n for n, _ in deep.named_parameters() if n.startswith("decoder.convs") and n.endswith("weight")]
    assert names == [f"decoder.convs.{n}.weight" for n in (2, 5, 8, 11)]
    ordered = zip(blocks.state_dict(), deep.state_dict().values(), strict=True)
    blocks.load_state_dict(dict(ordered))
    support, noise = images(1, torch.float32)[0], deep.noise(6, Draws((0,)))
    assert torch.equal(deep.support_loss("vae", support, noise), blocks.support_loss("vae", support, noise))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": ("conv3", "conv3")}, "blocks: expected depth 0 and 4 operations"),
        ({"blocks": ("conv3",) * 4, "depth": 1}, "got depth 1"),
        ({"blocks": ("conv33", "skip", "skip", "skip")}, "unknown operation 'conv33': did you mean conv3"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(options, message):
    with pytest.raises(MetagenError, match=message) as refused:
        tiny_vae(**options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"choice": "gumbel"}, "unknown choice"),
        ({"cold": 0.0}, "0 < cold <= warm"),
        ({"cold": 2.0}, "0 < cold <= warm"),
        ({"operations": ("skip",)}, "two or more different ones"),
        ({"operations": ("skip", "skip")}, "two or more different ones"),
        ({"operations": ("skip", "conv7")}, "unknown operation"),
    ],
)
def test_a_search_that_cannot_be_is_refused(options, message):
    with pytest.raises(MetagenError, match=message):
        searched(**options)


def test_validation_judges_the_cold_mixture_that_is_exported(fit, blobs, tmp_path):
    generator = ("--model.generator", "SearchVAE", "--model.generator.operations", '["skip", "conv3"]')
    options = ("--model.generator.latent", "2", "--model.generator.widths", "[2, 4]", "--model.rate", "0.1")
    assert fit(tmp_path, *generator, *options, "--model.generator.warm", "9", "--data.episodes", "4") == 0
    learner, info, _ = load_model(tmp_path / "export")
    module = MetaTraining(learner.generator, lambda _: learner)
    data = EpisodeData("folder", str(blobs / "tasks"), split_file=str(blobs / "split.json"), shots=2, queries=3)
    for batch, episode in enumerate(data.episodes.held_out("val", 4, 3)):
        module.validation_step(episode, batch)
    assert module.means[module.monitored].compute().item() == pytest.approx(info["training"]["best_val"], rel=1e-6)


def test_fit_writes_the_config_of_what_was_found_and_it_runs(fit, tmp_path, capsys):
    place = tmp_path / "search"
    generator = ("--model.generator", "SearchVAE", "--model.generator.operations", '["skip", "conv3"]')
    assert fit(place, *generator, "--model.generator.latent", "2", "--model.generator.widths", "[2, 4]") == 0
    assert f"metagen fit --config {place / 'found.yaml'}" in capsys.readouterr().out
    assert main(["fit", "--config", str(place / "found.yaml")]) == 0
    search, plain = (load_model(tmp_path / name / "export")[0] for name in ("search", "search-found"))
    assert type(plain.generator) is VAE
    assert isinstance(search.generator, SearchVAE)
    assert plain.generator.blocks == search.generator.searched["blocks"]
    first, second = (
        json.loads((tmp_path / n / "export" / "config.json").read_text()) for n in ("search", "search-found")
    )
    assert first["learner"] == second["learner"]
    assert first["info"]["data"] == second["info"]["data"]
    assert not (tmp_path / "search-found" / "found.yaml").exists()
