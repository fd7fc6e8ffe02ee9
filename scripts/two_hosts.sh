#!/usr/bin/env bash
# Two hosts on one machine: two network namespaces joined by a cable, one torchrun in each, against one process alone.
# Needs root and the ip command of iproute2: sudo bash scripts/two_hosts.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bin="${VENV:-$PWD/.venv}/bin"
runs=$(mktemp -d)
hosts=(metagen-host-0 metagen-host-1)

clean() {
  for host in "${hosts[@]}"; do ip netns delete "$host" 2>/dev/null || true; done
  rm -rf "$runs"
}
trap clean EXIT

for i in 0 1; do ip netns add "${hosts[i]}"; done
ip link add cable0 netns "${hosts[0]}" type veth peer name cable1 netns "${hosts[1]}"
for i in 0 1; do
  ip -n "${hosts[i]}" address add "10.77.0.$((i + 1))/24" dev "cable$i"
  ip -n "${hosts[i]}" link set "cable$i" up
  ip -n "${hosts[i]}" link set lo up
done

options=(fit --data.task_set glyphs --data.shots 2 --data.queries 2 --data.tasks 6 --data.val_tasks 6 --data.episodes 5
  --model.generator VAE --model.generator.latent 2 --model.generator.widths "[4, 8]" --model.warmup 2
  --model.learner MAML --model.learner.steps 2
  --trainer.precision 64-true --trainer.accelerator cpu --trainer.val_check_interval 5
  --trainer.enable_progress_bar false)
export OMP_NUM_THREADS=1

"$bin/metagen" "${options[@]}" --run_dir "$runs/one"
for i in 0 1; do # each host has a disk of its own
  GLOO_SOCKET_IFNAME="cable$i" ip netns exec "${hosts[i]}" "$bin/torchrun" --nnodes 2 --nproc_per_node 1 \
    --node_rank "$i" --master_addr 10.77.0.1 --master_port 29400 -m metagen.cli "${options[@]}" \
    --trainer.strategy ddp --trainer.num_nodes 2 --trainer.devices 1 --run_dir "$runs/host-$i" &
  pids[i]=$!
done
for pid in "${pids[@]}"; do wait "$pid"; done

"$bin/python" - "$runs/one" "$runs/host-0" <<'PYTHON'
import sys
from pathlib import Path

from metagen.training.checkpoints import read_checkpoint

one, two = (read_checkpoint(Path(run, "checkpoints/last.ckpt"))["state_dict"] for run in sys.argv[1:])
apart = max(float((one[name] - two[name]).abs().max()) for name in one)
print(f"two hosts and one process: weights differ by at most {apart:.1e}")
sys.exit(not apart < 1e-9)
PYTHON
