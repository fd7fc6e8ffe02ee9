"""Files of earlier versions are read, and mean what they meant."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import metagen
from metagen.cli import main
from metagen.metrics.extractors.extractor_files import load_extractor
from metagen.storage.earlier import model_config, run_record
from metagen.training.zoo_files import load_zoo

DATA = Path(__file__).parent / "data"
EARLIER = sorted(path.name for path in DATA.iterdir() if path.is_dir())
MODELS = [(version, run) for version in EARLIER for run in ("run", "gan") if (DATA / version / run).is_dir()]
CONFIGS = [  # of each run the config as a user wrote it, and as the run saved it, with the options of its call
    (version, run, config)
    for version, run in MODELS
    for config in ("gan.yaml" if run == "gan" else "config.yaml", f"{run}/config.yaml")
]


@pytest.fixture
def earlier(request, tmp_path, monkeypatch):
    """Makes a copy of the files of one version the current folder."""

    def enter(version):
        shutil.copytree(DATA / version, tmp_path / "earlier")
        monkeypatch.chdir(tmp_path / "earlier")

    return enter


def lines_of(caplog):
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(("version", "run"), MODELS)
def test_models_make_what_they_made(earlier, version, run):
    earlier(version)
    adapted, made = "adapted-gan" if run == "gan" else "adapted", load_file("samples.safetensors")
    anew = metagen.load(f"{run}/export").adapt("images/sign 5", seed=2)
    torch.testing.assert_close(metagen.load(adapted).sample(4, seed=1), made[adapted], rtol=0, atol=1e-4)
    torch.testing.assert_close(anew.sample(4, seed=3), made[f"newly {adapted}"], rtol=0, atol=1e-4)


def test_extractors_see_what_they_saw(earlier):
    earlier("second")
    extractor, info, _ = load_extractor(Path("extractor"))
    images = metagen.load("run/export").read("images/sign 5")
    expected = load_file("samples.safetensors")["features"]
    torch.testing.assert_close(extractor.of(images), expected, rtol=1e-4, atol=1e-4)
    assert info["training"]["steps"] == 5


def test_a_zoo_is_learned_from(earlier):
    earlier("second")
    deltas, info, _ = load_zoo(Path("zoo"))
    assert deltas.keys() == load_file("zoo/deltas.safetensors").keys()
    assert info["tasks"] == ["sign 0", "sign 1", "sign 4"]
    words = ["--model.zoo", "zoo", "--model.initial", "run/export", "--model.learner", "MetaGenerator"]
    words += ["--model.learner.rank", "1", "--trainer.max_steps", "1", "--trainer.val_check_interval", "1"]
    Path("taught.yaml").write_text(Path("config.yaml").read_text().partition("  learner:")[0])
    assert main(["fit", "--config", "taught.yaml", *words, "--trainer.accelerator", "cpu", "--run_dir", "taught"]) == 0
    assert metagen.load("taught/export").info["training"]["zoo"]["name"] == "zoo"


@pytest.mark.parametrize(("version", "run", "config"), CONFIGS)
def test_a_run_goes_on_to_the_end_it_had(earlier, version, run, config, caplog):
    earlier(version)
    expected = load_file(f"{run}/export/model.safetensors")
    shutil.rmtree(f"{run}/export")
    shutil.copy(f"{run}/checkpoints/last.ckpt", f"{run}/checkpoints/best.ckpt")  # of the same step
    assert main(["fit", "--config", config, "--ckpt_path", "last", "--trainer.max_steps", "-1"]) == 0
    trained = load_file(f"{run}/export/model.safetensors")
    assert trained.keys() == expected.keys()
    for name, weight in expected.items():
        torch.testing.assert_close(trained[name], weight, rtol=0, atol=1e-4)
    told = lines_of(caplog)
    assert [line for line in told if "moves" in line] == [f"--config: {config}: moves is called adapted_params now"]
    assert not [line for line in told if line.startswith(("going on from step", "the best model is chosen anew"))]


def test_a_config_of_before_is_read_with_one_line(earlier, caplog, capsys):
    earlier("second")
    with pytest.raises(SystemExit):
        main(["fit", "--config", "config.yaml", "--run_dir", "anew", "--dry-run"])
    assert lines_of(caplog) == ["--config: config.yaml: moves is called adapted_params now"]
    assert "adapted_params:\n      - decoder.*" in capsys.readouterr().out


def test_an_option_that_is_changed_is_told_by_its_name_of_today(earlier, caplog):
    earlier("second")
    words = ["fit", "--config", "config.yaml", "--ckpt_path", "last", "--model.learner.adapted_params", '["encoder.*"]']
    assert main(words) == 0
    (told,) = [line for line in lines_of(caplog) if line.startswith("going on")]
    assert told.endswith("from step 4 with model.learner.adapted_params ['encoder.*'] (was ['decoder.*'])")


@pytest.mark.parametrize("option", ["--model.learner.moves", "--model.learner.init_args.moves"])
def test_an_option_typed_by_its_name_of_before_is_told_that_of_today(earlier, capsys, option):
    earlier("second")
    assert main(["fit", "--config", "config.yaml", "--run_dir", "anew", option, '["encoder.*"]']) == 2
    expected = "unknown option of learner MAML 'moves': it is called adapted_params now"
    assert capsys.readouterr().err.strip().splitlines() == [f"metagen: error: {expected}"]


def test_what_a_run_began_from_has_its_name_of_today():
    before, now = ({"initial": {"name": "other", name: "generator"}} for name in ("took", "initialised_from"))
    assert model_config({"info": {"training": before}}) == {"info": {"training": now}}
    record = run_record({"settings": {"model.rate": 1, "model.learner.moves": None}, "origins": before, "changes": []})
    settings = {"model.rate": 1, "model.learner.adapted_params": None}
    assert record == {"settings": settings, "origins": now, "changes": []}


@pytest.mark.parametrize("version", EARLIER)
def test_a_result_is_compared_with_one_of_today(earlier, version):
    earlier(version)
    extractor = "extractor" if Path("extractor").is_dir() else "none"
    words = ["--model", "run/export", "--data.root", "images", "--data.queries", "4", "--extractor", extractor]
    words += ["--baselines", "false", "--curve", "[0,1]", "--limit", "null"]
    assert main(["evaluate", *words, "--out", "today"]) == 0
    assert main(["compare", "evaluation", "today", "--by", "query_loss", "--out", "league"]) == 0
    then, now = json.loads(Path("league/league.json").read_text())["models"]
    assert then["figures"].keys() == now["figures"].keys()
    for name, figure in then["figures"].items():
        assert now["figures"][name] == pytest.approx(figure, rel=1e-3, abs=1e-3), name
