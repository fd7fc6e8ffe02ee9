"""A network that writes low-rank weights: its start, what it may depend on, its gradient, and what a zoo teaches it."""

from __future__ import annotations

import copy
import json
import shlex

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from metagen.adaptation import in_chunks, task_batch
from metagen.adaptation.attention import Block
from metagen.cli import main
from metagen.core.philox import Draws
from metagen.learners import Adapted, MetaGenerator, adapt_tasks
from metagen.learners.conditioned.meta_generator import relative_error
from metagen.model import load
from metagen.storage.images import save_pngs
from tests.doubles import Blobs, tiny_generator, tiny_vae
from tests.test_meta_gradients import batch_for, check_finite_differences, gradient, meta_of

SMALL = {"rank": 1, "width": 8, "widths": (4, 8)}


def writer(generator, spoken=True, **options):
    """A learner whose heads write something, unless they are not to."""
    learner = MetaGenerator(generator, **{**SMALL, **options})
    with torch.no_grad():
        for head in learner.writer.heads.parameters() if spoken else ():
            head.normal_(std=0.1)
    return learner


def images(tasks, count, double=False):
    rng = torch.Generator().manual_seed(tasks)
    return torch.rand(tasks, count, 1, 8, 8, generator=rng, dtype=torch.float64 if double else torch.float32)


@pytest.mark.parametrize("name", ["vae", "redraw", "r3"])
def test_it_begins_as_the_base_model_to_the_bit(name):
    torch.manual_seed(0)
    base = tiny_generator(name)
    learner, support = writer(copy.deepcopy(base), spoken=False), images(2, 3)
    adapted = adapt_tasks(learner, support, (0, "test"))
    assert adapted.difference.keys() == learner.adapted_names
    draws = [base.noise(5, Draws((seed,))) for seed in (1, 2)]
    noise = {key: torch.stack([draw[key] for draw in draws]) for key in draws[0]}
    plain = Adapted(base, {n: torch.zeros(2, *w.shape) for n, w in base.named_parameters()}, support)
    assert torch.equal(adapted.generate(noise), plain.generate(noise))
    spoken = adapt_tasks(writer(copy.deepcopy(base)), support, (0, "test"))
    assert not torch.equal(spoken.generate(noise), plain.generate(noise))


def test_the_order_of_the_support_is_of_no_matter_and_its_images_are():
    torch.manual_seed(0)
    learner, support = writer(tiny_vae().double()), images(1, 5, double=True)
    turned, other = support[:, [3, 0, 4, 2, 1]], torch.cat([support[:, :4], 1 - support[:, 4:]], 1)
    first, second, third = (adapt_tasks(learner, each, (0, "test")).difference for each in (support, turned, other))
    for name, d in first.items():
        torch.testing.assert_close(second[name], d, rtol=0, atol=1e-12)
        assert (third[name] - d).abs().max() > 1e-6


@pytest.mark.parametrize("steps", [0, 2])
def test_of_an_empty_support_nothing_is_written(steps):
    torch.manual_seed(0)
    learner = writer(tiny_vae(), steps=steps)
    found = adapt_tasks(learner, images(2, 0), (0, "test"), steps=0).difference
    assert all(d.shape[0] == 2 and not d.any() for d in found.values())
    batch = batch_for(learner, images(2, 0), images(2, 3))
    assert all(g.isfinite().all() for g in gradient(learner, batch).values())


def test_attention_is_that_of_the_library():
    torch.manual_seed(0)
    block, tokens, others = Block(8), torch.randn(3, 8), torch.randn(5, 8)
    with torch.no_grad():
        for part in block.mix.parameters():
            part.zero_()
        own = block.norms[0](tokens)
        seen = torch.cat([own, block.norms[1](others)])
        looked = scaled_dot_product_attention(block.query(own)[None], block.key(seen)[None], block.value(seen)[None])
        torch.testing.assert_close(block(tokens, others), tokens + block.out(looked[0]))


def test_a_sketch_tells_weights_apart_and_is_relative_to_their_size():
    torch.manual_seed(0)
    writes = writer(tiny_vae().double()).writer
    weights = {name: torch.randn(7, 9, dtype=torch.float64) for name in writes.written.values()}
    found, larger = writes.sketches(weights), writes.sketches({name: 3 * w for name, w in weights.items()})
    torch.testing.assert_close(larger[:, 1:], found[:, 1:])
    torch.testing.assert_close(larger[:, 0], found[:, 0] + torch.tensor(3.0).double().log())
    first = next(iter(weights.values())).flatten()
    signs, size = writes.signs.double(), first.square().mean().sqrt()
    by_hand = sum(first[i] / size * signs[i] for i in range(4, 63, 30)) / 3**0.5
    torch.testing.assert_close(found[0, 2 + 4], by_hand)
    assert len({tuple(row) for row in found.tolist()}) == len(weights)


def planted(learner, tasks):
    """Other targets for each task."""
    weights, rng = dict(learner.named_parameters()), torch.Generator().manual_seed(9)
    shapes = {name: weights[f"generator.{name}"].shape for name in sorted(learner.adapted_names)}
    return {
        name: torch.randn(tasks, *shape, generator=rng).to(next(iter(weights.values())))
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("steps", [0, 2])
@pytest.mark.parametrize("name", ["vae", "r3"])
def test_the_gradient_with_a_zoo_is_that_of_finite_differences(name, steps):
    torch.manual_seed(0)
    learner = writer(tiny_generator(name).double(), steps=steps, layers=("*",))
    learner.regress, all_of_them = 3.0, images(2, 5, double=True)
    batch = batch_for(learner, all_of_them[:, :2], all_of_them[:, 2:])
    check_finite_differences(learner, batch._replace(targets=planted(learner, 2)))


def test_the_error_is_relative_to_the_target_and_none_of_a_task_that_is_not_there():
    target, found = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 9.0]], requires_grad=True)
    assert relative_error(found, target).item() == pytest.approx(25 / 25)
    nothing = relative_error(found, torch.zeros(1, 2))
    (slope,) = torch.autograd.grad(nothing, found)
    assert nothing.item() == 0
    assert torch.equal(slope, torch.zeros(1, 2))


def test_each_player_hears_of_its_own_layers_alone():
    torch.manual_seed(0)
    learner = writer(tiny_generator("r3").double(), layers=("*",))
    batch = batch_for(learner, images(2, 2, double=True), images(2, 3, double=True))
    targets = planted(learner, 2)
    bare, losses, _ = learner.objectives(next(one_by_one(batch)))
    taught, same, _ = learner.objectives(next(one_by_one(batch._replace(targets=targets))))
    begun, _ = learner.begin(batch.support[0])
    for player in learner.generator.players:
        own = [name for name in targets if name.startswith(f"{player}.")]
        by_hand = [(begun[n] - targets[n][0]).square().sum() / targets[n][0].square().sum() for n in own]
        torch.testing.assert_close(taught[player] - bare[player], sum(by_hand) / len(own))
        assert torch.equal(losses[player], same[player])
        heads = [n for n, _ in learner.named_parameters() if f"writer.heads.{player}/" in n]
        assert heads
        assert {learner.player_of(name) for name in heads} == {player}


def one_by_one(batch):
    for number in range(len(batch.support)):
        yield torch.utils._pytree.tree_map(lambda x, n=number: x[n], batch)


@pytest.fixture(scope="module")
def taught():
    """A frozen learner that was taught other targets for each of four tasks, of which the zoo lacks the last one."""
    torch.manual_seed(0)
    learner = writer(tiny_vae(), spoken=False, frozen=True)
    learner.regress, supports = 1e4, images(4, 6)
    targets = planted(learner, 4)
    batch = task_batch(learner, supports[:, :3], supports[:, 3:], (0, "train"), range(4), unknown(targets, 3))
    parameters, before = dict(learner.named_parameters()), meta_of(learner)
    optimiser = torch.optim.Adam(learner.parameters(), lr=0.02)
    for _ in range(150):
        for name, g in in_chunks(learner.meta_gradient, learner, meta_of(learner), batch)[0].items():
            parameters[name].grad = g
        optimiser.step()
    return learner, supports[:, :3], targets, before


def unknown(targets, task):
    return {name: torch.cat([each[:task], torch.zeros_like(each[task:])]) for name, each in targets.items()}


def error(learner, supports, targets):
    found = adapt_tasks(learner, supports, (0, "test")).difference
    each = [(found[n] - t).square().flatten(1).sum(1) / t.square().flatten(1).sum(1) for n, t in targets.items()]
    return torch.stack(each).mean(0)


def test_what_is_written_comes_near_a_zoo_s_models(taught):
    learner, supports, targets, _ = taught
    found = error(learner, supports, targets)
    assert found[:3].max() < 0.1 < 0.5 < found[3]
    assert error(learner, supports[[1, 2, 0]], {n: t[:3] for n, t in targets.items()}).min() > 0.5


def test_without_the_weights_it_writes_something_else(taught, monkeypatch):
    learner, supports, targets, _ = taught
    sketches, before = learner.writer.sketches, error(learner, supports, targets)[:3]
    monkeypatch.setattr(learner.writer, "sketches", lambda weights: torch.zeros_like(sketches(weights)))
    assert error(learner, supports, targets)[:3].mean() > 2 * before.mean()


def test_a_frozen_base_stays_as_it_is(taught):
    learner, _, _, before = taught
    now = dict(learner.named_parameters())
    moved = {name for name, w in before.items() if not torch.equal(now[name], w)}
    assert moved
    assert not any(name.startswith("generator.") for name in moved)
    steps = writer(tiny_vae(), steps=2, frozen=True)
    found = gradient(steps, batch_for(steps, images(2, 2), images(2, 3)))
    assert not any(g.any() for name, g in found.items() if name.startswith("generator."))
    assert all(g.any() for name, g in found.items() if name.startswith("writer."))


def test_from_a_joint_model_to_samples_on_the_command_line(exported, fit, blobs, tmp_path, capsys):
    where = ["--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json")]
    zoo, run, mine = tmp_path / "zoo", tmp_path / "run", tmp_path / "mine"
    words = ["--tasks", "6", "--rank", "2", "--layers", "[decoder.*]", "--steps", "3", "--chunk", "4"]
    assert main(["zoo", "--model", str(exported), *where, *words, "--out", str(zoo)]) == 0
    advice = shlex.split(capsys.readouterr().out.partition("metagen fit ")[2])
    assert fit(run, *advice, "--model.learner.width", "8", "--model.regress", "2") == 0
    learner = ["--model.learner", "MetaGenerator", "--model.learner.steps", "0", "--model.learner.rank", "2"]
    learner += ["--model.learner.layers", "[decoder.*]", "--model.learner.width", "8"]
    given = ["--model.zoo", str(zoo), "--model.regress", "2"]
    model = load(run / "export")
    assert isinstance(model.learner, MetaGenerator)
    assert model.info["training"]["zoo"]["regress"] == 2
    assert (
        model.info["training"]["zoo"]["weights_sha256"]
        == json.loads((zoo / "config.json").read_text())["weights_sha256"]
    )
    save_pngs(Blobs(tasks=20, images=4).images("blob-19"), tmp_path / "support")
    assert (
        main(["adapt", "--model", str(run / "export"), "--support", str(tmp_path / "support"), "--out", str(mine)]) == 0
    )
    again = load(mine)
    assert again.adapted.difference.keys() == model.learner.adapted_names
    assert any(d.any() for d in again.adapted.difference.values())
    assert again.sample(2).isfinite().all()
    capsys.readouterr()
    assert fit(tmp_path / "none", *learner, *given) == 2
    assert "give that model as --model.initial" in capsys.readouterr().err
    assert fit(tmp_path / "none", *learner, "--model.learner.frozen", "true") == 2
    assert "initial: MetaGenerator (frozen) keeps the generator" in capsys.readouterr().err
    assert fit(tmp_path / "none", *given, "--model.initial", str(exported)) == 2
    assert "MAML writes no weights" in capsys.readouterr().err
    for options, said in (
        (["--data.turns", "true", *given], "no models of turned tasks"),
        (["--model.regress", "2"], "there is no zoo to learn from"),
    ):
        assert fit(tmp_path / "none", *learner, *options, "--model.initial", str(exported)) == 2
        assert said in capsys.readouterr().err


def test_a_zoo_of_held_out_tasks_is_refused(exported, fit, blobs, tmp_path, capsys):
    where = ["--data.root", str(blobs / "tasks"), "--data.split_file", str(blobs / "split.json")]
    zoo = tmp_path / "zoo"
    assert main(["zoo", "--model", str(exported), *where, "--rank", "1", "--steps", "1", "--out", str(zoo)]) == 0
    config = json.loads((zoo / "config.json").read_text())
    config["info"]["tasks"][0] = load(exported).split.val[0]
    (zoo / "config.json").write_text(json.dumps(config))
    learner = ["--model.learner", "MetaGenerator", "--model.learner.rank", "1", "--model.initial", str(exported)]
    assert fit(tmp_path / "run", *learner, "--model.zoo", str(zoo)) == 2
    assert "was trained or chosen on 1 of these val tasks" in capsys.readouterr().err
