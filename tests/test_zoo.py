"""A zoo: many tasks' models trained at once, against each trained alone; what is written, and what is refused."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace

import pytest
import torch

from metagen.adaptation import add_deltas, draw_noise
from metagen.cli import main
from metagen.commands.zoo import zoo
from metagen.distributed.processes import Processes
from metagen.errors import MetagenError
from metagen.generators import GAN
from metagen.learners import MAML, Joint, MetaGenerator
from metagen.learners.model_files import load_model, save_model
from metagen.model import Model, load
from metagen.tasks.splits import Split
from metagen.training.episode_data import EpisodeData
from metagen.training.model_zoo import Plan, Training, Zoo, check_taught, learning_from, make_zoo, zoo_for
from metagen.training.zoo_files import load_zoo, save_zoo
from tests.doubles import TINY, tiny_vae

LAYERS = ("decoder.*",)
PLAN = Plan(tasks=5, images=4, rank=2, layers=LAYERS, steps=3, rate=0.01, seed=0)


@pytest.fixture(scope="module")
def data(blobs):
    return EpisodeData("folder", str(blobs / "tasks"), split_file=str(blobs / "split.json"))


@pytest.fixture(scope="module")
def made(exported, data, tmp_path_factory):
    """A zoo's folder."""
    out = tmp_path_factory.mktemp("zoo") / "zoo"
    make_zoo(str(exported), out, data, PLAN, Processes(), 2, False)
    return out


def test_each_model_is_what_training_it_alone_gives(made, exported, data):
    training, found = Training("base", load(exported), data, PLAN), Zoo(*load_zoo(made))
    assert found.info["tasks"] == training.names
    for place, number in enumerate(training.numbers):
        generator = load_model(exported)[0].generator
        adapted_params = add_deltas(generator, PLAN.rank, LAYERS, fixed=True)
        weights = dict(generator.named_parameters())
        own = [weights[name].requires_grad_() for name in adapted_params]
        optimiser, support = torch.optim.Adam(own, PLAN.rate), training.support([number])[0]
        latents = draw_noise(generator, (0, "zoo", "support"), [number], 4, PLAN.steps)["vae"]["latent"][0, :, 0]
        for latent in latents:
            optimiser.zero_grad()
            generator.loss("vae", support, {"latent": latent}, None).backward()
            optimiser.step()
        for name in adapted_params:
            alone = weights[name].detach()
            assert (found.deltas[name][place] - alone).norm() < 1e-2 * alone.norm()  # Adam makes much of rounding
            assert alone.abs().max() > 0.01


def test_it_trains_on_images_of_train_tasks_and_tells_what_that_gained(made, exported, data):
    training, info = Training("base", load(exported), data, PLAN), load_zoo(made)[1]
    assert set(training.names) <= set(data.task_set.split.train)
    for number, images in zip(training.numbers, training.support(training.numbers), strict=True):
        there = data.task_set.images(data.task_set.split.train[number]).float() / 255
        places = [[torch.equal(image, other) for other in there].index(True) for image in images]
        assert len(set(places)) == PLAN.images
    assert info["loss_after"][0] < info["loss_before"][0]
    assert info["base_sha256"] == load(exported).weights_hash
    assert info["split_sha256"] == data.task_set.split.hash


def test_a_task_s_model_does_not_depend_on_the_others(made, exported, data, tmp_path):
    make_zoo(str(exported), tmp_path / "more", data, Plan(None, 4, 2, LAYERS, 3, 0.01, 0), Processes(), 4, False)
    few, all_of_them = (Zoo(*load_zoo(place)) for place in (made, tmp_path / "more"))
    assert len(all_of_them.info["tasks"]) == len(data.task_set.split.train)
    for name, deltas in all_of_them.of(few.info["tasks"]).items():
        assert (deltas - few.deltas[name]).norm() < 1e-2 * deltas.norm()


def test_what_is_fixed_depends_on_the_layer_s_name_alone():
    torch.manual_seed(0)
    first, second = tiny_vae(), tiny_vae()
    adapted_params = [add_deltas(vae, 2, ("*",), fixed=True) for vae in (first, second)]
    assert adapted_params[0] == adapted_params[1]
    assert all(name.endswith(".left") for name in adapted_params[0])
    ours, theirs = (dict(vae.named_buffers()) for vae in (first, second))
    assert len(ours) == len(adapted_params[0])
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len({float(right[0, 0]) for right in ours.values()}) == len(ours)
    assert not any(name.endswith(".right") for name, _ in first.named_parameters())


def test_a_game_s_zoo_changes_its_generator_and_tells_both_losses(blobs, data, tmp_path):
    torch.manual_seed(0)
    game = Joint(GAN(**{**TINY["r3"], "size": 28, "widths": (2, 2)}))
    model = Model(game, {"data": data.description}, split=data.task_set.split)
    training = Training("game", model, data, Plan(3, 3, 1, None, 2, 0.01, 0))
    found = training.train_batch(training.numbers[:2])
    assert found.pop("before").shape == found.pop("after").shape == (2, 2)
    assert all(name.startswith("generator.") and each.abs().sum() > 0 for name, each in found.items())


def test_what_is_saved_comes_back_to_the_bit_and_damage_is_told(tmp_path):
    deltas = {"a.left": torch.randn(3, 4, 2), "b.left": torch.randn(3, 5, 2)}
    info = {"tasks": ["x", "y", "z"], "base_sha256": "0" * 64}
    save_zoo(tmp_path / "zoo", deltas, info)
    again = Zoo(*load_zoo(tmp_path / "zoo"))
    assert again.info == info
    assert all(torch.equal(again.deltas[name], d) for name, d in deltas.items())
    rows = again.of(["z", "nobody's", "x"])
    assert torch.equal(rows["a.left"], torch.stack([deltas["a.left"][2], torch.zeros(4, 2), deltas["a.left"][0]]))
    with pytest.raises(MetagenError, match="expected a model, got a zoo"):
        load_model(tmp_path / "zoo")
    file = tmp_path / "zoo" / "deltas.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(MetagenError, match="SHA-256"):
        load_zoo(tmp_path / "zoo")
    save_zoo(tmp_path / "short", deltas, {**info, "tasks": ["x", "y"]})
    with pytest.raises(MetagenError, match="expected finite deltas of 2 tasks"):
        load_zoo(tmp_path / "short")


def writer(exported, **options):
    generator = load_model(exported)[0].generator
    return MetaGenerator(generator, **{"layers": LAYERS, "rank": 2, "widths": (2, 4), "width": 4, **options})


def test_a_learner_takes_the_zoo_of_its_own_base_and_deltas_alone(made, exported, tmp_path):
    learner = writer(exported)
    assert zoo_for(learner, str(made), str(exported), 3.0).info["rank"] == 2
    assert learner.regress == 3.0
    save_model(tmp_path / "other", Joint(tiny_vae(size=28, widths=(2, 4))), {})
    for initial in (str(tmp_path / "other"), None):
        with pytest.raises(MetagenError, match=r"made from the model with weights .*--model\.initial$"):
            zoo_for(learner, str(made), initial, 1.0)
    for options in ({"rank": 1}, {"layers": ("*",)}):
        with pytest.raises(MetagenError, match=r"has deltas of layers .* and rank 2; the learner's are"):
            zoo_for(writer(exported, **options), str(made), str(exported), 1.0)
    with pytest.raises(MetagenError, match=r"zoo: .*nosuch: expected a zoo, got no config.json; .* metagen zoo wrote"):
        zoo_for(learner, str(tmp_path / "nosuch"), str(exported), 1.0)
    with pytest.raises(MetagenError, match="MAML writes no weights"):
        zoo_for(MAML(tiny_vae()), str(made), str(exported), 1.0)


def test_a_zoo_and_who_learns_from_it_have_one_rank_unless_told_otherwise(tmp_path):
    one, other = (inspect.signature(each).parameters["rank"].default for each in (zoo, MetaGenerator))
    assert one == other
    plain = Plan(None, None, one, None, 60, 1e-3, 0)
    advice = learning_from(tmp_path, "omniglot", plain)
    assert advice[-2:] == ["--model.learner.rank", str(one)]
    assert learning_from(tmp_path, "omniglot", replace(plain, layers=("decoder.*", "!head"))) == [
        *(*advice, "--model.learner.layers", '["decoder.*", "!head"]')
    ]


def test_a_zoo_of_other_tasks_is_refused(made, data):
    zoo = Zoo(*load_zoo(made))
    check_taught("mine", zoo, data)
    foreign = Zoo(zoo.deltas, {**zoo.info, "tasks": [f"another {task}" for task in zoo.info["tasks"]]}, "")
    with pytest.raises(MetagenError, match="mine has no model of any train task"):
        check_taught("mine", foreign, data)


def test_more_tasks_than_there_are_is_refused(exported, data):
    count = len(data.task_set.split.train)
    with pytest.raises(MetagenError, match=f"tasks: there are {count} train tasks, got {count + 1}; take fewer"):
        Training("base", load(str(exported)), data, Plan(count + 1, 4, 2, LAYERS, 3, 0.01, 0))


def test_tasks_that_are_held_out_of_the_base_are_refused(exported, data, blobs, tmp_path):
    own = data.task_set.split
    for name, split, told in (
        (
            "theirs",
            Split((*own.train[:5], *own.test[:2]), own.val, own.test[2:]),
            "2 of these train tasks are held out",
        ),
        ("trained", Split(own.val, own.train[:5], own.test), "was trained or chosen on 5 of these val tasks"),
    ):
        (tmp_path / name).write_text(split.to_json())
        other = EpisodeData("folder", str(blobs / "tasks"), split_file=str(tmp_path / name))
        with pytest.raises(MetagenError, match=told):
            Training("base", load(exported), other, PLAN)


def test_mistakes_are_told_in_one_line(exported, blobs, capsys, tmp_path):
    words = ["zoo", "--model", str(exported), "--data.root", str(blobs / "tasks"), "--out", str(tmp_path / "zoo")]
    words += ["--data.split_file", str(blobs / "split.json"), "--rank", "1"]
    for options, told in (
        (["--images", "7"], "has 6, got 7"),
        (["--tasks", "0"], "tasks: expected 1 or more, got 0"),
        (["--rank", "100"], "rank: expected 1 to"),
        (["--layers", "[dekoder.*]"], "layers: 'dekoder.*' matches no weight"),
        (["--chunk", "0"], "chunk: expected 1 or more, got 0"),
        (["--rate", "0"], "rate: expected a finite number above 0"),
        (["--data.size", "32"], "makes images of 28 px and 1 channels"),
    ):
        assert main([*words, *options]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    assert not (tmp_path / "zoo").exists()


def test_a_stopped_zoo_is_gone_on_with(made, exported, data, tmp_path, monkeypatch):
    train, met = Training.train_batch, []

    def stops(self, numbers):
        met.append(list(numbers))
        if len(met) == 2:
            raise KeyboardInterrupt
        return train(self, numbers)

    monkeypatch.setattr(Training, "train_batch", stops)
    args = (str(exported), tmp_path / "zoo", data, PLAN, Processes(), 2, False)
    with pytest.raises(KeyboardInterrupt):
        make_zoo(*args)
    make_zoo(*args)
    assert met[0] not in met[1:]
    assert met[1] == met[2]
    whole, again = (load_zoo(place)[0] for place in (made, tmp_path / "zoo"))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert json.loads((tmp_path / "zoo" / "config.json").read_text())["kind"] == "zoo"
    assert not list(tmp_path.glob("*.unfinished"))
