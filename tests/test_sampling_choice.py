"""Sampling options chosen on val tasks: the criterion, the search, and what fit and tune write of the choice."""

from __future__ import annotations

import json

import pytest
import torch

import metagen
from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation import extractor_choice, sampling_choice
from metagen.evaluation.contenders import Contender
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.sampling_choice import FIGURES, Bench, Search, choose_sampling, distance_to_people
from metagen.evaluation.scorecard import measure
from metagen.generators import Redraw, with_sampling
from metagen.learners import Amortised
from metagen.metrics import Extractor
from metagen.model import Model
from metagen.tasks.episodes import Episodes
from metagen.training.episode_data import EpisodeData
from tests.doubles import VARIANTS, Blobs, UntouchableBlobs, tiny_generator

PEOPLE = {"fd": 1.0, "recognisability": 96.0, "diversity_relative": 100.0, "near_copies": 5.0}
AFFINE = {"fd": 8.0, "recognisability": 99.0, "diversity_relative": 50.0, "near_copies": 40.0}
GRID = {"temperature": (1.0, 0.5, 3.0)}


class Half(Extractor):
    """Sees images at a quarter of their size: pixels as features."""

    size, channels = 28, 1

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, self.size // 7).flatten(1)


@pytest.fixture
def chosen_from(monkeypatch):
    """Let redraw's temperature be chosen, through Half."""
    monkeypatch.setattr(Redraw, "grid", GRID)
    monkeypatch.setattr(sampling_choice, "bundled_for", lambda *_: "half")
    monkeypatch.setattr(extractor_choice, "extractor_of", lambda *_: (Half(), {"name": "half"}))


@pytest.fixture
def learner():
    torch.manual_seed(0)
    return Amortised(tiny_generator("redraw", size=28, null_rate=0.0)).requires_grad_(False).eval()


@pytest.fixture
def data():
    made = EpisodeData(shots=2, queries=4)
    made._task_set = UntouchableBlobs(images=12)
    return made


def test_the_distance_is_the_sum_of_four_parts():
    assert distance_to_people(PEOPLE, PEOPLE, AFFINE) == pytest.approx(1 / 8)
    made = {"fd": 4.0, "recognisability": 93.0, "diversity_relative": 115.0, "near_copies": 7.5}
    assert distance_to_people(made, PEOPLE, AFFINE) == pytest.approx(4 / 8 + 3 / 2 + 15 / 10 + 0.5)
    assert distance_to_people(made | {"recognisability": 99.0}, PEOPLE, AFFINE) == pytest.approx(4 / 8 + 15 / 10 + 0.5)
    few_copies = made | {"near_copies": 1.0}
    assert distance_to_people(few_copies, PEOPLE, AFFINE) == pytest.approx(4 / 8 + 3 / 2 + 15 / 10)
    assert distance_to_people(made | {"fd": float("nan")}, PEOPLE, AFFINE) == float("inf")


class Valley(Bench):
    """Judges settings by how far they are from a place where a and b hang together."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift = shift
        self.asked: list[tuple[float, ...]] = []

    def score(self, settings):
        self.asked.append(tuple(settings.values()))
        a, b = settings["a"], settings["b"]
        return (a - b - 1) ** 2 + 2 * (b - 1) ** 2 + self.shift, {"fd": a}


def test_the_search_goes_by_coordinates_and_judges_nothing_twice():
    benches = {1: Valley(), 5: Valley(2.0)}
    search = Search(benches)
    assert search.over({"a": (0.0, 1.0, 2.0, 3.0), "b": (0.0, 1.0)}) == {"a": 2.0, "b": 1.0}
    asked = [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0), (1.0, 1.0), (0.0, 1.0), (2.0, 1.0)]
    assert benches[1].asked == benches[5].asked == asked
    assert search.tried[-1] == {
        "settings": {"a": 2.0, "b": 1.0}, "distance": 1.0, "shots": {"1": {"fd": 2.0}, "5": {"fd": 2.0}}
    }  # fmt: skip


def test_of_equal_settings_the_first_is_taken():
    class Flat(Bench):
        def __init__(self) -> None:
            pass

        def score(self, settings):
            return 1.0, {}

    assert Search({1: Flat()}).over({"a": (2.0, 1.0), "b": (0.0, 3.0)}) == {"a": 2.0, "b": 0.0}


def test_a_bench_measures_what_a_scorecard_does(learner, chosen_from):
    episodes = Episodes(Blobs(tasks=40), 2, 8)
    tasks = episodes.held_out_numbers("val")
    bench = Bench(Contender(learner, learner.test_steps), episodes, tasks, Half().of, seed=3)
    for temperature in (1.0, 3.0):
        learner.generator.temperature = temperature
        options = EvaluationOptions("val", None, curve=(), seed=3, baselines=False)
        card = measure(learner, episodes, options, {"half": Half()}).result
        rows = {row["row"]: {name: row["figures"][f"{name}[half]"]["mean"] for name in FIGURES} for row in card["rows"]}
        learner.generator.temperature = 1.0
        assert bench.of({"temperature": temperature}) == pytest.approx(rows["adapted"], rel=1e-5)
        assert bench.people == pytest.approx(rows["human"], rel=1e-5)
        assert bench.affine == pytest.approx(rows["affine x1"], rel=1e-5)


def test_the_choice_is_the_best_that_was_tried_and_test_tasks_are_never_looked_at(learner, data, chosen_from):
    choice = choose_sampling(learner, data, shots=(1, 3, 11))
    tried = {each["settings"]["temperature"]: each["distance"] for each in choice.info["tried"]}
    assert set(tried) == set(GRID["temperature"])
    assert tried[choice.settings["temperature"]] == min(tried.values()) == choice.info["distance"]
    assert set(choice.info["people"]) == {"1", "3"}  # of 11 shots too few images are left
    assert (choice.info["extractor"], choice.info["val_tasks"]) == ("half", 6)
    assert learner.generator.temperature == 1.0
    assert json.loads(json.dumps(choice.info)) == choice.info


def test_contrast_is_chosen_of_ink_alone():
    assert list(tiny_generator("token_vae").grid) == ["temperature", "guidance", "contrast", "top_p"]
    assert "contrast" not in tiny_generator("token_vae", likelihood="gaussian", contrast=1.0).grid


def test_every_setting_of_a_grid_is_allowed():
    for name in VARIANTS:
        generator = tiny_generator(name)
        assert set(generator.grid) <= set(generator.sampling)
        for option, values in generator.grid.items():
            for value in values:
                assert getattr(with_sampling(generator, {option: value}), option) == value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"shots": (9,)}, "4 images or more beside the 9 shots; got 6 tasks, with 12 images or more each"),
        ({"limit": 2}, "got 2 tasks"),
        ({"limit": 0}, "limit: expected 1 or more, got 0"),
        ({"limit": -1}, "limit: expected 1 or more, got -1"),
    ],
)
def test_too_little_to_choose_by_is_refused(learner, data, chosen_from, change, said):
    with pytest.raises(MetagenError, match=said):
        choose_sampling(learner, data, **change)


def test_what_cannot_be_chosen_is_refused(learner, data, monkeypatch):
    with pytest.raises(MetagenError, match="Redraw has no sampling options to choose"):
        choose_sampling(learner, data)
    monkeypatch.setattr(Redraw, "grid", GRID)
    data.name = "folder"
    with pytest.raises(MetagenError, match="no extractor of folder at 28 px and 1 channel to choose by is bundled"):
        choose_sampling(learner, data)
    with pytest.raises(MetagenError, match="takes images of 1 channels and 28 px, got"):
        data._task_set = Blobs(size=32, channels=3)
        choose_sampling(learner, data, extractor="glyphs-select")


@pytest.fixture
def redraw(blobs):
    """The options of a run over blobs whose generator has a grid."""
    return [
        *("--data.task_set", "folder", "--data.root", str(blobs / "tasks")),
        *("--data.split_file", str(blobs / "split.json"), "--data.shots", "2", "--data.queries", "3"),
        *("--data.tasks", "4", "--data.val_tasks", "3", "--data.episodes", "4", "--trainer.accelerator", "cpu"),
        *("--model.generator", "Redraw", "--model.generator.widths", "[2, 4]", "--model.generator.hidden", "4"),
        *("--model.generator.latent", "2", "--model.learner", "Amortised", "--model.warmup", "2"),
        *("--trainer.val_check_interval", "4", "--trainer.enable_progress_bar", "false"),
        *("--samples.tasks", "2", "--samples.generated", "2"),
    ]


def test_fit_exports_the_model_with_what_was_chosen(redraw, chosen_from, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(sampling_choice, "distance_to_people", lambda made, *_: abs(made["fd"]))
    training = []

    def of(self, settings):
        training.append(self.contender.learner.training)
        return {"fd": settings["temperature"] - 0.4}

    monkeypatch.setattr(Bench, "of", of)
    assert main(["fit", *redraw, "--run_dir", str(tmp_path)]) == 0
    model = metagen.load(tmp_path / "export")
    assert model.learner.generator.temperature == 0.5
    assert model.info["sampling"]["chosen"] == {"temperature": 0.5}
    assert not any(training)  # nothing is dropped out where the model adapts
    assert "sampling with temperature 0.5: distance from people 0.10" in capsys.readouterr().out
    card = (tmp_path / "export" / "README.md").read_text()
    assert '"chosen": {"temperature": 0.5}' in card
    assert card.count('  - `{"settings": ') == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "stay as they are: no extractor of folder at 28 px and 1 channel to choose by is bundled"),
        (["--choose_sampling", "false"], "stay as they are, as --choose_sampling false says"),
    ],
)
def test_fit_tells_why_nothing_was_chosen(redraw, monkeypatch, tmp_path, capsys, words, said):
    monkeypatch.setattr(Redraw, "grid", GRID)
    assert main(["fit", *redraw, *words, "--run_dir", str(tmp_path)]) == 0
    assert said in capsys.readouterr().out
    assert "sampling" not in metagen.load(tmp_path / "export").info


def test_tune_chooses_for_samples_after_steps_and_keeps_that_apart(chosen_from, blobs, monkeypatch, tmp_path):
    torch.manual_seed(0)
    stepping = Amortised(tiny_generator("token_vae", size=28, halvings=2), adapted_params=["biases"], test_steps=0)
    Model(stepping, {}).save(tmp_path / "model")
    seen = []

    def of(self, settings):
        seen.append(self.contender.steps)
        return {"fd": abs(settings["guidance"] - 0.5) + settings["temperature"]}

    monkeypatch.setattr(Bench, "of", of)
    monkeypatch.setattr(sampling_choice, "distance_to_people", lambda made, *_: made["fd"])
    words = ["tune", "--model", str(tmp_path / "model"), "--shots", "[1]", "--accelerator", "cpu"]
    words += ["--data.task_set", "folder", "--data.root", str(blobs / "tasks")]
    words += ["--data.split_file", str(blobs / "split.json"), "--out", str(tmp_path / "tuned")]
    assert main([*words, "--steps", "2"]) == 0
    assert set(seen) == {2}
    before, after = metagen.load(tmp_path / "model"), metagen.load(tmp_path / "tuned")
    assert after.sampling == before.sampling
    chosen = {"temperature": 0.8, "guidance": 0.5, "contrast": 1.0, "top_p": 1.0}
    assert after.learner.generator.after_steps == after.info["sampling_after_steps"]["chosen"] == chosen


@pytest.mark.parametrize(
    ("steps", "said"), [("0", "expected 1 or more, got 0"), ("1", "samples alike before and after")]
)
def test_tune_refuses_steps_that_change_nothing(learner, chosen_from, blobs, tmp_path, capsys, steps, said):
    if steps == "0":
        learner = Amortised(tiny_generator("token_vae", size=28, halvings=2), adapted_params=["biases"])
    Model(learner, {}).save(tmp_path / "model")
    words = ["tune", "--model", str(tmp_path / "model"), "--out", str(tmp_path / "tuned"), "--steps", steps]
    words += ["--data.task_set", "folder", "--data.root", str(blobs / "tasks")]
    assert main([*words, "--data.split_file", str(blobs / "split.json")]) == 2
    assert said in capsys.readouterr().err


def test_tune_writes_a_copy_with_the_choice(learner, chosen_from, blobs, tmp_path, capsys):
    there, out = tmp_path / "model", tmp_path / "tuned"
    Model(learner, {"made": "by hand"}).save(there, stored_as="float16")
    words = ["tune", "--model", str(there), "--out", str(out), "--shots", "[1]", "--accelerator", "cpu"]
    words += ["--data.task_set", "folder", "--data.root", str(blobs / "tasks")]
    words += ["--data.split_file", str(blobs / "split.json")]
    assert main(words) == 0
    assert f"wrote {out}" in capsys.readouterr().out
    before, after = metagen.load(there), metagen.load(out)
    assert before.learner.generator.temperature == 1.0
    assert after.learner.generator.temperature == after.info["sampling"]["chosen"]["temperature"]
    assert after.info["made"] == "by hand"
    assert after.weights_hash == before.weights_hash  # of half precision, too
    assert main(words) == 2
    assert "tuned" in capsys.readouterr().err
