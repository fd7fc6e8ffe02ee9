"""`--overwrite` replaces what metagen wrote, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import metagen
from metagen.cli import main
from metagen.distributed.sharding import ShardedTasks
from metagen.errors import MetagenError
from metagen.evaluation import sampling_choice
from metagen.learners import Reptile
from metagen.learners.model_files import save_model
from metagen.model import Model
from metagen.storage.images import save_pngs
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs, tiny_vae


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Tasks, their split, a model "export" of them, "mine" adapted from it, "drawn" by that, and five images."""
    blobs = Blobs(tasks=12, images=4)
    for task in [name for part in ("train", "val", "test") for name in blobs.split[part]]:
        save_pngs(blobs.images(task), tmp_path / "tasks" / task)
    (tmp_path / "split.json").write_text(blobs.split.to_json())
    torch.manual_seed(0)
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 2, "queries": 2}
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01, test_steps=2)
    save_model(tmp_path / "export", learner, {"data": data}, blobs.split)
    metagen.load(tmp_path / "export").adapt(tmp_path / "tasks/blob-11").save(tmp_path / "mine")
    monkeypatch.setattr(sampling_choice, "choose_sampling", lambda *_, **__: sampling_choice.Choice({}, {}))
    monkeypatch.setattr(sampling_choice, "describe_choice", str)
    monkeypatch.chdir(tmp_path)
    assert main(["sample", "--model", "mine", "--n", "3", "--out", "drawn"]) == 0
    for number in range(2):
        Image.new("L", (28, 28), 200).save(tmp_path / f"tasks/blob-11/photo-{number}.jpg")
    return tmp_path


DATA = ("--data.root", "tasks", "--data.split_file", "split.json")
VERBS = {
    "adapt": ("--model", "export", "--support", "tasks/blob-11"),
    "sample": ("--model", "mine", "--n", "1"),
    "evaluate": ("--model", "export", *DATA, "--extractor", "none", "--baselines", "false"),
    "tune": ("--model", "export", *DATA),
    "embed": ("--model", "export", *DATA, "--extractor", "none"),
    "zoo": ("--model", "export", *DATA, "--tasks", "1", "--steps", "1"),
    "train-extractor": (
        "--data.task_set",
        "folder",
        *DATA,
        "--data.size",
        "28",
        "--data.channels",
        "1",
        "--steps",
        "1",
    ),
}


def tree(folder):
    return {str(path.relative_to(folder)): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def refused(place, *words):
    """The words are answered by exit code 2, and not a byte changes."""
    before = tree(place)
    assert main([*map(str, words), "--overwrite"]) == 2
    assert tree(place) == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("holds", ["notes", "ours and notes", "images"])
def test_a_folder_with_files_of_the_user_stays(place, verb, holds):
    if holds == "ours and notes":
        shutil.copytree("drawn", "out")
    Path("out").mkdir(exist_ok=True)
    if holds == "images":
        shutil.copy("tasks/blob-11/0000.png", "out/0000.png")
    else:
        Path("out/notes.txt").write_text("years of work")
    refused(place, verb, *VERBS[verb], "--out", "out")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("adapt", "sample")])
@pytest.mark.parametrize("out", ["tasks", "tasks/blob-0", "export", "tasks/../tasks/"])
def test_what_is_read_stays(place, verb, out):
    if verb == "train-extractor" and out == "export":
        out = "tasks/blob-1"
    refused(place, verb, *VERBS[verb], "--out", out)


@pytest.mark.parametrize(
    "out", ["{support}", "{support}/", "{support}/../blob-11", "tasks", "link", "export", "../export"]
)
def test_adapt_replaces_neither_support_nor_base(place, out):
    Path("link").symlink_to("tasks/blob-11", target_is_directory=True)
    out = out.format(support="tasks/blob-11").replace("../export", f"../{place.name}/export")
    refused(place, "adapt", "--model", "export", "--support", "tasks/blob-11", "--out", out)


@pytest.mark.parametrize("where", ["a read-only folder", "a file"])
@pytest.mark.parametrize("verb", VERBS)
def test_where_nothing_can_be_written_is_said_before_any_work(place, monkeypatch, verb, where):
    ended = RuntimeError("work was begun")
    for begun in (
        "metagen.model.adapt_tasks",
        "metagen.training.extractor_training.train_extractor",
        "metagen.evaluation.evaluator.load_for_tasks",
    ):
        monkeypatch.setattr(begun, lambda *_, **__: (_ for _ in ()).throw(ended))
    if where == "a read-only folder":
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
    out = "split.json/out" if where == "a file" else "out"
    refused(place, verb, *VERBS[verb], "--out", out)


def test_support_that_metagen_wrote_is_no_output(place):
    refused(place, "adapt", "--model", "export", "--support", "drawn", "--out", "drawn")


def test_a_support_of_links_keeps_what_they_lead_to(place):
    Path("linked").mkdir()
    Path("linked/1.png").symlink_to(place / "drawn/0001.png")
    refused(place, "adapt", "--model", "export", "--support", "linked", "--out", "drawn")


def test_a_sample_replaces_neither_its_model_nor_what_is_in_it(place):
    metagen.load("export").adapt("tasks/blob-10").save("whole", standalone=True)
    for model, out in (("mine", "mine"), ("mine", "export"), ("whole", "whole"), ("whole", "whole/base")):
        refused(place, "sample", "--model", model, "--n", "1", "--out", out)


def test_compare_keeps_the_results_that_it_reads(place):
    evaluate = ["evaluate", *VERBS["evaluate"], "--curve", "[0]"]
    assert main([*evaluate, "--out", "first"]) == 0
    shutil.copytree("first", "second")
    refused(place, "compare", "first", "second", "--out", "first")
    assert main(["compare", "first", "second", "--out", "league"]) == 0
    assert main(["compare", "first", "second", "--out", "league", "--overwrite"]) == 0
    Path("league/mine.md").write_text("mine")
    refused(place, "compare", "first", "second", "--out", "league")


@pytest.mark.parametrize(
    "like", ["a model of others", "numbered images and a grid", "a copied config", "a folder in it"]
)
def test_what_only_looks_as_if_metagen_wrote_it_stays(place, like):
    Path("out").mkdir()
    if like == "a model of others":
        Path("out/config.json").write_text('{"architectures": ["Bert"], "model_type": "bert"}')
        shutil.copy("export/model.safetensors", "out")
    elif like == "numbered images and a grid":
        save_pngs(torch.rand(5, 1, 40, 40), Path("out"))
        Image.new("L", (300, 200)).save("out/grid.png")
    elif like == "a copied config":
        shutil.copy("export/config.json", "out")
        Path("out/thesis.tex").write_text("years of work")
    else:
        shutil.copytree("export", "out", dirs_exist_ok=True)
        shutil.copytree("tasks/blob-0", "out/evaluation")
    refused(place, "sample", "--model", "mine", "--n", "1", "--out", "out")


@pytest.mark.parametrize("verb", ["adapt", "sample"])
@pytest.mark.parametrize("was", ["drawn", "copied model", "own"])
def test_a_folder_that_metagen_wrote_is_replaced(place, verb, was):
    source = {"drawn": "drawn", "copied model": "export", "own": "mine"}[was]
    shutil.copytree(source, "out")
    Path("out/.DS_Store").write_bytes(b"\0")
    assert main([verb, *VERBS[verb], "--out", "out"]) == 2
    assert main([verb, *VERBS[verb], "--out", "out", "--overwrite"]) == 0
    assert Path("out/grid.png" if verb == "sample" else "out/difference.safetensors").is_file()
    assert not Path("out/.DS_Store").exists()


def test_a_result_within_a_model_is_replaced(place):
    shutil.copytree("drawn", "mine/drawn")
    assert main(["sample", "--model", "mine", "--n", "1", "--out", "mine/drawn", "--overwrite"]) == 0
    assert not Path("mine/drawn/0001.png").exists()
    refused(place, "adapt", *VERBS["adapt"], "--out", "mine")


def test_saving_in_python_replaces_models_alone(place):
    model = metagen.load("export")
    before = tree(place / "tasks")
    for save in (model.save, model.adapt("tasks/blob-10").save, Model(model.learner, {}).save):
        with pytest.raises(MetagenError):
            save("tasks/blob-10", overwrite=True)
    assert tree(place / "tasks") == before
    shutil.copytree("export", "copy")
    model.save("copy", overwrite=True)
    assert torch.equal(metagen.load("copy").adapt("tasks/blob-10").sample(2), model.adapt("tasks/blob-10").sample(2))


def test_unfinished_work_with_files_of_the_user_stays(place):
    Path("out.unfinished").mkdir()
    Path("out.unfinished/about.json").write_text("{}")
    Path("out.unfinished/notes.txt").write_text("years of work")
    for verb in ("evaluate", "zoo"):
        refused(place, verb, *VERBS[verb], "--out", "out")


def test_notes_among_unfinished_work_outlive_it(place, monkeypatch):
    keep = ShardedTasks._keep

    def keep_beside_notes(spread, *kept):
        keep(spread, *kept)
        (spread.folder / "notes.txt").write_text("years of work")

    monkeypatch.setattr(ShardedTasks, "_keep", keep_beside_notes)
    assert main(["zoo", *VERBS["zoo"], "--out", "out"]) == 0
    assert [path.name for path in Path("out.unfinished").iterdir()] == ["notes.txt"]


# runs


@pytest.fixture
def run(exported, tmp_path):
    """What `metagen fit` leaves."""
    return Path(shutil.copytree(exported.parent, tmp_path / "run"))


def refused_run(fit, run, *options):
    before = tree(run)
    assert fit(run, "--overwrite", *map(str, options)) == 2
    assert tree(run) == before


def test_a_run_keeps_what_a_user_put_into_its_folders(fit, run):
    for where in ("samples", "checkpoints", "export", "tensorboard"):
        (run / where).mkdir(exist_ok=True)
        (run / where / "mine.txt").write_text("years of work")
        refused_run(fit, run)
        os.replace(run / where / "mine.txt", run / "mine.txt")
    (run / "metrics-of-my-thesis.csv").write_text("years of work")
    assert fit(run, "--overwrite") == 0
    assert (run / "mine.txt").is_file()
    assert (run / "metrics-of-my-thesis.csv").is_file()


def test_a_run_keeps_what_a_user_named_like_its_own(fit, run):
    shutil.copy(run / "checkpoints/best.ckpt", run / "checkpoints/the one of my paper.ckpt")
    refused_run(fit, run)
    os.replace(run / "checkpoints/the one of my paper.ckpt", run / "paper.ckpt")
    for name in ("metrics-2024.csv", "metrics-1-final.csv", ".git"):
        (run / name).write_text("years of work")
    assert fit(run, "--overwrite") == 0
    assert {"metrics-2024.csv", "metrics-1-final.csv", ".git", "paper.ckpt"} <= {path.name for path in run.iterdir()}


@pytest.mark.parametrize("where", ["runs/new", "a link"])
def test_a_run_leaves_no_tasks_among_its_data(fit, blobs, tmp_path, where):
    shutil.copytree(blobs / "tasks", tmp_path / "tasks")
    (tmp_path / "link").symlink_to(tmp_path / "tasks")
    before = tree(tmp_path)
    run = tmp_path / ("link/new" if where == "a link" else "tasks/runs/new")
    assert fit(run, "--data.root", str(tmp_path / "tasks"), "--data.split_file", "null") == 2
    assert tree(tmp_path) == before


def test_an_output_among_the_data_is_refused_where_it_would_be_a_task(place):
    judged_by_hash = EpisodeData("folder", "tasks", 28, 1)
    for out in (Path("tasks/results"), place / "tasks/blob-1/results", Path("elsewhere/../tasks/results")):
        with pytest.raises(MetagenError):
            judged_by_hash.check_outside(out)
    for out in (Path("results"), Path("tasks.out"), Path("tasks/.results"), Path("tasks/.runs/results")):
        judged_by_hash.check_outside(out)
    EpisodeData("folder", "tasks", 28, 1, split_file="split.json").check_outside(Path("tasks/results"))
    refused(place, *("evaluate", "--model", "export", "--data.root", "tasks", "--out", "tasks/results"))


def test_a_run_keeps_what_it_reads(fit, run):
    refused_run(fit, run, "--model.initial", run / "export")
    refused_run(fit, run, "--data.split_file", run / "split.json")
    refused_run(fit, run, "--data.root", run)


def test_a_run_can_be_continued_and_repeated_from_its_config(fit, run):
    assert fit(run, "--ckpt_path", "last", "--data.episodes", "13") == 0
    assert main(["fit", "--config", str(run / "config.yaml"), "--run_dir", str(run), "--overwrite"]) == 0


def test_a_continued_run_keeps_notes_in_its_export(fit, run):
    (run / "export/notes.txt").write_text("years of work")
    before = tree(run)
    assert fit(run, "--ckpt_path", "last", "--data.episodes", "13") == 2
    assert tree(run) == before


@pytest.mark.parametrize("left", ["split.json", "split.json and config.yaml"])
def test_a_folder_of_data_is_no_run(fit, blobs, tmp_path, left):
    shutil.copy(blobs / "split.json", tmp_path)
    if "config" in left:
        (tmp_path / "config.yaml").write_text("data:\n  size: 28\n")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples/1.png").write_bytes(b"mine")
    refused_run(fit, tmp_path)
