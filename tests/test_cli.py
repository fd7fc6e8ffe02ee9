"""The verbs, run in process: what they write, what they print, and how they refuse."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from PIL import Image

import metagen
from metagen.cli import OVERVIEW, VERBS, main
from metagen.commands import fit
from metagen.commands.model_options import OF_THE_MODEL
from metagen.errors import MetagenError
from metagen.evaluation import baselines
from metagen.evaluation.trial import Trial
from metagen.learners import Amortised, Reptile
from metagen.learners.model_files import save_model
from metagen.model import Model
from metagen.report.tables import short
from metagen.storage.images import grid as grid_of
from metagen.storage.images import save_pngs
from metagen.tasks.episodes import Episodes
from metagen.tasks.splits import Split
from metagen.training.episode_data import EpisodeData
from metagen.training.zoo_files import save_zoo
from tests.configs import CONFIGS, name_of, written
from tests.doubles import Blobs, tiny_generator, tiny_vae


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small task set, its split, an untrained model "export" of it, "mine", adapted from that, and an empty "zoo"."""
    root = tmp_path_factory.mktemp("cli")
    blobs = Blobs(tasks=8, images=4)
    for task in [name for part in ("train", "val", "test") for name in blobs.split[part]]:
        save_pngs(blobs.images(task), root / "tasks" / task)
    (root / "split.json").write_text(blobs.split.to_json())
    torch.manual_seed(0)
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01, test_steps=2)
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 2, "queries": 2}
    info = {"data": data, "split_sha256": blobs.split.hash, "training": {"seed": 0}}
    save_model(root / "export", learner, info, blobs.split)
    metagen.load(root / "export").adapt(root / "tasks/blob-7").save(root / "mine")
    save_zoo(root / "zoo", {}, {"tasks": [], "base_sha256": ""})
    return root


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Whatever writes to the current folder does it here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(baselines, "SCRATCH_GRID", ((1e-2, 1), (3e-2, 2)))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(capsys, words, *said):
    """The verb ends with 2 and one line on stderr, and writes nothing."""
    before = contents(Path.cwd())
    assert main([str(word) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("metagen: error: ")
    assert err.count("\n") == 1
    for each in said:
        assert str(each) in err
    assert contents(Path.cwd()) == before


def evaluation_words(place, out="result", split=True):
    words = ["evaluate", "--model", str(place / "export"), "--out", str(out), "--data.root", str(place / "tasks")]
    return (
        words
        + (["--data.split_file", str(place / "split.json")] if split else [])
        + ["--curve", "[0, 2]", "--extractor", "none"]
    )


# help


@pytest.mark.parametrize("words", [[], ["-h"], ["--help"], ["--debug"]])
def test_the_overview_names_every_verb(capsys, words):
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out == OVERVIEW + "\n"
    assert [line.split()[0] for line in out.splitlines() if re.match(r"  \S", line)] == list(VERBS)


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "metagen.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    assert done.stdout == OVERVIEW + "\n"
    assert done.stderr == ""


TORCH = {"torch", "pytorch_lightning", "lightning_fabric"}
SLOW = {"pytorch_lightning", "lightning_fabric", "torch._dynamo", "sympy", "scipy.stats", "scipy.ndimage", "matplotlib"}


def imported(words: list[str] | None, watched: set[str]) -> list[str]:
    """Which of these modules are loaded after a verb has run in a process of its own; None: after the bare import."""
    lines = ["import atexit, sys", f"atexit.register(lambda: print('imported', sorted({watched} & {{*sys.modules}})))"]
    lines += ["import metagen"] if words is None else ["from metagen.cli import main", f"main({words})"]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return literal_eval(done.stdout.splitlines()[-1].removeprefix("imported "))


@pytest.mark.parametrize("words", [None, ["--help"], ["sampl"], ["models", "--help"]])
def test_what_needs_no_torch_does_not_import_it(words):
    assert imported(words, TORCH) == []


def test_adapting_and_sampling_import_nothing_that_they_could_do_without(blobs, tmp_path):
    """By a model without inner steps: `torch.func.grad` imports torch's compiler."""
    support = next((blobs / "tasks").iterdir())
    assert (
        imported(["adapt", "--model", "omniglot", "--support", str(support), "--out", str(tmp_path / "a")], SLOW) == []
    )
    assert imported(["sample", "--model", str(tmp_path / "a"), "--n", "2", "--out", str(tmp_path / "s")], SLOW) == []
    assert (tmp_path / "s/grid.png").is_file()


def test_every_public_name_is_imported_when_it_is_used():
    assert {name: getattr(metagen, name).__module__ for name in metagen.__all__} == {
        **dict.fromkeys(["AdaptedModel", "AdaptedModels", "Model", "load"], "metagen.model"),
        **dict.fromkeys(["Prepared", "prepare"], "metagen.preparation.prepared"),
        "MetagenError": "metagen.errors",
    }
    assert set(metagen.__all__) <= set(dir(metagen))
    with pytest.raises(AttributeError, match="module 'metagen' has no attribute 'loda'"):
        metagen.loda  # type: ignore[attr-defined]  # noqa: B018


def test_an_unknown_verb_names_the_nearest(capsys):
    refused(capsys, ["sampl", "--n", "3"], "unknown verb 'sampl': did you mean sample?")


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_explains_itself(capsys, verb):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    if verb != "fit":  # whose help is LightningCLI's
        assert f"example: {VERBS[verb].example}" in " ".join(out.split())
    expected = {"adapt": "--support", "sample": "--n", "compare": "--by", "models": "--config", "demo": "--minutes"}
    expected |= {"prepare": "--sheet"}
    assert expected.get(verb, "--data.shots") in out


def test_the_help_says_what_is_the_model_s_own(capsys, exported):
    told_by_it = metagen.load(exported).info["data"].keys()
    assert told_by_it <= set(OF_THE_MODEL) <= inspect.signature(EpisodeData).parameters.keys()
    for verb, own in (("evaluate", True), ("embed", True), ("zoo", True), ("train-extractor", False)):
        with pytest.raises(SystemExit):
            main([verb, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        assert ("default: the model's own" in told) == own
        assert ("default: glyphs" in told) != own
        assert "default: 3000" in told  # episodes, which no model tells


# adapt and sample


def test_adapt_and_sample_write_what_the_python_face_makes(place, capsys):
    support = place / "tasks/blob-7"
    words = ["adapt", "--model", str(place / "export"), "--support", str(support), "--out", "mine", "--steps", "3"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "adapted to 4 images in 3 steps" in out
    assert out.splitlines()[-1] == "next: metagen sample --model mine --n 64 --out mine-samples"
    assert sorted(contents(Path("mine"))) == ["README.md", "config.json", "difference.safetensors"]
    expected = metagen.load(place / "export").adapt(support, steps=3).sample(5, seed=4)
    assert torch.equal(metagen.load("./mine").sample(5, seed=4), expected)

    assert main(["sample", "--model", "mine", "--n", "5", "--out", "drawn", "--seed", "4"]) == 0
    assert "wrote 5 images and grid.png to drawn" in capsys.readouterr().out
    files = sorted(Path("drawn").iterdir())
    assert len(files) == 6
    grid, pictures = files[-1], files[:-1]
    assert grid.name == "grid.png"
    for file, image in zip(pictures, expected, strict=True):
        with Image.open(file) as picture:
            assert (picture.format, picture.size, picture.mode) == ("PNG", (28, 28), "L")
            assert abs(int(np.asarray(picture)[14, 14]) - 255 * float(image[0, 14, 14])) <= 0.51
    with Image.open(grid) as picture:
        assert (picture.height, picture.width) == tuple(
            grid_of(torch.zeros(3, 2, 1, 28, 28)).shape[1:]  # three rows of two columns
        )


def test_sampling_options_are_taken_and_told_where_they_are_not_the_model_s_own(tmp_path, capsys):
    Model(Amortised(tiny_generator("redraw")), {}).save(tmp_path / "export")
    mine = metagen.load(tmp_path / "export").adapt(torch.rand(2, 1, 8, 8))
    mine.save(tmp_path / "mine")
    words = ["sample", "--model", "mine", "--n", "3"]
    assert main([*words, "--out", "cold", "--temperature", "0.5"]) == 0
    assert "grid.png to cold; temperature 0.5 (its own: 1)\nlook at cold/grid.png" in capsys.readouterr().out
    assert main([*words, "--out", "own", "--temperature", "1"]) == 0
    assert "grid.png to own\nlook at own/grid.png" in capsys.readouterr().out
    save_pngs(mine.sample(3, temperature=0.5), tmp_path / "expected")
    drawn = {name: data for name, data in contents(Path("cold")).items() if name != "grid.png"}
    assert drawn == contents(Path("expected")) != {name: contents(Path("own"))[name] for name in drawn}


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_any_number_of_samples_makes_a_grid(place, n):
    assert main(["sample", "--model", str(place / "mine"), "--n", str(n), "--out", "drawn"]) == 0
    assert len(list(Path("drawn").glob("*.png"))) == n + 1


@pytest.mark.parametrize(
    ("switches", "standalone"),
    [
        ([], False),
        (["--standalone"], True),
        (["--standalone", "true"], True),
        (["--standalone=true"], True),
        (["--standalone", "false"], False),
        (["--standalone", "--overwrite"], True),
    ],
)
def test_switches_may_be_bare_or_valued(place, switches, standalone):
    words = ["adapt", "--model", str(place / "export"), *switches, "--support", str(place / "tasks/blob-7")]
    assert main([*words, "--out", "mine"]) == 0
    assert Path("mine/base/model.safetensors").is_file() == standalone


def test_inverted_images_are_adapted_to(place):
    support = place / "tasks/blob-7"
    words = ["adapt", "--model", str(place / "export"), "--support", str(support), "--out", "mine", "--invert"]
    assert main(words) == 0
    base = metagen.load(place / "export")
    assert torch.equal(metagen.load("./mine").sample(2), base.adapt(1 - base.read(support)).sample(2))
    assert not torch.equal(metagen.load("./mine").sample(2), base.adapt(support).sample(2))


def test_options_may_come_from_a_file(place):
    options = {"model": str(place / "mine"), "n": 3, "out": "drawn", "seed": 1}
    Path("options.yaml").write_text(yaml.safe_dump(options))
    assert main(["sample", "--config", "options.yaml", "--n", "2"]) == 0
    assert len(list(Path("drawn").iterdir())) == 3


def test_nothing_is_replaced_unasked(place, capsys):
    adapt = ["adapt", "--model", place / "export", "--support", place / "tasks/blob-7", "--out", "taken"]
    sample = ["sample", "--model", place / "mine", "--n", "1", "--out", "taken"]
    Path("taken").mkdir()
    Path("taken/precious").touch()
    for words in (adapt, sample, evaluation_words(place, "taken")):
        refused(capsys, words, "taken: exists and is not empty")
        refused(capsys, [*words, "--overwrite", "false"], "taken: exists and is not empty")
        refused(capsys, [*words, "--overwrite"], "taken: exists and is not empty; holds precious")
    Path("taken/precious").unlink()
    for _ in range(2):
        assert main([*map(str, sample), "--overwrite"]) == 0


def test_debug_shows_where_an_error_came_from(place):
    words = ["sample", "--model", "absent", "--n", "1", "--out", "drawn"]
    for place_of_debug in (0, 3, len(words)):
        with pytest.raises(MetagenError, match="absent: neither a folder nor one of the models"):
            main([*words[:place_of_debug], "--debug", *words[place_of_debug:]])


def test_an_interruption_has_a_code_of_its_own(monkeypatch, capsys):
    def stopped(*_):
        raise KeyboardInterrupt("at step 3")

    monkeypatch.setattr(fit, "fit", stopped)
    assert main(["fit"]) == 130
    assert capsys.readouterr().err == "metagen: stopped at step 3\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", "--model", "absent", "--n", "1", "--out", "o"], "absent: neither a folder nor one of the models"),
        (["sample", "--model", "a/absent", "--n", "1", "--out", "o"], "expected an adapted model, got no config"),
        (["sample", "--model", "{place}/export", "--n", "1", "--out", "o"], "expected an adapted model, got a model"),
        (["sample", "--model", "{place}/mine", "--n", "0", "--out", "o"], "n: expected 1 or more, got 0"),
        (["sample", "--model", "{place}/mine", "--n", "many", "--out", "o"], "--n: expected int, got many"),
        (["sample", "--model", "{place}/mine", "--n", "1", "--out", "o", "--seed", "-1"], "seed: expected 0 or more"),
        (["sample", "--model", "{place}/mine", "--n", "1"], "out"),
        (["sample", "--model", "{place}/mine", "--n", "1", "--ot", "o"], "unknown option --ot: did you mean --out"),
        (["sample", "--config", "absent.yaml"], "absent.yaml"),
        (["sample", "--model", "{place}/mine", "--n", "1", "--out", "o", "--temperature", "2"], "VAE has no sampling"),
        (["sample", "--model", "{place}/mine", "--n", "1", "--out", "o", "--temperature", "a"], "--temperature"),
        (["adapt", "--model", "{place}/export", "--support", "absent", "--out", "o"], "absent"),
        (["adapt", "--model", "{place}/export", "--support", ".", "--out", "o"], "no image"),
        (["adapt", "--model", "{place}/mine", "--support", "{place}/tasks/blob-7", "--out", "o"], "name its base"),
        (
            ["adapt", "--model", "{place}/export", "--support", "{place}/tasks/blob-7", "--out", "o", "--steps", "-1"],
            "steps: expected 0 or more, got -1",
        ),
        (["adapt", "--model", "{place}/export", "--suport", "x", "--out", "o"], "did you mean --support"),
        (["evaluate", "--model", "absent", "--out", "o"], "absent: neither a folder nor one of the models"),
        (["evaluate", "--out", "o"], "model"),
        (["sample", "--model", "{place}/zoo", "--n", "1", "--out", "o"], "expected an adapted model, got a zoo"),
        (["adapt", "--model", "{place}/zoo", "--support", ".", "--out", "o"], "expected a model, got a zoo"),
        (["evaluate", "--model", "{place}/zoo", "--out", "o"], "expected a model, got a zoo"),
        (["evaluate", "--model", "{place}/mine", "--out", "o", "--data.root", "."], "name its base"),
        (["embed", "--model", "{place}/mine", "--out", "o", "--data.root", "."], "name its base"),
        (["fit", "--config", "absent.yaml"], "absent.yaml"),
        (["fit", "--model.generator", "VAE", "--model.learner", "MAMLL"], "unknown learner 'MAMLL': did you mean MAML"),
        (["fit", "--model.generator", "VEA", "--model.learner", "MAML"], "unknown generator 'VEA': did you mean VAE"),
        (["fit", "--data.shotts", "3"], "unknown option --data.shotts: did you mean --data.shots"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_mistakes_are_told_in_one_line(place, capsys, words, said):
    refused(capsys, [word.format(place=place) for word in words], said)


# evaluate


def test_evaluate_measures_and_draws(place, capsys):
    before = contents(place)
    assert main([*evaluation_words(place), "--baselines"]) == 0
    out = capsys.readouterr().out
    assert "wrote result.json, values.safetensors, samples.png and curve.png to result" in out
    assert sorted(contents(Path("result"))) == ["curve.png", "result.json", "samples.png", "values.safetensors"]
    result = json.loads(Path("result/result.json").read_text())
    assert [row["row"] for row in result["rows"]] == ["unadapted", "scratch", "another task's support", "adapted"]
    for row in result["rows"] + result["differences"]:
        figure = row["figures"]["query_loss"]
        assert figure["low"] <= figure["mean"] <= figure["high"]
        assert figure["tasks"] == 2
    assert all(short(row["figures"]["query_loss"]) in out for row in result["rows"])
    assert out.splitlines()[-1] == "next: metagen compare result ANOTHER_EVALUATION/"
    assert [point["steps"] for point in result["curve"]] == [0, 2]
    assert (result["split"], result["shots"], result["queries"]) == ("test", 2, 2)  # as the model was trained
    assert result["model"]["weights_sha256"] == metagen.load(place / "export").weights_hash
    assert str(place) not in Path("result/result.json").read_text()  # no path of this machine
    for name in ("samples.png", "curve.png"):
        with Image.open(Path("result") / name) as picture:
            assert picture.format == "PNG"
            picture.load()
    assert contents(place) == before


def test_evaluate_takes_another_number_of_steps(place, capsys):
    words = [*evaluation_words(place), "--baselines", "false"]
    assert main([*words, "--steps", "2"]) == 0
    result = json.loads(Path("result/result.json").read_text())
    assert result["rows"][-1]["steps"] == 2
    assert result["rows"][-1]["figures"]["query_loss"]["mean"] == pytest.approx(result["curve"][1]["mean"])
    capsys.readouterr()
    refused(capsys, [*words, "--overwrite", "--steps", "-1"], "steps: expected 0 or more, got -1")


def test_the_same_seed_gives_the_same_result(place):
    def figures(out, *more):
        assert main([*evaluation_words(place, out), *more]) == 0
        result = json.loads(Path(out, "result.json").read_text())
        for row in result["rows"]:
            del row["seconds"]
        return result

    first = figures("a")
    assert first == figures("b")
    assert Path("a/samples.png").read_bytes() == Path("b/samples.png").read_bytes()
    assert first["rows"] != figures("c", "--seed", "1")["rows"]
    val = figures("d", "--split", "val", "--limit", "1", "--data.shots", "1")
    assert (val["split"], val["shots"], val["tasks"]) == ("val", 1, 1)


def test_another_split_of_the_same_tasks_is_refused(place, tmp_path, capsys):
    split = Blobs(tasks=8).split
    other = Split(split.train, split.test, split.val)
    (tmp_path / "other.json").write_text(other.to_json())
    words = [*evaluation_words(place, split=False), "--data.split_file", "other.json"]
    refused(capsys, words, "was trained or chosen on 2 of these test tasks", "--data.split_file")


def test_a_model_of_unknown_training_is_not_measured_on_tasks_it_may_have_seen(place, tmp_path, capsys):
    shutil.copytree(place / "export", tmp_path / "copy")
    (tmp_path / "copy/split.json").unlink()
    words = [*evaluation_words(place), "--model", "copy"]
    refused(capsys, words, "nobody knows which tasks it was trained on")


def test_val_tasks_have_images_enough_where_baselines_are_tuned_on_them(place, tmp_path, capsys):
    shutil.copytree(place / "tasks", "tasks")
    for task in Blobs(tasks=8, images=4).split.val:
        for path in sorted(Path("tasks", task).iterdir())[1:]:
            path.unlink()
    words = [*evaluation_words(place), "--data.root", "tasks"]
    refused(capsys, [*words, "--baselines"], "2 shots and 2 queries need 4 images a task, but 'blob-")
    assert main(words) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--data.size", "32"], "makes images of 28 px and 1 channels"),
        (["--data.channels", "3"], "makes images of 28 px and 1 channels"),
        (["--split", "train"], "split: expected one of val, test"),
        (["--limit", "0"], "limit"),
        (["--curve", "[-1]"], "curve"),
        (["--metrics", "[loglikelihood]"], "unknown metric 'loglikelihood': did you mean log_likelihood"),
        (["--metrics", "[fd]"], "metrics: 'fd' needs an extractor that is not at hand; name it with --extractor"),
        (["--data.shots", "4"], "4 shots and 2 queries need 6 images a task, but"),
        (["--data.shots", "0"], "data.shots: expected 1 or more"),
        (["--data.shot_count", "3"], "unknown option --data.shot_count: did you mean --data.shots"),
        (["--data.root", "absent"], "absent"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_of_evaluate_are_refused(place, capsys, more, said):
    refused(capsys, [*evaluation_words(place), *more], said)


# dry runs


def dry(capsys, words):
    """What a dry run prints, as data; it ends well and writes nothing."""
    before = contents(Path.cwd())
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code in (None, 0)
    assert contents(Path.cwd()) == before
    return yaml.safe_load(capsys.readouterr().out)


def test_a_dry_run_prints_the_options_and_stops(place, capsys):
    adapt = ["adapt", "--model", place / "export", "--support", "absent", "--out", "o", "--invert", "--dry-run"]
    options = dry(capsys, adapt)
    assert (options["out"], options["invert"], options["standalone"]) == ("o", True, False)
    options = dry(capsys, ["sample", "--dry-run", "--model", "absent", "--n", "3", "--out", "o"])
    given = {name: value for name, value in options.items() if value is not None}  # no sampling option is
    assert given == {"model": "absent", "n": 3, "out": "o", "seed": 0, "overwrite": False}
    options = dry(capsys, [*evaluation_words(place), "--dry-run"])
    assert (options["split"], options["limit"]) == ("test", 100)
    assert (options["data"]["task_set"], options["data"]["shots"], options["data"]["queries"]) == ("folder", 2, 2)


def test_embed_has_no_fewer_queries_than_shots_unless_told_to(place, capsys, tmp_path):
    shutil.copytree(place / "export", tmp_path / "export")
    config = json.loads((tmp_path / "export/config.json").read_text())
    config["info"]["data"] |= {"shots": 3, "queries": 2}
    (tmp_path / "export/config.json").write_text(json.dumps(config))
    for verb, more, queries in (
        ("embed", [], 3),
        ("embed", ["--data.shots", "5"], 5),
        ("embed", ["--data.shots", "1"], 2),
        ("embed", ["--data.queries", "2"], 2),
        ("evaluate", [], 2),
    ):
        words = [verb, "--model", "export", "--out", "o", *more, "--dry-run"]
        assert dry(capsys, words)["data"]["queries"] == queries, words


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_every_config_is_resolved(capsys, config):
    own, name = written(config), name_of(config)
    options = dry(capsys, ["fit", "--config", config, "--data.shots", "3", "--dry-run"])
    assert options["run_dir"] == own["run_dir"] == f"runs/{name.replace('/', '-')}"
    assert options["data"]["shots"] == 3
    assert own["data"].items() <= {**options["data"], "shots": own["data"]["shots"]}.items()
    for part in ("generator", "learner"):
        resolved, given = options["model"][part], own["model"][part]
        assert resolved["class_path"].split(".")[-1] == given["class_path"]
        assert given.get("init_args", {}).items() <= resolved.get("init_args", {}).items()
    assert f"\n#   metagen fit --config configs/{name}.yaml" in config.read_text()


def test_there_are_configs():
    assert len(CONFIGS) >= 5


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["fit", "--config", "quickstart.yaml", "--data.shot", "3", "--data.episodes", "0"], "--data.shots"),
        (["adapt", "--model", "m", "--support", "s", "--out", "o", "--step", "3"], "--steps"),
    ],
)
def test_options_are_not_abbreviated(words, meant, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"did you mean {meant}" in said
    assert said.count("\n") == 1


# an evaluation that was stopped


@pytest.fixture
def stopped(place, monkeypatch, capsys):
    """An evaluation into "result" that was interrupted after the first of its two tasks; its command."""
    evaluate, words = Trial.evaluate_batch, [*evaluation_words(place), "--batch", "1"]
    met = []

    def once(trial, tasks):
        met.append(tasks)
        if len(met) > 1:
            raise KeyboardInterrupt
        return evaluate(trial, tasks)

    monkeypatch.setattr(Trial, "evaluate_batch", once)
    assert main(words) == 130
    assert capsys.readouterr().err == "metagen: stopped before the end; the same command goes on from here\n"
    monkeypatch.setattr(Trial, "evaluate_batch", evaluate)
    return words


def test_a_stopped_evaluation_goes_on_by_the_same_command(stopped, place, capsys):
    assert main([*evaluation_words(place, "whole"), "--batch", "1"]) == 0
    assert main(stopped) == 0
    assert "going on: " in capsys.readouterr().out
    results = [json.loads(Path(out, "result.json").read_text()) for out in ("whole", "result")]
    for result in results:
        for row in result["rows"]:
            del row["seconds"]
    assert results[0] == results[1]
    assert not Path("result.unfinished").exists()


def test_a_stopped_evaluation_does_not_go_on_with_other_images(stopped, place, tmp_path, capsys):
    shutil.copytree(place / "tasks", tmp_path / "others")
    words = ["others" if word == str(place / "tasks") else word for word in stopped]
    refused(capsys, words, "result.unfinished: expected unfinished work with these options")
    assert main([*words, "--overwrite"]) == 0
    assert "going on" not in capsys.readouterr().out


def test_a_stopped_evaluation_does_not_go_on_with_another_learner(stopped, place, tmp_path, capsys):
    shutil.copytree(place / "export", tmp_path / "export")
    config = json.loads((tmp_path / "export/config.json").read_text())
    config["learner"]["test_steps"] = 5
    (tmp_path / "export/config.json").write_text(json.dumps(config))
    words = ["export" if word == str(place / "export") else word for word in stopped]
    refused(capsys, words, "result.unfinished: expected unfinished work with these options")


def test_a_model_that_was_trained_with_steps_is_no_joint_one(place, capsys):
    words = [*evaluation_words(place), "--joint", str(place / "export")]
    refused(capsys, words, "joint: its row is one of the baselines", "add --baselines")
    words.append("--baselines")
    refused(capsys, words, "expected a jointly trained model for --joint (learner Joint), got Reptile")


def test_tasks_that_are_not_measured_may_be_damaged(place, tmp_path):
    shutil.copytree(place / "tasks", tmp_path / "damaged")
    chosen = Episodes(Blobs(tasks=8), 2, 2).held_out_numbers("test", 1)
    other = next(task for number, task in enumerate(Blobs(tasks=8).split.test) if number not in chosen)
    for image in (tmp_path / "damaged" / other).iterdir():
        image.write_bytes(b"no image")
    words = ["damaged" if word == str(place / "tasks") else word for word in evaluation_words(place)]
    assert main([*words, "--limit", "1"]) == 0


def test_as_many_processes_as_were_started_have_to_be_named(place, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused(capsys, evaluation_words(place), "2 processes were started, but devices 1 on 1 nodes are 1")


def test_a_study_stands_beside_the_figures(place, capsys):
    assert main([*evaluation_words(place), "--metrics", "[cost]"]) == 0
    result = json.loads(Path("result/result.json").read_text())
    assert result["studies"]["cost"]["steps"] == 2
    assert result["rows"][-1]["figures"]
    assert "cost:" in capsys.readouterr().out
    refused(capsys, [*evaluation_words(place, "other"), "--metrics", "[log_likelihood]"], "expected pixels of 0 and 1")
