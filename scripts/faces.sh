#!/usr/bin/env bash
# Is a meta-learned VAE better than a plain one on people it never saw? bash scripts/faces.sh DIR, where DIR holds one
# folder of photographs a person, 9 or more each: figures in runs/faces-vae-*/evaluation/result.json. Some half an hour
# on two cores; what is there already is not made again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$(realpath "${1:?name the folder that holds one folder of photographs a person}")
metagen="${VENV:-$PWD/.venv}/bin/metagen"
data="--data.task_set folder --data.root $root --data.size 32 --data.channels 3 --data.min_images 9"

[ -d runs/faces-report ] || "$metagen" train-extractor $data --out runs/faces-report --steps 1500
fit() { [ -d "runs/$1/export" ] || "$metagen" fit --config "configs/$1.yaml" $data --overwrite "${@:2}"; }
fit faces-vae-joint
fit faces-vae-maml
for model in faces-vae-joint faces-vae-maml; do
  out=runs/$model/evaluation
  [ -f "$out/result.json" ] || "$metagen" evaluate --model "runs/$model/export" $data --data.shots 5 --data.queries 4 \
    --limit null --extractor runs/faces-report --joint runs/faces-vae-joint/export --out "$out"
done
"$metagen" compare runs/faces-vae-joint runs/faces-vae-maml
