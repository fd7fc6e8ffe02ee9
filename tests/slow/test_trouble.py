"""Two processes in trouble stop together, and an export that is killed leaves a whole one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from metagen.learners.model_files import load_model
from tests.test_training import INTERRUPT, assert_same_run

pytestmark = pytest.mark.slow

TWO = ("--trainer.strategy", "ddp", "--trainer.devices", "2")


def test_two_processes_interrupted_and_continued_are_the_two_never_stopped(process, tmp_path):
    process(tmp_path / "whole", *TWO)
    done = process(tmp_path / "parts", *TWO, *INTERRUPT, "6", code=130)
    assert done.stderr.count("metagen: stopped at step 6") == 1
    process(tmp_path / "parts", *TWO, "--ckpt_path", "last")
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_two_processes_stop_together_at_a_bad_image(command, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom metagen.cli import main\nfrom metagen.tasks import task_sets\n"
        "from tests.doubles import BrokenBlobs\n"
        "task_sets._classes['broken'] = BrokenBlobs\nsys.exit(main())\n"
    )
    options = ("--data.task_set", "broken", "--data.root", "null", "--data.split_file", "null", *TWO)
    words = [sys.executable, str(program), *command(tmp_path / "run", *options)[3:]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("metagen: error: ") == 1
    assert "task 'blob-3'" in done.stderr
    assert (tmp_path / "run" / "last-good.ckpt").is_file()


@pytest.mark.parametrize("launcher", ["torchrun", "lightning"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_dead_process_ends_the_job_within_a_minute(command, tmp_path, launcher, victim):
    """Killed without a word, as by a system out of memory."""
    run = tmp_path / "run"
    words = command(run, "--data.episodes", "100000", *TWO)
    if launcher == "torchrun":
        words[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    job = subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)
    try:
        while not (run / "checkpoints" / "last.ckpt").is_file():
            assert job.poll() is None, job.communicate()[1]
            time.sleep(0.1)
        ranks = ranks_of(job.pid)
        assert len(ranks) == 2
        os.kill(ranks[victim], signal.SIGKILL)
        job.communicate(timeout=60)  # until every process that holds the pipe has ended
        assert job.returncode != 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)


def ranks_of(launcher: int) -> list[int]:
    """The processes of a job in the order of their ranks; Lightning's launcher is rank 0 itself."""
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    rank = {pid: _environment(pid).get("LOCAL_RANK") for pid in map(int, children)}
    ranks = sorted((int(rank), pid) for pid, rank in rank.items() if rank is not None)
    return [pid for _, pid in ([] if len(ranks) == 2 else [(0, launcher)]) + ranks]


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


SAVE_FOREVER = """
import sys
from pathlib import Path
from metagen.learners.model_files import load_model, save_model
path = Path(sys.argv[1])
learner, info, _ = load_model(path)
print("ready", flush=True)
while True:
    save_model(path, learner, info, overwrite=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.003, 0.007, 0.011, 0.02])
def test_an_export_that_is_killed_leaves_a_whole_one(process, tmp_path, after):
    process(tmp_path)
    export = tmp_path / "export"
    saving = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(export)], stdout=subprocess.PIPE)
    assert saving.stdout is not None
    assert saving.stdout.readline() == b"ready\n"
    time.sleep(after)
    saving.kill()
    saving.communicate()
    if not export.exists():  # killed between the two renames: the old one stands beside, whole
        old = [path for path in tmp_path.glob(".metagen-*.tmp") if (path / "README.md").is_file()]
        old[0].rename(export)
    load_model(export)
