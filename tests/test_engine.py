"""A network that writes the update rule: how it begins, what it depends on, and that a rule is of its task."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import nn

import metagen
from metagen.adaptation import Rule, adapt, in_chunks, task_batch
from metagen.cli import main
from metagen.core.functional import over_tasks
from metagen.errors import MetagenError
from metagen.generators import Generator
from metagen.learners import MAML, RuleEngine
from metagen.learners.model_files import build, describe, save_model
from metagen.model import Model
from metagen.storage.images import save_pngs
from tests.doubles import Quadratic, tiny_generator, tiny_vae
from tests.test_meta_gradients import check_finite_differences

CURVATURE = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64))
IMAGES = torch.rand(5, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
NO_NOISE = {"quadratic": {"none": torch.zeros(9, 5)}}


class Slopes(Generator):
    """L(w; images) = c / 2 |w - m|^2: m is the upper row of the mean image, and c = 1 to 9 by how bright the lower is.

    One step from anywhere is perfect at rate 1 / c, and at no other: the best rate can be read off the support.
    """

    players: ClassVar[tuple[str, ...]] = ("slopes",)
    size, channels = 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def noise(self, n, draws):
        return {"none": draws.uniform(n)}

    def loss(self, player, images, noise, context):
        upper, lower = images.mean((0, 1))
        return 0.5 * (1 + 8 * lower.mean()) * (self.weight - upper).square().sum()

    def sample(self, noise, context):
        return self.weight.expand(1, 1, 2, 2)


def slopes(tasks, seed):
    """[tasks, 6, 1, 2, 2] in [0, 1], and c of each task."""
    rng = torch.Generator().manual_seed(seed)
    upper = torch.rand(tasks, 1, 1, 1, 2, generator=rng) + 0.05 * torch.randn(tasks, 6, 1, 1, 2, generator=rng)
    lower = torch.rand(tasks, 1, 1, 1, 1, generator=rng)
    return torch.cat([upper.clamp(0, 1), lower.expand(tasks, 6, 1, 1, 2)], -2), 1 + 8 * lower.flatten()


@pytest.fixture(scope="module")
def trained():
    """An engine after 300 meta-steps on tasks whose best rates differ."""
    torch.manual_seed(0)
    learner = RuleEngine(Slopes(), steps=1, rate=0.3, widths=(8,))
    parameters = dict(learner.named_parameters())
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.01)
    for step in range(300):
        images, _ = slopes(16, step)
        batch = task_batch(learner, images[:, :3], images[:, 3:], (0, "train", step), range(16))
        meta = {name: w.detach() for name, w in parameters.items()}
        for name, g in in_chunks(learner.meta_gradient, learner, meta, batch).gradients.items():
            parameters[name].grad = g
        optimiser.step()
    return learner.requires_grad_(False)


def emits_something(learner):
    """The same learner, its last layers away from 0."""
    with torch.no_grad():
        for weight in (*learner.step.of_layer.parameters(), *learner.step.of_weight.parameters()):
            weight.add_(0.3 * torch.randn_like(weight))
    return learner


def test_at_its_beginning_it_is_gradient_descent_to_the_last_bit():
    torch.manual_seed(0)
    vae, support, noise = tiny_vae(), torch.rand(4, 1, 8, 8), {"vae": {"latent": torch.randn(3, 4, 2)}}
    engine, maml = RuleEngine(vae, rate=0.02, momentum=0.0), MAML(vae, rate=0.02)
    found, expected = (adapt(learner, support, noise, 3) for learner in (engine, maml))
    assert all(torch.equal(found[name], w) for name, w in expected.items())


def test_momentum_rate_and_preconditioner_are_those_of_the_library():
    """Rates of single weights: torch has them as groups of one."""
    learner = RuleEngine(Quadratic(CURVATURE), rate=0.05, momentum=0.7, widths=(4,))
    factors = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)
    with torch.no_grad():  # the last column is multiplied by 1: the rest stays 0, and the code does not count
        learner.step.of_weight["weight"][:, -1] = 3 * torch.atanh(factors.log() / 3)
        learner.step.of_layer["weight"][0, -1] = 3 * torch.atanh(torch.tensor(1.5).log() / 3)
    found = adapt(learner, IMAGES, NO_NOISE, 9)["weight"]
    twins = [torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(4)]
    groups = [{"params": [w], "lr": 0.05 * 1.5 * factor.item()} for w, factor in zip(twins, factors, strict=True)]
    optimiser = torch.optim.SGD(groups, momentum=0.7)
    for _ in range(9):
        optimiser.zero_grad()
        gap = torch.stack(twins) - IMAGES.mean(0).flatten()
        (0.5 * gap @ CURVATURE @ gap).backward()
        optimiser.step()
    torch.testing.assert_close(found, torch.stack(twins), rtol=0, atol=1e-7)


def test_a_preconditioner_lies_along_the_channels_that_a_layer_puts_out():
    torch.manual_seed(0)
    vae = tiny_vae(norm="group", likelihood="gaussian")
    learner = emits_something(RuleEngine(vae))
    rule = learner.rule(torch.rand(3, 1, 8, 8))
    modules = dict(vae.named_modules())
    for name, factor in rule.preconditioners.items():
        layer = modules[name.rpartition(".")[0]]
        count = getattr(layer, "out_channels", getattr(layer, "out_features", getattr(layer, "num_channels", 1)))
        assert factor.shape == (count,), name
    state = learner.begin(torch.rand(3, 1, 8, 8))[1]
    transposed = next(n for n, m in modules.items() if isinstance(m, nn.ConvTranspose2d) and m.out_channels > 1)
    assert state[f"{transposed}.weight"][0].shape == (1, modules[transposed].out_channels, 1, 1)


def test_the_order_of_the_support_does_not_matter_but_the_support_does():
    torch.manual_seed(0)
    learner = emits_something(RuleEngine(tiny_vae().double()))
    support = torch.rand(5, 1, 8, 8, dtype=torch.float64)
    rule, turned, other = (learner.rule(s) for s in (support, support[[3, 1, 4, 0, 2]], support / 2))
    for part, same, different in zip(rule, turned, other, strict=True):
        for name, value in part.items():
            torch.testing.assert_close(same[name], value, rtol=1e-12, atol=0)
            assert not torch.allclose(different[name], value, rtol=1e-6)


def test_without_a_support_there_is_a_rule_and_no_step():
    torch.manual_seed(0)
    learner = emits_something(RuleEngine(tiny_vae()))
    nothing = torch.zeros(0, 1, 8, 8)
    assert all(value.isfinite().all() for part in learner.rule(nothing) for value in part.values())
    adapted = adapt(learner, nothing, {"vae": {"latent": torch.zeros(0, 0, 2)}}, 0)
    assert all(torch.equal(adapted[name], w) for name, w in learner.start().items())


def test_what_is_emitted_stays_in_bounds_however_large_the_last_layers_become():
    torch.manual_seed(0)
    learner = emits_something(RuleEngine(tiny_vae(), rate=0.1))
    with torch.no_grad():
        for weight in learner.step.parameters():
            weight.mul_(1e4)
    rule = learner.rule(torch.rand(3, 1, 8, 8))
    assert all(0.1 * 0.049 < rate < 0.1 * 20.1 for rate in rule.rates.values())
    assert all(0 < momentum < 1 for momentum in rule.momenta.values())
    assert all(((factor > 0.049) & (factor < 20.1)).all() for factor in rule.preconditioners.values())


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    learner = emits_something(RuleEngine(tiny_generator("vae").double(), steps=3, rate=1e-3, widths=(4,), code=5))
    images = torch.rand(2, 5, 1, 8, 8, dtype=torch.float64)
    check_finite_differences(learner, task_batch(learner, images[:, :2], images[:, 2:], (0, "test"), range(2)))


def test_the_rate_that_is_learned_is_the_one_that_suits_the_task(trained):
    images, slope = slopes(64, 10_000)
    rules = over_tasks(trained.rule, shared=0)(images[:, :3])
    rate = (rules.rates["weight"][:, None] * rules.preconditioners["weight"]).mean(1)
    assert torch.corrcoef(torch.stack([rate.log(), -slope.log()]))[0, 1] > 0.9


def test_another_tasks_rule_is_worse(trained):
    """The gradients stay those of the own support: only the rule is another's."""
    images, _ = slopes(512, 10_001)
    support = images[:, :3]
    batch = task_batch(trained, support, images[:, 3:], (0, "test"), range(512))

    def loss(read, task):
        return trained.query_losses(adapt(trained, task.support, task.support_noise, read=read), task)["slopes"]

    own, others = (over_tasks(loss, shared=0)(read, batch) for read in (support, support.roll(1, 0)))
    worse = others - own
    assert worse.mean() > 5 * worse.std() / len(worse) ** 0.5


def test_the_rule_of_ones_own_support_is_how_one_adapts():
    torch.manual_seed(0)
    learner = emits_something(RuleEngine(tiny_vae(), rate=0.01))
    support, noise = torch.rand(2, 4, 1, 8, 8), {"vae": {"latent": torch.randn(3, 4, 2)}}
    plain = adapt(learner, support[0], noise, 3)
    own, other = (adapt(learner, support[0], noise, 3, read=read) for read in support)
    assert all(torch.equal(own[name], w) for name, w in plain.items())
    assert not torch.equal(other["decoder.stem.bias"], plain["decoder.stem.bias"])


# The rule as a value


def test_a_rule_can_be_read_plotted_and_kept():
    rule = Rule(
        {"stem": torch.tensor(0.25), "head": torch.tensor(0.5)},
        {"stem": torch.tensor(0.125), "head": torch.tensor(0.0)},
        {"stem.weight": torch.tensor([0.5, 2.0]), "stem.bias": torch.ones(2), "head.weight": torch.ones(1)},
    )
    heading, stem, head = rule.table().split("\n")
    assert heading.split() == ["layer", "rate", "momentum", "preconditioners"]
    assert stem.split() == ["stem", "0.25", "0.125", "weight", "0.500", "to", "2.000,", "bias", "1.000", "to", "1.000"]
    assert head.split()[:3] == ["head", "0.5", "0.000"]
    described = json.loads(json.dumps(rule.described()))
    assert described["layers"]["stem"] == {"rate": 0.25, "momentum": 0.125}
    assert described["preconditioners"]["stem.weight"] == [0.5, 2.0]
    picture = rule.picture()
    assert picture.mode == "RGB"
    faster = rule._replace(rates={**rule.rates, "head": torch.tensor(0.9)})
    assert picture.tobytes() != faster.picture().tobytes()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with images, a saved engine and a saved model without rules."""
    root = tmp_path_factory.mktemp("engine")
    torch.manual_seed(0)
    save_pngs((255 * torch.rand(3, 1, 8, 8)).to(torch.uint8).float() / 255, root / "images")
    for name, learner in (("engine", emits_something(RuleEngine(tiny_vae()))), ("maml", MAML(tiny_vae()))):
        save_model(root / name, learner, {})
    return root


def test_adapting_shows_the_rule_and_keeps_it_beside_the_model(place, tmp_path, capsys):
    words = ["adapt", "--support", str(place / "images"), "--out", str(tmp_path / "mine"), "--model"]
    assert main([*words, str(place / "engine")]) == 0
    rule = metagen.load(place / "engine").rule(place / "images")
    assert rule.table() in capsys.readouterr().out
    assert json.loads((tmp_path / "mine" / "rule.json").read_text()) == rule.described()
    with Image.open(tmp_path / "mine" / "rule.png") as picture:
        assert picture.tobytes() == rule.picture().tobytes()
    expected = metagen.load(place / "engine").adapt(place / "images").sample(2)
    assert torch.equal(metagen.load(tmp_path / "mine").sample(2), expected)

    assert main([*words, str(place / "maml"), "--overwrite"]) == 0
    assert not list((tmp_path / "mine").glob("rule.*"))


def test_a_model_without_rules_says_so(place):
    with pytest.raises(MetagenError, match="rule: expected a model with the learner RuleEngine, got MAML"):
        metagen.load(place / "maml").rule(place / "images")
    with pytest.raises(MetagenError, match="rule: got no image"):
        Model(RuleEngine(tiny_vae()), {}).rule(torch.zeros(0, 1, 8, 8))


def test_widths_follow_from_the_size_where_none_are_given():
    learner = RuleEngine(tiny_vae(size=28), widths=None)
    assert learner.widths == learner.step.encoder.widths == (32, 64)
    assert build(describe(learner)).state_dict().keys() == learner.state_dict().keys()


def test_mistakes_are_told_in_one_line():
    with pytest.raises(MetagenError, match="rate: expected a finite number above 0"):
        RuleEngine(tiny_vae(), rate=-1.0)
    with pytest.raises(MetagenError, match="momentum: expected 0 or more and less than 1"):
        RuleEngine(tiny_vae(), momentum=1.0)
    with pytest.raises(MetagenError, match="code: expected 3 or more"):
        RuleEngine(tiny_vae(), code=0)
    with pytest.raises(MetagenError, match="halvings need a size"):
        RuleEngine(tiny_vae(), widths=(4, 4, 4, 4))
