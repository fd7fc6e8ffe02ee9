"""Things that many tests share."""

from __future__ import annotations

import pytest
import torch

from metagen.cli import main
from metagen.learners import MAML
from metagen.model import Model
from metagen.storage.images import save_pngs
from tests.doubles import Blobs, tiny_vae
from tests.projects import original, project  # noqa: F401 - fixtures


def pytest_addoption(parser):
    parser.addoption(
        "--device", default="cpu", help="where tests of what runs anywhere run: cpu (default), cuda, cuda:1"
    )


def pytest_configure(config):
    """Refuse a device that is not here, in one line; compute there in the precision that is written."""
    wanted = config.getoption("--device")
    try:
        torch.zeros(1, device=wanted)
    except (AssertionError, RuntimeError) as error:
        raise pytest.UsageError(f"--device {wanted}: {str(error).splitlines()[0]}") from None
    torch.backends.cudnn.allow_tf32 = False


@pytest.fixture(scope="session")
def device(request):
    """Where the tests that take it run: `pytest --device cuda`."""
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def accelerator(device):
    """Lightning's name for that device."""
    return "cpu" if device.type == "cpu" else "gpu"


@pytest.fixture(scope="session")
def blobs(tmp_path_factory):
    """A folder of 20 tasks with 6 images each, and a split file that holds out 3 for val and 3 for test."""
    root = tmp_path_factory.mktemp("blobs")
    task_set = Blobs(tasks=20, images=6)
    for task in [f"blob-{i}" for i in range(20)]:
        save_pngs(task_set.images(task), root / "tasks" / task)
    (root / "split.json").write_text(task_set.split.to_json())
    return root


@pytest.fixture(scope="session")
def tiny(blobs):
    """The options of a run that takes a second."""
    return [
        *("--data.task_set", "folder", "--data.root", str(blobs / "tasks")),
        *("--data.split_file", str(blobs / "split.json"), "--data.shots", "2", "--data.queries", "3"),
        *("--data.tasks", "4", "--data.val_tasks", "3", "--data.episodes", "12"),
        *("--model.generator", "VAE", "--model.generator.latent", "2", "--model.generator.widths", "[2, 4]"),
        *("--model.learner", "MAML", "--model.learner.steps", "2", "--model.warmup", "2"),
        *("--trainer.val_check_interval", "4", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--samples.tasks", "2", "--samples.generated", "2"),
    ]


@pytest.fixture
def fit(tiny):
    """Run `metagen fit` here on the tiny options: (run_dir, *more options) -> exit code."""

    def run(run_dir, *options):
        return main(["fit", *tiny, "--run_dir", str(run_dir), *options])

    return run


@pytest.fixture(scope="session")
def exported(tiny, tmp_path_factory):
    """A model that `metagen fit` has trained and exported."""
    folder = tmp_path_factory.mktemp("run")
    assert main(["fit", *tiny, "--run_dir", str(folder)]) == 0
    return folder / "export"


@pytest.fixture
def model():
    """A tiny model that was never trained."""
    torch.manual_seed(0)
    return Model(MAML(tiny_vae(), steps=2, rate=0.01), {})
