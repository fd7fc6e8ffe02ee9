#!/usr/bin/env bash
# What runs anywhere, on a GPU, in under five minutes: tests, fit, evaluate, adapt and the benchmarks.
#   scripts/test_gpu.sh [DEVICE]      cuda by default; cpu to try the script itself, with hardly anything to do
# $BIN names the folder of a Python that has metagen[dev]; else .venv is made for it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

device="${1:-cuda}"
accelerator=gpu few=20 tasks=16
[ "$device" != cpu ] || accelerator=cpu few=3 tasks=2
[ -n "${BIN:-}" ] || bash scripts/environment.sh dev
python="${BIN:-${VENV:-$PWD/.venv}/bin}/python"
"$python" -c 'import sys, torch; torch.zeros(1, device=sys.argv[1])' "$device" 2>/dev/null ||
  { echo "test_gpu: torch finds no device $device here" >&2 && exit 2; }
runs="$(mktemp -d)"
trap 'rm -rf "$runs"' EXIT
started=$SECONDS
metagen() { "$python" -m metagen.cli "$@"; }
part() { echo && echo "== $1, after $((SECONDS - started)) s"; }

part tests
OMP_NUM_THREADS=1 "$python" -m pytest -q -n auto --maxprocesses 4 --dist worksteal --device "$device" \
  tests/test_devices.py tests/test_generators.py tests/test_learners.py tests/slow/test_device_processes.py

data=(--data.task_set glyphs --data.shots 5)
for precision in 32 bf16-mixed; do
  part "fit in $precision"
  metagen fit "${data[@]}" --data.tasks "$tasks" --data.val_tasks 4 --data.episodes "$few" --run_dir "$runs/$precision" \
    --model.generator VAE --model.learner MAML --trainer.accelerator "$accelerator" --trainer.precision "$precision" \
    --trainer.val_check_interval "$few" --trainer.enable_progress_bar false
done
part evaluate
metagen evaluate --model "$runs/32/export" --limit "$few" --baselines true --out "$runs/card" --trainer.accelerator "$accelerator"
part adapt
"$python" - "$device" <<'PYTHON'
import sys
import time

import torch

import metagen

for name in ("omniglot", "omniglot-redraw"):
    model = metagen.load(name, device=sys.argv[1])
    support = torch.rand(5, 1, 28, 28).round()
    for turn in ("first", "second"):
        started = time.perf_counter()
        made = model.adapt(support).sample(16).cpu()
        print(f"{name}: adapted and sampled {len(made)} images in {time.perf_counter() - started:.2f} s, {turn} time")
PYTHON
part benchmarks
"$python" -m benchmarks.meta_gradients --device "$device" --tasks "$tasks" --repeats 2
"$python" -m benchmarks.learned_optimiser "$runs/32/export" --device "$device" --limit "$few" --tuning 3
"$python" -m benchmarks.metrics --tasks "$few" --features 64 --theirs 1
part done
