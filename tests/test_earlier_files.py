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
from metagen.generators import GAN, generators
from metagen.generators.gans.presets import PRESETS
from metagen.metrics.extractors.extractor_files import load_extractor
from metagen.storage.earlier import DEFAULTS, FIXED, as_of_version_1, model_config, run_config, run_record
from metagen.training.zoo_files import load_zoo
from tests.earlier_draws import use_earlier_draws

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
    """Makes a copy of the files of one version the current folder, where noise is drawn as it was."""
    use_earlier_draws(monkeypatch)

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


@pytest.mark.parametrize("preset", PRESETS)
def test_a_gan_of_version_1_is_a_preset(preset):
    options = {"size": 8, "latent": 2, "widths": [2, 4], "depth": 1, "d_steps": 2}
    config = {"generator": {"name": preset, **options}, "learner": {"name": "maml", "moves": ["*"]}}
    today = model_config(config)
    assert today["learner"] == {"name": "maml", "adapted_params": ["*"]}
    gan = generators.build(today["generator"])
    assert isinstance(gan, GAN)
    assert (gan.preset, gan.depth, gan.d_steps) == (preset, 1, 2)


@pytest.mark.parametrize("generator", [{}, {"name": ["r3"]}, "r3", None])
def test_a_damaged_generator_is_left_for_others_to_refuse(generator):
    assert model_config({"generator": generator})["generator"] == generator


@pytest.mark.parametrize(
    ("generator", "options"),
    [
        ("R3", {"preset": "r3"}),
        ("metagen.generators.gans.wgan_gp.WGANGP", {"preset": "wgan_gp"}),
        ({"class_path": "SNGAN"}, {"preset": "sngan"}),
        ({"class_path": "metagen.generators.R3", "init_args": {"depth": 1}}, {"preset": "r3", "depth": 1}),
        ({"class_path": "R3", "init_args": {"depth": 2, "warp": 1}}, {"preset": "r3", "depth": None, "warp": 1}),
    ],
)
def test_a_config_of_version_1_names_a_preset(generator, options):
    config, notes = run_config({"data": {}, "model": {"generator": generator, "rate": 1.0}})
    expected = {"class_path": "metagen.generators.GAN", "init_args": options}
    assert config == {"data": {}, "model": {"generator": expected, "rate": 1.0}}
    (note,) = notes
    assert note.endswith(f"is GAN with preset {options['preset']} now")


@pytest.mark.parametrize("model", [None, {}, {"generator": "VAE"}, {"generator": {"class_path": 3}, "learner": []}])
def test_other_configs_stay_as_they_are(model):
    assert run_config({"model": model}) == ({"model": model}, [])


@pytest.mark.parametrize(
    ("preset", "kind", "options"),
    [
        ("r3", "R3", "depth penalty_weight augmentation deviation"),
        ("sngan", "SNGAN", "network depth norm deviation augmentation"),
        ("wgan_gp", "WGANGP", "network depth norm critic_norm penalty_weight deviation augmentation"),
    ],
)
def test_a_checkpoint_of_version_1_knows_its_generator(preset, kind, options):
    options = f"size channels latent widths {options} d_steps g_steps mode_seeking warp consistency"
    name, own = as_of_version_1("GAN", of(GAN(preset=preset)))
    assert (name, " ".join(own)) == (kind, options)
    other = of(GAN(preset=preset, game="hinge" if preset == "r3" else "relativistic"))
    assert as_of_version_1("GAN", other) == ["GAN", other]


def of(gan):
    return {name: value for name, value in generators.describe(gan).items() if name != "name"}


def test_a_class_of_version_1_is_told_by_its_name_now(capsys):
    assert main(["fit", "--model.generator", "R3", "--model.learner", "MAML"]) == 2
    assert "unknown generator 'R3': R3 is GAN with preset r3 now" in capsys.readouterr().err


@pytest.mark.parametrize("preset", PRESETS)
def test_what_was_a_default_is_the_presets(preset):
    gan = GAN(preset=preset)
    for name, value in {**FIXED[preset], **DEFAULTS[preset]}.items():
        assert getattr(gan, name) == (tuple(value) if isinstance(value, list) else value)
