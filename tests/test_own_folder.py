"""The options that `metagen fit --data.root my_images/` chooses by itself."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw

from metagen.cli import main
from metagen.errors import MetagenError
from metagen.model import load_base
from metagen.storage.images import save_pngs
from metagen.tasks import Glyphs
from metagen.training.own_folder import (
    INK,
    SCRATCH,
    FolderSummary,
    choose,
    config_of,
    likeliest_model,
    summary_of,
    typed_options,
    with_own_choices,
)
from tests.test_fit import error_of

INK_FOLDER = FolderSummary("signs/", [8] * 20, [28] * 160, 0, "dark")
PHOTOGRAPHS = FolderSummary("photos", [12] * 40, [200] * 256, 256, "none")


def stroke(number: int, size: int = 28, light: bool = False) -> Image.Image:
    """A line and a dot of light ink on a dark ground, or of dark ink on a light one."""
    rng = np.random.default_rng(number)
    image = Image.new("L", (size, size), 255 if light else 0)
    pen = ImageDraw.Draw(image)
    points = [tuple(each) for each in rng.uniform(0.2 * size, 0.8 * size, (3, 2))]
    pen.line(points, fill=0 if light else 255, width=max(2, size // 14))
    return image


def photograph(number: int, size: int) -> Image.Image:
    """Noise in colours."""
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8))


def fill(root: Path, tasks: int, images: int, draw, **options) -> str:
    for task in range(tasks):
        folder = root / f"sign {task}"
        folder.mkdir(parents=True)
        for number in range(images):
            draw(100 * task + number, **options).save(folder / f"{number}.png")
    return str(root)


@pytest.mark.parametrize(
    ("draw", "options", "expected"),
    [
        (stroke, {"size": 28}, (28, 0, "dark")),
        (stroke, {"size": 90, "light": True}, (90, 0, "light")),
        (photograph, {"size": 40}, (40, 30, "none")),
    ],
)
def test_a_folder_is_summarised(tmp_path, draw, options, expected):
    summary = summary_of(fill(tmp_path, 6, 5, draw, **options))
    assert summary.counts == [5] * 6
    assert (summary.sides[0], summary.coloured, summary.ground) == expected


def test_grey_ink_goes_on_from_the_bundled_model():
    choices = choose(INK_FOLDER, {})
    assert choices.config == INK
    config = yaml.safe_load(choices.yaml)
    assert config["model"] == config_of(INK)["model"]
    assert config["model"]["initial"] == "omniglot"
    assert config["run_dir"] == "runs/signs"
    assert "1 channel: all 160 images are grey" in choices.reasons
    assert any("begun from a model of ink: ink at 28 px" in reason for reason in choices.reasons)


def test_a_typed_beginning_is_told_as_it_is():
    reasons = choose(INK_FOLDER, {"model.initial": "null"}).reasons
    assert any("begun at random, as typed: ink at 28 px" in reason for reason in reasons)


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(("model", "other"), [("omniglot", "glyphs"), ("glyphs", "omniglot")])
def test_ink_begins_from_the_model_that_draws_most_like_it(tmp_path, model, other, invert):
    base = load_base(model)
    letters = [Glyphs().images(name, range(3)) for name in Glyphs().split.test[:4]]
    for number, letter in enumerate(letters):  # as the one or the other would draw them
        drawn = base.adapt(letter / 255, invert=False).sample(4, seed=number)
        save_pngs(1 - drawn if invert else drawn, tmp_path / str(number))
    name, reason = likeliest_model(str(tmp_path), invert)
    assert name == model
    assert reason.endswith(f"likelier there than under {other}")


@pytest.mark.parametrize("name", ["model.generator.class_path", "model.learner.class_path"])
def test_with_a_model_typed_nothing_is_chosen(name):
    words = ["--data.root", "nowhere", f"--{name}", "VAE"]
    assert with_own_choices(words) == words


def test_a_typed_least_number_of_images_counts():
    counts = [8] * 20 + [30] * 10
    choices = choose(FolderSummary("x", counts, [28] * 460, 0, "dark"), {"data.min_images": "20"})
    assert any("10 of 30 folders have 20 or more images" in reason for reason in choices.reasons)


def test_shots_and_queries_fit_into_the_images_there_are():
    data = yaml.safe_load(choose(INK_FOLDER, {}).yaml)["data"]
    assert max(data["shots"]) + data["queries"] == 8
    assert sum(data["shots"].values()) == pytest.approx(1)
    assert data["val_shots"] == [1, 4]
    assert (data["val"], data["test"]) == (3, 3)


def test_photographs_begin_at_random():
    choices = choose(PHOTOGRAPHS, {})
    config = yaml.safe_load(choices.yaml)
    assert choices.config == SCRATCH
    assert (config["data"]["size"], config["data"]["channels"]) == (64, 3)
    assert config["model"]["generator"]["init_args"]["likelihood"] == "gaussian"


def test_ink_of_another_size_is_told_how_to_go_on_from_the_bundled_model():
    large = FolderSummary("signs", [8] * 20, [105] * 160, 0, "light")
    choices = choose(large, {})
    assert choices.config == SCRATCH
    assert choices.options["data.invert"]
    assert any("--data.size 28 begins from one of ink" in reason for reason in choices.reasons)
    assert choose(large, {"data.size": "28"}).config == INK


@pytest.mark.parametrize(("side", "size"), [(20, 28), (28, 28), (31, 28), (32, 32), (48, 32), (64, 64), (900, 64)])
def test_the_size_is_the_largest_that_the_images_fill(side, size):
    assert choose(FolderSummary("x", [8] * 20, [side] * 160, 160, "none"), {}).options["data.size"] == size


def test_a_few_coloured_strays_leave_a_folder_grey():
    for coloured, channels in ((8, 1), (80, 3)):
        few = FolderSummary("x", [8] * 20, [28] * 160, coloured, "dark")
        assert choose(few, {}).options["data.channels"] == channels


def test_tasks_with_too_few_images_are_left_out():
    options = choose(FolderSummary("x", [1, *[10] * 19], [28] * 191, 0, "dark"), {}).options
    assert options["data.min_images"] == 10


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ({"data.size": "64"}, "data.size"),
        ({"data.channels": "3"}, "data.channels"),
        ({"data.shots": "2"}, "data.shots"),
        ({"data.queries": "3"}, "data.queries"),
        ({"data.val": "0.2"}, "data.val"),
        ({"run_dir": "elsewhere"}, "run_dir"),
        ({"model.generator.likelihood": "bernoulli"}, "model.generator.init_args.likelihood"),
    ],
)
def test_what_is_typed_is_not_chosen(typed, name):
    for summary in (INK_FOLDER, PHOTOGRAPHS):
        assert name not in choose(summary, typed).options


def test_the_others_go_with_what_is_typed():
    assert choose(INK_FOLDER, {"data.shots": "6"}).options["data.queries"] == 2
    assert choose(INK_FOLDER, {"data.channels": "3"}).config == SCRATCH
    assert choose(INK_FOLDER, {"data.val": "8", "data.test": "8"}).options["data.tasks"] == 4


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ([2, 2, 2], "3 folders with images, 0 of them with 3 or more"),
        ([9] * 4, "4 folders with images, 4 of them with 3 or more"),
        ([30], "all 30 images lie in one folder; give each person or thing a folder of its own"),
    ],
)
def test_too_little_is_refused(counts, said):
    with pytest.raises(MetagenError, match=f"{said}.*the least is 5 folders.* of 3 images each"):
        choose(FolderSummary("x", counts, [28] * sum(counts), 0, "dark"), {})


def test_more_images_an_episode_than_there_are_is_refused():
    with pytest.raises(MetagenError, match="need 13 images a task, and 0 of 20 folders have so many"):
        choose(INK_FOLDER, {"data.shots": "12"})


def test_a_typed_value_that_is_none_is_left_to_the_parser(tmp_path, capsys):
    root = fill(tmp_path / "mine", 6, 4, stroke)
    assert main(["fit", "--data.root", root, "--data.shots", "{1:"]) == 2
    assert "metagen: error: --data.shots: expected one of int, dict[int, float]" in capsys.readouterr().err


@pytest.mark.parametrize(("tasks", "images", "warned"), [(20, 8, False), (19, 8, True), (20, 7, True), (5, 3, True)])
def test_little_is_warned_of(tasks, images, warned):
    choices = choose(FolderSummary("x", [images] * tasks, [28] * tasks * images, 0, "dark"), {})
    assert any(reason.startswith("warning: ") for reason in choices.reasons) == warned


def test_images_that_show_nothing_are_refused(tmp_path):
    root = fill(tmp_path, 5, 3, lambda number: Image.new("RGBA", (28, 28), (255, 255, 255, number)))
    with pytest.raises(MetagenError, match="15 of 15 images show nothing"):
        summary_of(root)


@pytest.mark.parametrize(
    "words",
    [
        "--config quickstart --data.root x",
        "--model.generator VAE --data.root x",
        "--model.learner=MAML --data.root x",
        "--data.root x --help",
        "--data.task_set omniglot --data.root x",
        "--data.task_set glyphs",
    ],
)
def test_nothing_is_chosen_for_whoever_names_a_config_or_a_model(words):
    assert with_own_choices(words.split()) == words.split()


@pytest.mark.parametrize("words", [[], ["--data.task_set", "glyphs"], ["--data.size", "28"]])
def test_no_model_at_all_is_answered_by_what_to_type(capsys, words):
    assert "type --data.root my_images/" in error_of(capsys, "fit", *words)


def test_typed_options_are_read_in_either_form():
    assert typed_options(["--data.size", "28", "--data.root=a=b"]) == {"data.size": "28", "data.root": "a=b"}


def dry_run(capsys, *words):
    with pytest.raises(SystemExit):
        main(["fit", *words, "--dry-run"])
    out, err = capsys.readouterr()
    return yaml.safe_load(out), err


@pytest.mark.parametrize(("draw", "size"), [(stroke, 28), (photograph, 32)])
def test_the_printed_command_gives_the_same_options(tmp_path, capsys, draw, size):
    root = fill(tmp_path / "mine", 6, 6, draw, size=size)
    chosen, said = dry_run(capsys, "--data.root", root, "--model.rate", "0.002")
    assert chosen["model"]["rate"] == 0.002
    assert f"{size} px: all 36 images are {size} px" in said
    command = next(line for line in said.splitlines() if line.startswith("the same")).partition("metagen fit ")[2]
    by_hand, said = dry_run(capsys, *shlex.split(command))
    assert by_hand == chosen
    assert not said


def test_an_archive_is_trained_on(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAGEN_CACHE", str(tmp_path / "cache"))
    root = Path(fill(tmp_path / "mine", 6, 4, photograph, size=28))
    with zipfile.ZipFile("mine.zip", "w") as archive:
        for file in root.rglob("*.png"):
            archive.write(file, file.relative_to(tmp_path))
    assert main(["fit", "--data.root", "mine.zip", "--data.episodes", "1", "--model.generator.widths", "[4,4]"]) == 0
    assert (tmp_path / "runs/mine/export/config.json").is_file()
    saved = yaml.safe_load((tmp_path / "runs/mine/config.yaml").read_text(encoding="utf-8"))
    assert (saved["data"]["size"], saved["data"]["channels"]) == (28, 3)
    assert "exported the model" in capsys.readouterr().out
