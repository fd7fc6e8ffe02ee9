"""`metagen compare`: what is found, what may be compared, the order, and differences that only pairing shows."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metagen.cli import main
from metagen.errors import MetagenError
from metagen.evaluation.evaluation_options import EvaluationOptions
from metagen.evaluation.league import Entry, averaged, find, league, markdown, read, table
from metagen.evaluation.scorecard import measure
from metagen.learners import Reptile
from metagen.learners.model_files import save_model
from metagen.metrics import Extractor
from metagen.tasks.episodes import Episodes
from tests.doubles import Blobs, tiny_vae

TASKS = 40
FD, RECOGNISED, SPREAD, COPY = (f"{name}[far]" for name in ("fd", "recognisability", "diversity", "copy_ratio"))
HARDNESS = torch.linspace(-1000, 1000, TASKS, dtype=torch.float64)  # tasks differ far more than models do
SCALE = torch.linspace(1, 3, TASKS, dtype=torch.float64)
HUMAN = {FD: 2.0, RECOGNISED: 95.0, SPREAD: 0.5, COPY: 1.0}


def told(mean, half=1.0):
    return {"mean": float(mean), "low": float(mean) - half, "high": float(mean) + half, "tasks": TASKS}


def described(**values):
    """A result as `metagen evaluate` writes it, with the means of these adapted values."""
    means = {name: value[0] if name == FD else value.mean() for name, value in values.items()}
    figures = {name: told(mean / SCALE.mean() if name == COPY else mean) for name, mean in means.items()}
    human = {name: told(mean) for name, mean in HUMAN.items() if name in values}
    rows = [{"row": "human", "figures": human}] if human else []
    return {
        "model": {"weights_sha256": "f" * 64},
        "extractors": [{"name": "far", "weights_sha256": "a" * 64}] if human else [],
        "data": {"task_set": "folder", "size": 28, "channels": 1, "invert": False},
        "split": "test",
        "split_sha256": "5" * 64,
        "shots": 5,
        "queries": 14,
        "tasks": TASKS,
        "task_names": [f"task-{i}" for i in range(TASKS)],
        "images_crc32": 17,
        "seed": 0,
        "environment": {"hardware": "a machine"},
        "rows": [*rows, {"row": "adapted", "steps": 3, "figures": figures}],
    }


def write(folder: Path, result, **values) -> Path:
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    tensors = {f"adapted/{name}": value.contiguous() for name, value in values.items()}
    save_file({**tensors, f"scale/{COPY}": SCALE}, folder / "values.safetensors")
    return folder


def replicated(whole: float, without: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.tensor([whole], dtype=torch.float64), without])


def made(place: Path, name: str, gain: float, fd: float, recognised: float = 50.0, spread: float = 0.4, **changes):
    """A result of one model, `gain` better in its loss at every task up to a jitter of 0.1."""
    rng = torch.Generator().manual_seed(len(name))
    jitter = 0.1 * torch.randn(TASKS, generator=rng, dtype=torch.float64)
    groups = 100 * torch.sin(torch.arange(20, dtype=torch.float64))  # shared by all models: pairing takes it away
    values = {
        "query_loss": HARDNESS - gain + jitter - jitter.mean(),
        FD: replicated(fd, fd + groups),
        RECOGNISED: torch.full((TASKS,), recognised, dtype=torch.float64),
        SPREAD: torch.full((TASKS,), spread, dtype=torch.float64),
        COPY: spread * SCALE,
    }
    return write(place / name / "evaluation", described(**values) | changes, **values)


@pytest.fixture
def three(tmp_path):
    """Models of which "best" is, by fd, better than "middle", and that than "worst"; given in another order."""
    return [
        made(tmp_path, "middle", gain=1.0, fd=5.0, recognised=80.0, spread=0.55),
        made(tmp_path, "worst", gain=0.0, fd=9.0, recognised=90.0, spread=0.25),
        made(tmp_path, "best", gain=1.5, fd=4.0, recognised=70.0, spread=0.7),
    ]


def names(found):
    return [row["row"] for row in found["models"]]


# several seeds


def test_seeds_are_averaged_by_task_before_anything_is_compared(tmp_path):
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(TASKS, generator=rng, dtype=torch.float64)  # of a seed: the other one has its opposite
    losses = (HARDNESS + noise, HARDNESS - noise)
    seeds = [
        write(tmp_path / f"seed-{n}", described(query_loss=loss), query_loss=loss) for n, loss in enumerate(losses)
    ]
    mean = averaged("both", read(seeds))
    assert mean.name == "both"
    torch.testing.assert_close(mean.values["adapted/query_loss"], HARDNESS)
    other = write(tmp_path / "other", described(query_loss=HARDNESS + 1), query_loss=HARDNESS + 1)
    difference = league([mean, read([seeds[0], other])[1]])["differences"][0]["figures"]["query_loss"]
    assert difference["mean"] == pytest.approx(1)
    assert difference["high"] - difference["low"] == pytest.approx(0, abs=1e-9)  # the noise of the seeds is gone
    with pytest.raises(MetagenError, match="measured otherwise"):
        averaged("both", [read(seeds)[0], Entry("odd", {**read(seeds)[1].result, "shots": 1}, mean.values)])


# differences and order


def test_only_pairing_tells_these_models_apart(three):
    found = league(read(three))
    assert names(found) == ["best", "middle", "worst"]
    assert [row["row"] for row in found["differences"]] == ["middle - best", "worst - best", "worst - middle"]
    for row, gap in zip(found["differences"], (0.5, 1.5, 1.0), strict=True):
        figure = row["figures"]["query_loss"]
        assert figure["mean"] == pytest.approx(gap, abs=1e-9)
        assert figure["clear"]
        assert 0.02 < figure["high"] - figure["low"] < 0.2  # tasks differ by a thousand
    unpaired = HARDNESS.std() / TASKS**0.5
    assert unpaired > 50


def test_an_interval_of_a_mean_is_as_wide_as_theory_says(three):
    one, other = (entry.values["adapted/query_loss"].numpy() for entry in read(three)[:2])
    found = next(row for row in league(read(three))["differences"] if row["row"] == "worst - middle")
    figure = found["figures"]["query_loss"]
    error = np.std(other - one) / TASKS**0.5
    assert figure["high"] - figure["low"] == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_a_pooled_difference_has_the_interval_of_the_jackknife(tmp_path):
    whole, steps = (5.0, 3.0), torch.linspace(-1, 1, 20, dtype=torch.float64)
    folders = []
    for name, mean, slope in zip(("a", "b"), whole, (0.5, 0.1), strict=True):
        values = {FD: replicated(mean, mean + slope * steps)}
        folders.append(write(tmp_path / name, described(**values), **values))
    figure = league(read(folders))["differences"][0]["figures"][FD]
    error = (19 / 20 * float(((0.4 * steps) ** 2).sum())) ** 0.5
    assert figure["mean"] == pytest.approx(2.0)
    assert figure["high"] - 2.0 == pytest.approx(2.093024 * error, rel=1e-6)  # Student's t of 19 degrees at 97.5 %
    assert figure["clear"] == (2.093024 * error < 2.0)


def test_a_ratio_is_of_the_difference_over_what_real_images_have(three):
    found = next(row for row in league(read(three))["differences"] if row["row"] == "worst - best")
    figure = found["figures"][COPY]
    assert figure["mean"] == pytest.approx(0.25 - 0.7)
    assert [figure["low"], figure["high"]] == pytest.approx([-0.45, -0.45])


def test_what_may_be_chance_is_not_marked(tmp_path):
    rng = torch.Generator().manual_seed(0)
    folders = []
    for name in ("a", "b"):
        noise = torch.randn(TASKS, generator=rng, dtype=torch.float64)
        values = {"query_loss": HARDNESS + noise - noise.mean()}
        folders.append(write(tmp_path / name, described(**values), **values))
    found = league(read(folders))
    assert not found["differences"][0]["figures"]["query_loss"]["clear"]
    assert "*" not in markdown(found).partition("## differences")[2]


@pytest.mark.parametrize(
    ("by", "order"),
    [
        (None, ["best", "middle", "worst"]),
        (FD, ["best", "middle", "worst"]),
        ("query_loss", ["best", "middle", "worst"]),
        ("recognisability", ["worst", "middle", "best"]),  # high is best
        ("diversity", ["middle", "best", "worst"]),  # 0.55, 0.7 and 0.25; real images have 0.5
        (COPY, ["best", "middle", "worst"]),  # real images have 1
    ],
)
def test_the_order_is_by_what_is_best(three, by, order):
    found = league(read(three), by)
    assert names(found) == order
    assert found["by"] == {None: FD, "recognisability": RECOGNISED, "diversity": SPREAD}.get(by, by)


def test_the_order_is_that_of_the_models_and_not_of_their_names(three):
    assert league(read(three)) == league(read(three[::-1]))


def test_a_model_whose_figure_is_no_number_comes_last(tmp_path):
    folders = [made(tmp_path, "diverged", 0, torch.nan), made(tmp_path, "fine", 0, 5.0), made(tmp_path, "good", 0, 4.0)]
    found = league(read(folders))
    assert names(found) == ["good", "fine", "diverged"]
    assert not found["differences"][1]["figures"][FD]["clear"]


def test_without_an_extractor_the_order_is_by_the_loss(tmp_path):
    folders = []
    for name, gain in (("a", 0.0), ("b", 1.0)):
        values = {"query_loss": HARDNESS - gain}
        folders.append(write(tmp_path / name, described(**values), **values))
    found = league(read(folders))
    assert (found["by"], names(found), found["model_free"]) == ("query_loss", ["b", "a"], [])
    assert "through no extractor" in table(found)


def test_only_figures_that_all_have_are_compared(tmp_path, three):
    values = {"query_loss": HARDNESS, FD: replicated(1.0, torch.ones(20, dtype=torch.float64))}
    found = league(read([*three, write(tmp_path / "short", described(**values), **values)]))
    assert all(set(row["figures"]) == {"query_loss", FD} for row in found["models"] + found["differences"])
    with pytest.raises(MetagenError, match=r"unknown figure 'recognisability': .*choose from fd\[far\], query_loss"):
        league(read([*three, tmp_path / "short"]), "recognisability")


def test_costs_are_shown_where_all_have_them_of_one_machine(tmp_path):
    def costed(name, seconds, hardware="a machine"):
        cost = {"steps": 3, "seconds": {"median": seconds, **told(seconds)}, "peak_mib": told(30 * seconds)}
        more = {"studies": {"cost": cost}, "environment": {"hardware": hardware}}
        return made(tmp_path, name, 0, seconds, **more)

    folders = [costed("a", 2.5), costed("b", 3.25)]
    text = table(league(read(folders)))
    for each in ("seconds a task", "2.50 ±1.00", "3.25 ±1.00", "peak MiB", "97.5 ±1.0"):
        assert each in text
    for other in (costed("c", 1.0, "another machine"), made(tmp_path, "d", 0, 1.0)):
        assert "seconds a task" not in table(league(read([*folders, other])))


# models that were measured


class Half(Extractor):
    """Sees images at a quarter of their size: pixels as features."""

    size, channels = 28, 1

    def features(self, images):
        return torch.nn.functional.avg_pool2d(images, 4).flatten(1)


def test_models_that_were_measured_are_compared(tmp_path):
    torch.manual_seed(0)
    measured = {}
    for name, steps in (("idle", 0), ("busy", 3)):
        learner = Reptile(tiny_vae(size=28), steps=1, rate=0.05, test_steps=steps).requires_grad_(False)
        each = measure(
            learner, Episodes(Blobs(tasks=80), 2, 8), EvaluationOptions(limit=None, curve=()), {"half": Half()}
        )
        (tmp_path / name).mkdir()
        about = {"model": {}, "extractors": [{"name": "half", "weights_sha256": "0"}], "data": {}}
        (tmp_path / name / "result.json").write_text(json.dumps(about | each.result))
        save_file(each.values, tmp_path / name / "values.safetensors")
        measured[name] = each
    found = league(read([tmp_path / "idle", tmp_path / "busy"]))
    for row in found["models"]:
        theirs = measured[row["row"]].result["rows"][-1]
        assert (row["figures"], row["steps"]) == (theirs["figures"], theirs["steps"])
    assert [row["row"] for row in found["model_free"]] == ["human", "copy", "affine x1", "affine x1.5"]
    last, first = (row["row"] for row in found["models"][::-1])
    difference = found["differences"][0]
    assert difference["row"] == f"{last} - {first}"
    for figure, told_of in difference["figures"].items():
        means = [measured[name].result["rows"][-1]["figures"][figure]["mean"] for name in (last, first)]
        assert told_of["mean"] == pytest.approx(means[0] - means[1], abs=1e-9)
        assert told_of["low"] <= told_of["mean"] <= told_of["high"]


@pytest.fixture(scope="module")
def runs(blobs, tmp_path_factory):
    """Two runs with an untrained export each, both evaluated."""
    root = tmp_path_factory.mktemp("runs")
    split = Blobs(tasks=20, images=6).split
    data = {"task_set": "folder", "size": 28, "channels": 1, "invert": False, "shots": 2, "queries": 3}
    for seed, name in enumerate(("x", "y")):
        torch.manual_seed(seed)
        learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01)
        save_model(root / name / "export", learner, {"data": data}, split)
        words = ["--model", root / name / "export", "--out", root / name / "evaluation", "--extractor", "none"]
        words += ["--data.root", blobs / "tasks", "--data.split_file", blobs / "split.json", "--curve", "[0]"]
        assert main(["evaluate", *map(str, words)]) == 0
    return root


def test_runs_exports_and_results_are_found(runs, capsys):
    assert main(["compare", str(runs / "x"), str(runs / "y" / "export")]) == 0
    by_run = capsys.readouterr().out
    assert re.search(r"│ x +│ 1 +│", by_run)
    (leader,) = re.findall(r"^first by query_loss: (\w)$", by_run, re.MULTILINE)
    assert main(["compare", str(runs / "x/evaluation/result.json"), str(runs / "y/evaluation")]) == 0
    assert capsys.readouterr().out.partition("next: ")[0] == by_run.partition("next: ")[0]
    place = runs / leader
    assert by_run.splitlines()[-2:] == [
        f"next: metagen compare {runs / 'x'} {runs / 'y' / 'export'} --out league/",
        f"      metagen adapt --model {place}/export --support five_images/ --out {place}/evaluation-adapted",
    ]


def test_a_result_of_other_weights_is_not_taken_for_that_of_a_model(runs, tmp_path):
    torch.manual_seed(5)
    newer = tmp_path / "run" / "export"
    save_model(newer, Reptile(tiny_vae(size=28), steps=1, rate=0.01), {})
    stale = tmp_path / "run" / "evaluation"
    stale.mkdir()
    (stale / "result.json").write_bytes((runs / "x/evaluation/result.json").read_bytes())
    with pytest.raises(MetagenError, match="was not evaluated yet") as error:
        find(tmp_path / "run")
    assert str(error.value).endswith(f"metagen evaluate --model {newer} --out {stale} --overwrite")


def test_a_model_without_a_result_is_told_how_to_get_one(tmp_path):
    export = tmp_path / "run" / "export"
    save_model(export, Reptile(tiny_vae(size=28), steps=1, rate=0.01), {})
    for given in (export, export.parent):
        with pytest.raises(MetagenError, match="was not evaluated yet") as error:
            find(given)
        command = f"metagen evaluate --model {export} --out {export.parent / 'evaluation'}"
        assert str(error.value) == f"{given}: was not evaluated yet: {command}"


def test_of_several_results_one_has_to_be_named(tmp_path):
    export = tmp_path / "run" / "export"
    weights = save_model(export, Reptile(tiny_vae(size=28), steps=1, rate=0.01), {})
    for name in ("one", "two"):
        write(export.parent / name, described(query_loss=HARDNESS) | {"model": {"weights_sha256": weights}})
    with pytest.raises(MetagenError, match=r"has 2 results; name one of \S+/run/one, \S+/run/two$"):
        find(export.parent)
    assert find(export.parent / "two") == export.parent / "two"


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["runs/a/ev", "runs/b/ev"], ["a", "b"]),
        (["runs/a/one-shot", "runs/a/five-shot"], ["one-shot", "five-shot"]),
        (["runs/a/one", "runs/a/two", "runs/b/one"], ["a/one", "a/two", "b/one"]),
        (["runs/a/one", "runs/b/two"], ["a", "b"]),
        (["runs/a", "runs/a/b"], ["a", "a/b"]),
    ],
)
def test_models_are_named_by_what_tells_them_apart(tmp_path, places, expected):
    values = {"query_loss": HARDNESS}
    folders = []
    for place in sorted(places):
        (tmp_path / place).mkdir(parents=True)
        write(tmp_path / place / "made", described(**values), **values)
    for place in places:
        for file in ("result.json", "values.safetensors"):
            (tmp_path / place / "made" / file).rename(tmp_path / place / file)
        folders.append(tmp_path / place)
    assert [entry.name for entry in read(folders)] == expected


# refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"split": "val"}, r"split \('val', not 'test'\)"),
        ({"split_sha256": "6" * 64}, r"split hash \('666"),
        ({"task_names": [f"other-{i}" for i in range(TASKS)]}, r"task names \(\['other-0'"),
        ({"images_crc32": 18}, r"images \(18, not 17\)"),
        ({"tasks": 39}, r"number of tasks \(39, not 40\)"),
        ({"shots": 1}, r"shots \(1, not 5\)"),
        ({"queries": 12}, r"queries \(12, not 14\)"),
        ({"seed": 1}, r"seed \(1, not 0\)"),
        ({"extractors": [{"name": "far", "weights_sha256": "b" * 64}]}, r"extractors \(\{'far': 'bbb"),
        ({"data": {"size": 32, "channels": 1, "invert": False}}, r"image size \(32, not 28\)"),
        ({"shots": 1, "seed": 1}, r"shots \(1, not 5\), seed \(1, not 0\); evaluate them alike"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_was_measured_otherwise_is_refused(tmp_path, changes, said):
    folders = [made(tmp_path, "a", 0, 5.0), made(tmp_path, "b", 0, 5.0), made(tmp_path, "c", 0, 5.0, **changes)]
    with pytest.raises(MetagenError, match=f"^c: measured otherwise than a: {said}") as error:
        read(folders)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("moved", "refused"), [(1e-5, False), (0.5, True)])
def test_rows_that_need_no_model_have_to_agree(tmp_path, moved, refused):
    one, other = made(tmp_path, "a", 0, 5.0), made(tmp_path, "b", 0, 5.0)
    result = json.loads((other / "result.json").read_text())
    result["rows"][0]["figures"][SPREAD] = told(0.5 + moved)
    (other / "result.json").write_text(json.dumps(result))
    if refused:
        with pytest.raises(MetagenError, match=r"^b: its row 'human', .* has diversity\[far\] 1, and that of a 0.5: "):
            read([one, other])
    else:
        assert league(read([one, other]))["model_free"][0]["figures"][SPREAD]["mean"] == 0.5


@pytest.mark.parametrize("lost", ["values.safetensors", "task_names", "extractors"])
def test_an_older_result_has_to_be_made_again(tmp_path, lost):
    old, new = made(tmp_path, "old", 0, 5.0), made(tmp_path, "new", 0, 5.0)
    (tmp_path / "old" / "export").mkdir()
    if lost == "values.safetensors":
        (old / lost).unlink()
    else:
        result = json.loads((old / "result.json").read_text())
        del result[lost]
        (old / "result.json").write_text(json.dumps(result))
    again = f"metagen evaluate --model {old.parent / 'export'} --out {old} --overwrite"
    with pytest.raises(MetagenError) as error:
        read([new, old])
    assert str(error.value) == f"{old}: an older metagen wrote it, without {lost}: {again}"


@pytest.mark.parametrize("file", ["result.json", "values.safetensors"])
def test_a_damaged_result_is_told(tmp_path, file):
    folders = [made(tmp_path, "a", 0, 5.0), made(tmp_path, "b", 0, 5.0)]
    (folders[1] / file).write_bytes(b"{")
    with pytest.raises(MetagenError, match=rf"b/evaluation/{file}: cannot be read \(\w+\)"):
        read(folders)


def test_mistakes_are_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made(Path(), "a", 0, 5.0)
    made(Path(), "b", 0, 5.0)
    one, other = "a/evaluation", "b/evaluation"
    for words, said in [
        ([], "results"),
        ([one], "compare: expected 2 or more results, got 1"),
        ([one, "absent"], "absent: no result of metagen evaluate, no run and no exported model"),
        ([one, "."], ".: no result of metagen evaluate"),
        ([one, "a"], f"{one} and a: are the same result"),
        ([one, other, "a/evaluation/result.json"], f"{one} and a/evaluation/result.json: are the same result"),
        ([one, other, "--by", "recognisable"], "unknown figure 'recognisable': did you mean recognisability[far]?"),
        ([one, other, "--bye", "fd"], "unknown option --bye: did you mean --by"),
        ([one, other, "--out", "a"], "a: would replace a/evaluation, which is read"),
    ]:
        assert main(["compare", *words]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("metagen: error: ")
        assert err.count("\n") == 1
        assert said in err


# what is written


def numbers(text):
    return [float(each) for each in re.findall(r"-?\d+\.\d+", text)]


def test_markdown_csv_json_and_the_terminal_agree(three, tmp_path, capsys):
    words = ["compare", *map(str, three), "--by", "diversity", "--out", str(tmp_path / "league")]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "league").iterdir()) == ["league.csv", "league.json", "league.md"]
    found = json.loads((tmp_path / "league/league.json").read_text())
    assert str(tmp_path) not in json.dumps(found)  # no path of this machine
    rows = [*found["models"], *found["model_free"], *found["differences"]]
    written = list(csv.DictReader((tmp_path / "league/league.csv").open(encoding="utf-8")))
    for row, line in zip(rows, written, strict=True):
        assert (row["row"], str(row.get("steps") or "")) == (line["row"], line["N"])
        for name in (FD, RECOGNISED, SPREAD, COPY, "query_loss"):
            figure = row["figures"].get(name)
            expected = [figure[part] for part in ("mean", "low", "high")] if figure else []
            assert [float(line[key]) for key in (name, f"{name} low", f"{name} high") if line[key]] == expected
    lines = (tmp_path / "league/league.md").read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    headings = cells[0]
    assert headings == ["", "N", "diversity[far]", "query loss", "Frechet", "recognised %", "copy ratio"]
    body = [line for line in cells if line != headings]
    named = [SPREAD, "query_loss", FD, RECOGNISED, COPY]
    for row, (name, steps, *told_of) in zip(rows, body, strict=True):
        assert (name, steps) == (row["row"], str(row.get("steps") or ""))
        for figure, cell in zip(named, told_of, strict=True):
            each = row["figures"].get(figure)
            assert cell.endswith("*") == bool(each and each.get("clear"))
            expected = [each["mean"], (each["high"] - each["low"]) / 2] if each else []
            assert numbers(cell) == pytest.approx(expected, abs=0.051)
    frames = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line]
    assert frames == body
    assert "by diversity[far], nearest to human is best" in " ".join(shown.split())


def test_a_league_is_not_replaced_unasked(three, tmp_path, capsys):
    words = ["compare", *map(str, three), "--out", str(tmp_path / "league")]
    assert main(words) == 0
    before = (tmp_path / "league/league.json").read_bytes()
    assert main([*words, "--by", "recognisability"]) == 2
    assert (tmp_path / "league/league.json").read_bytes() == before
    assert main([*words, "--by", "recognisability", "--overwrite"]) == 0
    assert json.loads((tmp_path / "league/league.json").read_text())["by"] == RECOGNISED
    assert "wrote league.md, league.csv and league.json" in capsys.readouterr().out
