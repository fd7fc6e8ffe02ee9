#!/usr/bin/env bash
# Meta-training on SLURM: sbatch scripts/slurm.sh --config configs/omniglot/redraw.yaml --data.root DIR --run_dir RUN
# Submit it again to go on: a job that its time limit ends leaves a checkpoint, from which the next one continues.
#SBATCH --job-name=metagen
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00
#SBATCH --signal=INT@120 # to the processes: stop after this step, with a checkpoint
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-.}"
bin="${VENV:-$PWD/.venv}/bin"

run_dir=runs/metagen
for ((i = 1; i < $#; i++)); do
  [ "${!i}" != --run_dir ] || { next=$((i + 1)) run_dir=${!next}; }
done
more=()
[ ! -f "$run_dir/checkpoints/last.ckpt" ] || more=(--ckpt_path last)

# Lightning takes ranks and addresses from srun; one task a GPU.
srun "$bin/metagen" fit "$@" "${more[@]}" --trainer.num_nodes "$SLURM_NNODES" \
  --trainer.devices "$SLURM_NTASKS_PER_NODE" --trainer.strategy ddp --trainer.enable_progress_bar false
