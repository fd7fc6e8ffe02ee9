"""`metagen evaluate` in processes of its own: the same figures from any number of them, and from a stopped one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from metagen.learners import Reptile
from metagen.learners.model_files import save_model
from metagen.metrics.extractors import Embedding
from metagen.metrics.extractors.extractor_files import save_extractor
from metagen.storage.images import save_pngs
from metagen.training.episode_data import EpisodeData
from tests.doubles import Blobs, tiny_vae

pytestmark = pytest.mark.slow

TWICE_DIFFERENT = ("seconds", "hardware")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with 7 test tasks, an untrained model and an untrained extractor of them."""
    root = tmp_path_factory.mktemp("evaluate")
    blobs = Blobs(tasks=28)
    for task in [name for part in ("train", "val", "test") for name in blobs.split[part]]:
        save_pngs(blobs.images(task), root / "tasks" / task)
    (root / "split.json").write_text(blobs.split.to_json())
    torch.manual_seed(0)
    data = {"task_set": "folder", "size": 28, "channels": 1, "shots": 2, "queries": 8}
    learner = Reptile(tiny_vae(size=28), steps=1, rate=0.01, test_steps=2)
    seen = EpisodeData("folder", str(root / "tasks"), 28, 1, split_file=str(root / "split.json")).seen
    save_model(root / "export", learner, {"data": data, "training": {"seed": 0}}, blobs.split, seen=seen)
    save_extractor(root / "extractor", Embedding(28, 1, (8, 8, 8), 16), {"data": data}, blobs.split, seen=seen)
    return root


@pytest.fixture
def words(place, monkeypatch):
    """The command line of an evaluation: (out, *more options)."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    options = {"model": "export", "extractor": "extractor", "data.root": "tasks", "data.split_file": "split.json"}
    given = [word for name, value in options.items() for word in (f"--{name}", str(place / value))]
    given += ["--trainer.accelerator", "cpu", "--batch", "3", "--baselines", "true"]

    def line(out, *more):
        return [sys.executable, "-m", "metagen.cli", "evaluate", *given, "--out", str(out), *map(str, more)]

    return line


def figures(out):
    """Every number of a result that does not depend on the machine or the hour, by where it stands."""

    def numbers(thing, where=""):
        pairs = thing.items() if isinstance(thing, dict) else enumerate(thing) if isinstance(thing, list) else ()
        found = {
            w: n
            for key, value in pairs
            if key not in TWICE_DIFFERENT
            for w, n in numbers(value, f"{where}/{key}").items()
        }
        return found if pairs else {where: thing}

    return numbers(json.loads((out / "result.json").read_text()))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return tmp_path_factory.mktemp("alone") / "result"


@pytest.mark.parametrize("launcher", [[], ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]])
@pytest.mark.parametrize("processes", [2, 3])
def test_seven_tasks_are_measured_alike_by_any_number_of_processes(words, tmp_path, alone, processes, launcher):
    if not alone.exists():
        subprocess.run(words(alone), check=True)
    line = words(tmp_path / "many", "--trainer.devices", processes)
    launcher = [str(processes) if word == "2" else word for word in launcher]
    done = subprocess.run([line[0], *launcher, *line[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote result.json") == 1
    assert figures(alone) == figures(tmp_path / "many")  # to the last bit: who is in a batch does not change
    assert figures(alone)["/tasks"] == 7
    assert not (tmp_path / "many.unfinished").exists()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_stopped_evaluation_goes_on_where_it_was(words, tmp_path, end, processes):
    more = ("--curve", str(list(range(0, 400, 40))), "--trainer.devices", processes)
    subprocess.run(words(tmp_path / "whole", *more), check=True)
    job = subprocess.Popen(
        words(tmp_path / "parts", *more),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )
    while not list((tmp_path / "parts.unfinished").glob("tasks-*.safetensors")):
        assert job.poll() is None
        time.sleep(0.01)
    os.killpg(job.pid, end)
    _, said = job.communicate(timeout=60)
    assert not (tmp_path / "parts").exists()
    if end == signal.SIGINT:
        assert job.returncode == 130
        assert said == "metagen: stopped before the end; the same command goes on from here\n"
    done = subprocess.run(words(tmp_path / "parts", *more), capture_output=True, text=True, check=True)
    assert "batches of tasks were measured before" in done.stdout
    assert figures(tmp_path / "parts") == figures(tmp_path / "whole")


@pytest.mark.parametrize("victim", ["blob-21", "blob-25"])  # the first process's, and the second one's
def test_a_bad_image_on_one_process_ends_both_with_one_line(words, place, tmp_path, victim):
    shutil.copytree(place / "tasks", tmp_path / "tasks")
    for image in (tmp_path / "tasks" / victim).iterdir():
        image.write_bytes(b"no image")
    line = words(tmp_path / "out", "--trainer.devices", 2, "--data.root", tmp_path / "tasks")
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert victim in done.stderr
