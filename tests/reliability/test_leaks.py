"""Held-out tasks that are not: a task is known again by its images, whatever it is called and however they are kept."""

from __future__ import annotations

import json
import logging
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from experiments.seen import write_seen
from metagen.cli import main
from metagen.distributed.processes import Processes
from metagen.errors import MetagenError
from metagen.evaluation import sampling_choice
from metagen.evaluation.evaluator import load_for_tasks
from metagen.evaluation.extractor_choice import extractor_of
from metagen.metrics.extractors import Embedding
from metagen.metrics.extractors.extractor_files import save_extractor
from metagen.model import Model, load_base
from metagen.storage.bundled import resource
from metagen.storage.images import save_pngs
from metagen.tasks import Folder, task_sets
from metagen.tasks.seen import SeenTasks, pixel_print, seen_of, separate
from metagen.tasks.splits import Split, read_split
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs

MODELS = [*resource("assets", "models").iterdir(), *resource("assets", "extractors").iterdir()]


def files_of(blobs, number):
    return sorted((blobs / "tasks" / f"blob-{number}").iterdir())


def fresh(folder, number, count=6):
    """Images of a task that nobody has seen."""
    torch.manual_seed(number)
    save_pngs(torch.randint(0, 256, (count, 1, 28, 28), dtype=torch.uint8), folder)


def tree(root, held_out):
    """A tree of new tasks, but for the test task "other", which is made; its split is written by hand."""
    fresh(root / "tasks" / "first", 100)
    fresh(root / "tasks" / "second", 101)
    held_out(root / "tasks" / "other")
    (root / "split.json").write_text('{"train": ["first"], "val": ["second"], "test": ["other"]}')
    return data_of(root)


def data_of(root, tasks="tasks", **options):
    return EpisodeData("folder", str(root / tasks), 28, 1, split_file=str(root / "split.json"), **options)


def opened(blobs, number, change=lambda image: image):
    return [change(Image.open(path)) for path in files_of(blobs, number)]


def saved(images, folder, suffix, **options):
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        image.save(folder / f"z{9 - i}{suffix}", **options)  # in another order, too


# "blob-0" is a train task of the model, and "blob-15" a test task.
COPIES = {
    "renamed": lambda blobs, to: shutil.copytree(blobs / "tasks" / "blob-0", to),
    "bmp": lambda blobs, to: saved(opened(blobs, 0), to, ".bmp"),
    "tiff, RGB": lambda blobs, to: saved(opened(blobs, 0, lambda image: image.convert("RGB")), to, ".tiff"),
    "webp": lambda blobs, to: saved(opened(blobs, 0), to, ".webp", lossless=True),
    "gif, palette": lambda blobs, to: saved(opened(blobs, 0), to, ".gif"),
    "opaque RGBA": lambda blobs, to: saved(opened(blobs, 0, lambda image: image.convert("RGBA")), to, ".png"),
    "negative": lambda blobs, to: saved(opened(blobs, 0, ImageOps.invert), to, ".png"),
    "most of them": lambda blobs, to: (saved(opened(blobs, 0)[:4], to, ".png"), fresh(to, 7, 3)),
    "of two train tasks": lambda blobs, to: saved([*opened(blobs, 0)[:3], *opened(blobs, 1)[:3]], to, ".png"),
    "with blank ones": lambda blobs, to: saved([*opened(blobs, 0), *[Image.new("L", (28, 28), 9)] * 4], to, ".png"),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_task_is_refused_when_most_of_its_images_were_trained_on(exported, blobs, tmp_path, copy):
    data = tree(tmp_path, lambda to: COPIES[copy](blobs, to))
    with pytest.raises(MetagenError, match="other"):
        load_for_tasks(str(exported), data, "test")


@pytest.mark.parametrize(
    ("number", "count"), [(None, 0), (15, 6), (0, 3)], ids=["new", "held out there too", "less than half"]
)
def test_a_task_is_judged_when_most_of_its_images_are_new(exported, blobs, tmp_path, number, count):
    def made(folder):
        fresh(folder, 5, 6)
        for path in files_of(blobs, number)[:count] if number is not None else ():
            shutil.copy(path, folder / f"old-{path.name}")
        if count == 6:
            for path in folder.glob("0*"):
                path.unlink()

    assert load_for_tasks(str(exported), tree(tmp_path, made), "test").weights_hash


def test_what_a_model_was_chosen_on_may_be_val_but_not_test(exported, blobs, tmp_path):
    data = tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-10", to))
    with pytest.raises(MetagenError):
        load_for_tasks(str(exported), data, "test")
    (tmp_path / "split.json").write_text('{"train": ["first"], "val": ["other"], "test": ["second"]}')
    assert load_for_tasks(str(exported), data_of(tmp_path), "val")


@pytest.mark.parametrize("verb", ["evaluate", "tune", "zoo", "fit"])
def test_every_verb_refuses_it_in_one_line_and_writes_nothing(exported, blobs, tiny, tmp_path, capsys, verb):
    tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-0", to))
    out = tmp_path / "out"
    here = ["--data.root", str(tmp_path / "tasks"), "--data.split_file", str(tmp_path / "split.json")]
    words = ["--model", str(exported), *here, "--out", str(out)]
    if verb == "fit":
        words = [*tiny, *here, "--data.tasks", "1", "--run_dir", str(out), "--model.initial", str(exported)]
    if verb == "tune":  # which judges on val tasks
        split = '{"train": ["first"], "test": ["second"], "val": ["other"]}'
        (tmp_path / "split.json").write_text(split)
    more = ["--extractor", "none", "--baselines", "false"] if verb == "evaluate" else []
    assert main([verb, *words, *more]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "other" in err
    assert not out.exists()


def test_a_copy_of_a_model_and_what_begins_from_it_know_the_same_images(exported, fit, blobs, tmp_path):
    load_base(exported).save(tmp_path / "copy", stored_as="float16")
    for number in range(8):
        fresh(tmp_path / "mine" / f"new-{number}", number)
    names = [f"new-{number}" for number in range(8)]
    (tmp_path / "mine.json").write_text(json.dumps({"train": names[:4], "val": names[4:6], "test": names[6:]}))
    words = ("--data.root", str(tmp_path / "mine"), "--data.split_file", str(tmp_path / "mine.json"))
    options = (*words, "--data.episodes", "2", "--data.val_tasks", "2", "--model.initial", str(tmp_path / "copy"))
    assert fit(tmp_path / "run", *options) == 0
    data = tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-0", to))
    for model in (tmp_path / "copy", tmp_path / "run" / "export"):
        with pytest.raises(MetagenError):
            load_for_tasks(str(model), data, "test")


def test_a_model_of_another_task_set_is_checked_too(exported, blobs, tmp_path):
    shutil.copytree(exported, tmp_path / "model")
    for name in ("config.json", "seen.json"):
        text = (tmp_path / "model" / name).read_text()
        (tmp_path / "model" / name).write_text(text.replace('"folder"', '"omniglot"'))
    with pytest.raises(MetagenError, match="other"):
        data = tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-0", to))
        load_for_tasks(str(tmp_path / "model"), data, "test")


def test_an_extractor_is_checked_too(blobs, tmp_path):
    theirs = EpisodeData("folder", str(blobs / "tasks"), 28, 1, split_file=str(blobs / "split.json"))
    extractor, info = Embedding(28, 1, (8, 8, 8), 4, 3), {"data": theirs.description}
    save_extractor(tmp_path / "look", extractor, info, theirs.task_set.split, seen=theirs.seen)
    data = tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-0", to))
    with pytest.raises(MetagenError):
        extractor_of(str(tmp_path / "look"), data, "test")
    assert extractor_of(str(tmp_path / "look"), data, "val")


def test_a_tuned_copy_has_seen_what_it_was_tuned_on(exported, tmp_path, monkeypatch):
    data = tree(tmp_path, lambda to: fresh(to, 9))
    monkeypatch.setattr(sampling_choice, "choose_sampling", lambda *_: sampling_choice.Choice({}, {}))
    monkeypatch.setattr(sampling_choice, "describe_choice", lambda _: "chosen")
    out = tmp_path / "tuned"
    sampling_choice.tune(str(exported), out, data, (1,), None, None, 0, None, Processes(accelerator="cpu"), False)
    (tmp_path / "split.json").write_text('{"train": ["first"], "val": ["other"], "test": ["second"]}')
    assert load_for_tasks(str(exported), data_of(tmp_path), "test")
    with pytest.raises(MetagenError, match="second"):
        load_for_tasks(str(out), data_of(tmp_path), "test")


def test_ink_that_is_seen_on_black_alone_is_known_too(tmp_path):
    for task in "abc":
        (tmp_path / "tasks" / task).mkdir(parents=True)
        for number in range(3):
            alpha = np.random.RandomState(10 * ord(task) + number).randint(0, 256, (28, 28)).astype(np.uint8)
            white = np.full((28, 28), 255, np.uint8)
            Image.fromarray(np.dstack([white, white, white, alpha])).save(tmp_path / "tasks" / task / f"{number}.png")
    tasks = Folder(str(tmp_path / "tasks"), 28, 1, val=1, test=1)
    assert len({each for task in "abc" for each in tasks.prints(task)}) == 9


def test_a_copy_that_lies_on_its_side_and_says_so_is_known(exported, blobs, tmp_path):
    side = Image.Exif()
    side[0x112] = 6

    def turned(to):
        saved(opened(blobs, 0, lambda image: image.transpose(Image.Transpose.ROTATE_90)), to, ".png", exif=side)

    with pytest.raises(MetagenError, match="other"):
        load_for_tasks(str(exported), tree(tmp_path, turned), "test")


def test_hashes_are_used_without_a_split(exported, blobs, tmp_path):
    shutil.copytree(exported, tmp_path / "bare")
    (tmp_path / "bare" / "split.json").unlink()
    data = tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-0", to))
    with pytest.raises(MetagenError, match="other"):
        load_for_tasks(str(tmp_path / "bare"), data, "test")


def test_where_nobody_knows_what_a_model_of_another_task_set_has_seen_that_is_told(exported, tmp_path, caplog):
    shutil.copytree(exported, tmp_path / "bare")
    for name in ("split.json", "seen.json"):
        (tmp_path / "bare" / name).unlink()
    assert load_for_tasks(str(tmp_path / "bare"), EpisodeData("glyphs"), "test")
    assert len([record for record in caplog.records if str(tmp_path / "bare") in record.getMessage()]) == 1


# names alone


@pytest.fixture
def old(exported, tmp_path):
    """An export of before hashes were kept."""
    shutil.copytree(exported, tmp_path / "old")
    (tmp_path / "old" / "seen.json").unlink()
    return tmp_path / "old"


@pytest.mark.parametrize("above", ["", "top/"], ids=["same name", "under a top folder"])
def test_an_export_without_hashes_is_checked_by_name(old, blobs, tmp_path, caplog, above):
    for number in (0, 11, 16):
        shutil.copytree(blobs / "tasks" / f"blob-{number}", tmp_path / "tasks" / f"{above}blob-{number}")
    split = Split((f"{above}blob-11",), (f"{above}blob-16",), (f"{above}blob-0",))
    (tmp_path / "split.json").write_text(split.to_json())
    with pytest.raises(MetagenError, match="blob-0"):
        load_for_tasks(str(old), data_of(tmp_path), "test")
    assert load_for_tasks(str(old), data_of(tmp_path), "val")
    assert len(caplog.records) == 1  # one line that says so
    assert str(old) in caplog.text


def test_a_tree_that_is_read_each_time_is_checked_by_name(exported, blobs, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("metagen.tasks.folder.MAX_KEPT", 0)
    for number in (0, 11, 16):
        shutil.copytree(blobs / "tasks" / f"blob-{number}", tmp_path / "tasks" / f"blob-{number}")
    (tmp_path / "split.json").write_text(Split(("blob-11",), ("blob-16",), ("blob-0",)).to_json())
    with pytest.raises(MetagenError, match="blob-0"):
        load_for_tasks(str(exported), data_of(tmp_path), "test")
    assert load_for_tasks(str(exported), data_of(tmp_path), "val")
    assert len(caplog.records) == 1  # one line that says so


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_either_unicode_form_are_one_name_and_fall_to_one_split(tmp_path, form, caplog):
    names = [f"té{i}" for i in range(8)]
    for i, name in enumerate(names):
        fresh(tmp_path / "tree" / unicodedata.normalize(form, name), i)
    tasks = Folder(str(tmp_path / "tree"), size=28, channels=1, val=2, test=2)
    assert sorted(task for part in (tasks.split.train, tasks.split.val, tasks.split.test) for task in part) == names
    other = unicodedata.normalize({"NFC": "NFD", "NFD": "NFC"}[form], tasks.split.to_json())
    data = json.loads(other)
    del data["sha256"]
    (tmp_path / "split.json").write_text(json.dumps(data))
    again = Folder(str(tmp_path / "tree"), size=28, channels=1, split_file=str(tmp_path / "split.json"))
    assert again.split == tasks.split
    seen = SeenTasks({"folder": {"train": dict.fromkeys(data["train"], "")}})
    assert seen.named("folder", tasks.split.train) == list(tasks.split.train)


def test_two_folders_that_differ_in_their_unicode_form_alone_stay_two(tmp_path):
    for i, name in enumerate(("é", unicodedata.normalize("NFD", "é"), "b")):
        fresh(tmp_path / name, i)
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this disk takes both names for one")
    split = Folder(str(tmp_path), size=28, channels=1, val=1, test=1).split
    assert len({*split.train, *split.val, *split.test}) == 3


# archives


@pytest.mark.parametrize("suffix", ["zip", "gztar"])
@pytest.mark.parametrize("top", [True, False], ids=["with its name on top", "without"])
def test_an_archive_reads_like_the_folder_that_was_packed(blobs, tmp_path, monkeypatch, suffix, top):
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    packed = shutil.make_archive(
        str(tmp_path / "a"), suffix, blobs if top else blobs / "tasks", "tasks" if top else "."
    )
    one, other = (Folder(str(root), size=28, channels=1, val=3, test=3) for root in (blobs / "tasks", packed))
    assert one.split == other.split
    assert all(one.prints(task) == other.prints(task) for task in one.split.train)


def test_an_archive_of_one_task_keeps_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    fresh(tmp_path / "x" / "only", 1)
    packed = shutil.make_archive(str(tmp_path / "a"), "zip", tmp_path / "x", "only")
    with pytest.raises(MetagenError, match="1 tasks"):
        Folder(packed, size=28, channels=1)


# within one run


@pytest.mark.parametrize("verb", ["fit", "train-extractor"])
def test_copies_of_train_tasks_are_refused_before_anything_is_written(tiny, blobs, tmp_path, capsys, verb):
    for number in (0, 1, 2, 3, 11, 16, 17):
        shutil.copytree(blobs / "tasks" / f"blob-{number}", tmp_path / "tasks" / "A" / f"{number}")
    saved(opened(blobs, 0), tmp_path / "tasks" / "B" / "0", ".bmp")
    split = Split(tuple(f"A/{n}" for n in range(4)), ("A/11", "B/0"), ("A/16", "A/17"))
    (tmp_path / "split.json").write_text(split.to_json())
    here = ("--data.root", str(tmp_path / "tasks"), "--data.split_file", str(tmp_path / "split.json"))
    words = [*tiny, *here, "--run_dir"] if verb == "fit" else ["--data.task_set", "folder", *here, "--out"]
    assert main([verb, *words, str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "'B/0'" in err
    assert "'A/0'" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("names", "told"), [(("cat", "dog", "owl"), True), (("01", "02", "03"), False)])
def test_a_class_under_several_folders_and_in_several_splits_is_told(tmp_path, caplog, names, told):
    for i, name in enumerate(names):
        for place in ("A", "B", "C"):
            fresh(tmp_path / place / name, i, 1)
    with caplog.at_level(logging.WARNING):
        Folder(str(tmp_path), size=28, channels=1, val=3, test=3)
    assert bool(caplog.records) is told


# runs that go on


def swapped(blobs, place):
    """The split of the run with its first train task held out."""
    split = read_split(blobs / "split.json")
    place.write_text(Split((*split.train[1:], *split.test), split.val, split.train[:1]).to_json())
    return str(place)


@pytest.fixture(scope="module")
def stopped(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    assert main(["fit", *tiny, "--run_dir", str(folder), "--trainer.max_steps", "4"]) == 0
    return folder


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "in another folder"])
@pytest.mark.parametrize("kept", [True, False], ids=["", "of before"])
def test_a_run_goes_on_by_no_split_that_holds_out_what_it_was_trained_on(
    fit, stopped, blobs, tmp_path, capsys, elsewhere, kept
):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    last = run / "checkpoints" / "last.ckpt"
    if not kept:  # as checkpoints of before were
        state = torch.load(last, weights_only=True)
        del state["EpisodeData"], state["callbacks"]["Checkpoints"]["record"]
        torch.save(state, last)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = ("--ckpt_path", str(last), "--data.split_file", swapped(blobs, tmp_path / "other.json"))
    assert fit(tmp_path / "new" if elsewhere else run, *words) == 2
    assert "'blob-0'" in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert not (tmp_path / "new").exists()


def test_a_run_goes_on_by_no_split_that_holds_out_its_images_under_another_name(fit, stopped, blobs, tmp_path):
    shutil.copytree(stopped, tmp_path / "run")
    tree(tmp_path, lambda to: shutil.copytree(blobs / "tasks" / "blob-0", to))
    here = ("--data.root", str(tmp_path / "tasks"), "--data.split_file", str(tmp_path / "split.json"))
    assert fit(tmp_path / "run", *here, "--data.tasks", "1", "--ckpt_path", "last") == 2


def test_what_a_run_was_trained_on_before_it_went_on_with_more_tasks_stays_known(fit, stopped, blobs, tmp_path):
    """The new split leaves the first train task out altogether; a third one holds it out."""
    shutil.copytree(stopped, tmp_path / "run")
    split = read_split(blobs / "split.json")
    (tmp_path / "less.json").write_text(Split(split.train[1:], split.val, split.test).to_json())
    assert fit(tmp_path / "run", "--ckpt_path", "last", "--data.split_file", str(tmp_path / "less.json")) == 0
    data = EpisodeData("folder", str(blobs / "tasks"), 28, 1, split_file=swapped(blobs, tmp_path / "other.json"))
    with pytest.raises(MetagenError, match="'blob-0'"):
        load_for_tasks(str(tmp_path / "run" / "export"), data, "test")


# files


@pytest.mark.parametrize("text", ["", "[]", '{"folder": []}', '{"folder": {"train": {"a": 3}}}', "[" * 100_000])
def test_a_damaged_file_of_hashes_is_one_line(exported, tmp_path, text):
    shutil.copytree(exported, tmp_path / "model")
    (tmp_path / "model" / "seen.json").write_text(text)
    with pytest.raises(MetagenError, match=r"seen\.json") as info:
        load_base(tmp_path / "model")
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("place", MODELS, ids=lambda place: place.name)
def test_what_travels_knows_the_images_of_every_task_it_has_seen(place):
    path, split = Path(str(place)), read_split(Path(str(place)) / "split.json")
    info = json.loads((path / "config.json").read_text())["info"]
    seen = seen_of(path, info)
    assert seen is not None
    drawn = {name for name in seen.tasks if task_sets[name].drawn}  # letters, known by their names
    assert seen.without_prints(*drawn) == 0
    known = seen.tasks[info["data"]["task_set"]]
    assert {part: set(known[part]) for part in known} == {"train": set(split.train), "val": set(split.val)}
    photographed = [parts for name, parts in seen.tasks.items() if name not in drawn]
    tasks = [prints for parts in photographed for part in parts.values() for prints in part.values()]
    assert all(len(separate(prints)) > 15 for prints in tasks)


def test_hashes_are_those_of_what_was_written_before():
    """They stand in exports: another way to take them would know no task again."""
    pixels = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    assert pixel_print(pixels) == pixel_print(255 - pixels) == "y+3u1W"
    assert pixel_print(pixels.reshape(5, 4, 3)) != pixel_print(pixels)
    assert not pixel_print(np.full((4, 5, 3), 7, np.uint8))


def test_tasks_that_are_drawn_are_known_by_their_drawings():
    data = EpisodeData("folder", "nowhere")
    data.name, data._task_set = "blobs", Blobs()
    (parts,) = data.seen.tasks.values()
    assert {part: len(parts[part]) for part in parts} == {"train": 12, "val": 6}
    model = Model(load_base("omniglot-redraw").learner, {"data": {"task_set": "letters"}}, seen=data.seen)
    renamed = EpisodeData("folder", "nowhere")
    renamed._task_set = Blobs()
    renamed._task_set.split = Split(("blob-23",), ("blob-22",), ("blob-0",))
    with pytest.raises(MetagenError):
        renamed.check_unseen("model", model.info, model.seen, "test")
    renamed.check_unseen("model", model.info, model.seen, "val")


def test_an_export_of_before_gets_its_hashes_without_training(old, exported, blobs):
    assert write_seen(old, str(blobs / "tasks")) == 15
    assert json.loads((old / "seen.json").read_text()) == json.loads((exported / "seen.json").read_text())
    assert load_base(old).weights_hash == load_base(exported).weights_hash
