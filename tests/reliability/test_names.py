"""A path means the same however, wherever and on whatever system it is written."""

from __future__ import annotations

import io
import json
import ntpath
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

import metagen
from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation.extractor_choice import extractor_of
from metagen.learners import Reptile
from metagen.learners.model_files import save_model
from metagen.model import Model
from metagen.storage import bundled
from metagen.storage.archives import unpacked
from metagen.storage.images import save_png, save_pngs
from metagen.tasks import Folder
from metagen.tasks.task_data import TaskData
from metagen.training.zoo_files import save_zoo
from tests.doubles import Blobs, tiny_vae

OTHER = "omniglot-redraw"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder whose name is not plain, apart from the current folder."""
    home = tmp_path / "home of Zoë Müller"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return home


@pytest.fixture
def place(home):
    """Tasks, their split, a model "export" of them, and "five" images, all at home."""
    blobs = Blobs(tasks=8, images=4)
    for task in [name for part in ("train", "val", "test") for name in blobs.split[part]]:
        save_pngs(blobs.images(task), home / "tasks" / task)
    save_pngs(blobs.images("blob-7"), home / "five")
    (home / "split.json").write_text(blobs.split.to_json())
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 2, "queries": 2}
    torch.manual_seed(0)
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01, test_steps=2)
    save_model(home / "export", learner, {"data": data}, blobs.split)
    return home


# ~


def test_home_in_every_option_of_every_verb(place):
    data = ["--data.root", "~/tasks", "--data.split_file", "~/split.json"]
    assert main(["adapt", "--model", "~/export", "--support", "~/five", "--out=~/mine"]) == 0
    assert main(["sample", "--model=~/mine", "--n", "1", "--out", "~/drawn"]) == 0
    evaluate = ["evaluate", "--model", "~/export", *data, "--extractor", "none", "--baselines=false", "--curve", "[0]"]
    for out in ("~/one", "~/two"):
        assert main([*evaluate, "--out", out]) == 0
    assert main(["compare", "~/one", "~/two", "--out", "~/league"]) == 0
    assert main(["zoo", "--model", "~/export", *data, "--tasks", "1", "--steps", "1", "--out", "~/zoo"]) == 0
    assert list(Path().iterdir()) == []
    for name in ("mine", "drawn", "one", "league", "zoo"):
        assert (place / name).is_dir()


def test_home_in_a_config(place):
    Path(place / "adapt.yaml").write_text("model: ~/export\nsupport: '~/five'\nout: \"~/mine\"\n")
    for config in (["--config", "~/adapt.yaml"], ["--config=~/adapt.yaml", "--overwrite"]):
        assert main(["adapt", *config]) == 0
    assert (place / "mine").is_dir()
    assert list(Path().iterdir()) == []


def test_home_in_a_run(home, tiny):
    words = [*tiny, "--run_dir", "~/run", "--data.episodes", "1", "--trainer.val_check_interval", "1"]
    logger = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "~/logs"]
    assert main(["fit", *words, *logger]) == 0
    assert main(["fit", *words, "--data.episodes", "2", "--ckpt_path", "~/run/checkpoints/last.ckpt"]) == 0
    assert (home / "run/export").is_dir()
    assert (home / "logs").is_dir()
    assert list(Path().iterdir()) == []


def test_home_in_python(place):
    model = metagen.load("~/export")
    model.save("~/copy")
    model.adapt("~/five").save("~/mine")
    model.adapt(Path("~/five")).save(Path("~/too"))
    assert torch.equal(metagen.load("~/mine").sample(1), metagen.load(Path("~/too")).sample(1))
    assert Folder("~/tasks", 28, 1, split_file="~/split.json").split.test
    assert list(Path().iterdir()) == []


def test_home_in_the_environment(place, monkeypatch):
    monkeypatch.setenv("METAGEN_CACHE", "~/cache")
    with zipfile.ZipFile(place / "tasks.zip", "w") as archive:
        for path in sorted((place / "tasks").rglob("*.png")):
            archive.write(path, path.relative_to(place / "tasks"))
    assert len(Folder("~/tasks.zip", 28, 1, split_file="~/split.json").split.train) == 4
    assert (place / "cache/archives").is_dir()
    assert list(Path().iterdir()) == []


NOWHERE = {"empty": "", "too long": "n" * 300, "a part too long": f"here/{'n' * 300}/x", "in a loop": "loop/x"}


@pytest.mark.parametrize("verb", ["adapt", "sample", "evaluate", "fit"])
@pytest.mark.parametrize("name", NOWHERE)
def test_where_nothing_can_stand_is_one_line(place, tiny, capfd, verb, name):
    Path("loop").symlink_to("loop")
    words = {
        "adapt": {"--model": "~/export", "--support": "~/five", "--out": "mine"},
        "sample": {"--model": "~/mine", "--n": "1", "--out": "drawn"},
        "evaluate": {"--model": "~/export", "--data.root": "~/tasks", "--out": "result"},
        "fit": {**dict(zip(tiny[::2], tiny[1::2], strict=True)), "--run_dir": "run"},
    }[verb]
    for option in [each for each in words if each in ("--model", "--support", "--out", "--data.root", "--run_dir")]:
        given = [word for pair in (words | {option: NOWHERE[name]}).items() for word in pair]
        assert main([verb, *given]) == 2
        assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert not Path("run").exists()


def test_a_path_with_a_nul_is_one_line(place):
    with pytest.raises(MetagenError):
        metagen.load("a\0b")


def test_a_name_that_a_terminal_cannot_show_ends_no_verb(place, monkeypatch):
    shown = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr("sys.stdout", shown)
    assert main(["adapt", "--model", "~/export", "--support", "~/five", "--out", "ça alors"]) == 0
    shown.flush()
    assert b"alors" in shown.buffer.getvalue()


def test_a_config_that_names_the_model_means_its_tasks_as_a_word_does(place, capsys):
    Path("words.yaml").write_text("model: ~/export\nout: result\n")
    outputs = []
    for words in (["--config", "words.yaml"], ["--model", "~/export", "--out", "result"]):
        with pytest.raises(SystemExit):
            main(["evaluate", *words, "--data.root", "~/tasks", "--dry-run"])
        outputs.append(capsys.readouterr().out.partition("data:")[2])
    assert outputs[0] == outputs[1]
    assert "task_set: folder" in outputs[0]


def test_only_the_beginning_means_home(home):
    assert metagen.storage.files.placed("a~/~b") == Path("a~/~b")
    assert metagen.storage.files.placed("./~/b") == Path("~/b")
    assert metagen.storage.files.placed("~no such user/b") == Path("~no such user/b")


# names bundled with metagen


@pytest.mark.parametrize("name", ["omniglot", "Omniglot", "omniglot/", "OMNIGLOT"])
@pytest.mark.parametrize("local", [None, "empty", "images", "file"])
def test_a_folder_of_data_hides_no_model(home, name, local):
    if local == "file":
        Path("omniglot").touch()
    elif local:
        Path("omniglot").mkdir()
    if local == "images":
        save_png(torch.zeros(1, 8, 8), Path("omniglot/1.png"))
    assert metagen.load(name).path == bundled.resource("assets", "models/omniglot").resolve()


def test_a_folder_of_data_hides_no_extractor(place):
    Path("omniglot-report").mkdir()
    given = {"root": str(place / "tasks"), "split_file": str(place / "split.json")}
    data = TaskData("folder", size=28, channels=1, shots=2, queries=2, **given)
    root = Path(__file__).parents[2] / "assets"
    assert extractor_of("omniglot-report", data, "test")[1]["name"] == "omniglot-report"
    assert bundled.bundled("extractors", "glyphs-select") == root / "extractors/glyphs-select"


def test_a_model_here_goes_before_one_that_travels(place):
    shutil.copytree(place / "export", "omniglot")
    assert metagen.load("omniglot").path == Path("omniglot").resolve()


@pytest.mark.parametrize("name", ["./omniglot", "omniglot/none", "../here/omniglot"])
def test_a_path_is_no_name(home, name):
    Path("omniglot").mkdir()
    with pytest.raises(MetagenError, match=r"no config\.json"):
        metagen.load(name)


# a base that is somewhere else


@pytest.fixture
def moved(home):
    """An adapted model that does not lie where it was saved, and a function that puts something where its base was."""
    metagen.load(OTHER).adapt(torch.rand(2, 1, 28, 28)).save("a/mine")
    shutil.move("a/mine", "b")
    config = Path("b/config.json")
    content = json.loads(config.read_text())
    content["base"]["path"] = "../base"
    config.write_text(json.dumps(content))
    return Path("b")


@pytest.mark.parametrize("there", ["nothing", "images", "another model", "a model of others", "a broken one", "a zoo"])
def test_a_base_is_found_by_its_hash(moved, there):
    base = Path("base")
    if there == "images":
        save_pngs(torch.rand(2, 1, 8, 8), base)
    elif there == "another model":
        shutil.copytree(bundled.resource("assets", "models/omniglot"), base)
    elif there == "a zoo":
        save_zoo(base, {}, {"tasks": [], "base_sha256": ""})
    elif there != "nothing":
        base.mkdir()
        (base / "config.json").write_text('{"model_type": "bert"}' if there == "a model of others" else "{")
    assert metagen.load(moved).model.path == bundled.resource("assets", f"models/{OTHER}").resolve()


@pytest.mark.parametrize("way", ["..\\Models\\base", "../Models/base/", "..\\Models/base", ".\\..\\Models\\base\\"])
def test_a_way_to_the_base_may_be_written_as_on_any_system(place, way):
    Path("Models").mkdir()
    shutil.move(place / "export", "Models/base")
    metagen.load("Models/base").adapt(place / "five").save("mine")
    content = json.loads(Path("mine/config.json").read_text())
    content["base"]["path"] = way
    Path("mine/config.json").write_text(json.dumps(content))
    assert metagen.load("mine").model.path == Path("Models/base").resolve()


@pytest.mark.parametrize("way", ["C:\\Users\\zoe\\base", "D:/models/omniglot", "\\\\server\\share\\base"])
def test_a_base_on_a_drive_that_is_not_here_is_found_by_its_hash(moved, way):
    content = json.loads((moved / "config.json").read_text())
    content["base"]["path"] = way
    (moved / "config.json").write_text(json.dumps(content))
    assert metagen.load(moved).sample(1).shape == (1, 1, 28, 28)


def test_where_no_relative_way_leads_the_absolute_one_is_kept(place, monkeypatch):
    def other_drive(path, start):
        return ntpath.relpath("D:\\base", "C:\\mine")

    model = metagen.load(place / "export")
    monkeypatch.setattr(os.path, "relpath", other_drive)
    model.adapt(place / "five").save("mine")
    shutil.move("mine", "elsewhere")
    assert metagen.load("elsewhere").model.path == (place / "export").resolve()


def test_a_whole_model_needs_no_way(place):
    model = metagen.load(place / "export")
    model.adapt(place / "five").save("mine", standalone=True)
    shutil.rmtree(place / "export")
    shutil.move("mine", "ein schöner Ort")
    assert isinstance(metagen.load("ein schöner Ort").model, Model)


# archives from other systems


def png():
    buffer = io.BytesIO()
    Image.new("L", (8, 8), 200).save(buffer, "PNG")
    return buffer.getvalue()


def pack(path, names):
    if path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                member = zipfile.ZipInfo("x")
                member.filename = name  # as it is, whatever the system's own separator
                archive.writestr(member, png())
        return path
    with tarfile.open(path, "w") as archive:
        for name in names:
            header = tarfile.TarInfo(name)
            header.size = len(png())
            archive.addfile(header, io.BytesIO(png()))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".ZIP", ".tar"])
@pytest.mark.parametrize(("top", "kept"), [("", ""), ("top\\", ""), ("Meine Bilder\\Ä\\", "Ä/")])
def test_backslashes_part_folders(home, monkeypatch, suffix, top, kept):
    monkeypatch.setenv("METAGEN_CACHE", "cache")
    names = [f"{top}task {task}\\{image}.png" for task in range(30) for image in range(2)]
    tasks = Folder(str(pack(Path(f"tasks{suffix}"), names)), 28, 1)
    found = {name: tasks.image_count(name) for part in ("train", "val", "test") for name in tasks.split[part]}
    assert found == {f"{kept}task {task}": 2 for task in range(30)}  # the one top folder is the root


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.parametrize("name", ["..\\out.png", "a\\..\\..\\out.png", "\\out.png", "C:\\out.png", "c:/out.png"])
def test_a_member_that_lies_outside_is_refused_in_any_spelling(home, monkeypatch, suffix, name):
    monkeypatch.setenv("METAGEN_CACHE", "cache")
    with pytest.raises(MetagenError):
        unpacked(pack(Path(f"tasks{suffix}"), ["a\\in.png", name]))
    assert not list(Path().rglob("*.png"))
