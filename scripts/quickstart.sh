#!/usr/bin/env bash
# From a fresh clone to a generator of characters it has never seen: about ten minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash scripts/environment.sh
metagen="${VENV:-$PWD/.venv}/bin/metagen"
run=runs/quickstart
"$metagen" fit --config configs/quickstart.yaml --run_dir "$run" --overwrite
"$metagen" evaluate --model "$run/export" --data.queries 14 --baselines true --out "$run/evaluation" --overwrite
cp "$run/evaluation/samples.png" "$run/evaluation/result.json" "$run/"
echo "look at $run/samples.png: support, real images it was not shown, and what it made, one row a character"
